//! A few connections to one database.
//!
//! Not sqlx's pool: that takes back a connection whose query was given up, and then waits for a server that may never answer.
//! Here a connection that was not given back after its work is dropped, so that its user may be cancelled anywhere.

use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::{ConnectOptions, Connection};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout};

use super::{Answered, StoreError};

/// No call takes longer. A stopped server accepts connections and never greets: its kernel does.
pub(super) const DEADLINE: Duration = Duration::from_secs(10);

/// A connection that has rested longer is asked whether it is still there: the server may have been restarted.
const RESTED: Duration = Duration::from_secs(1);

/// The work with a deadline.
pub(super) fn answered<'a, T: 'a>(
    work: impl Future<Output = Result<T, StoreError>> + Send + 'a,
) -> Answered<'a, T> {
    Box::pin(async move { within(DEADLINE, work).await })
}

/// What the work says, or that there was no answer in time.
pub(super) async fn within<T>(
    time: Duration,
    work: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    timeout(time, work).await.unwrap_or_else(|_| {
        let seconds = time.as_secs();
        Err(StoreError::Temporary(format!("no answer in {seconds} s")))
    })
}

pub(super) struct Connections<O: ConnectOptions<Connection: Sized>> {
    options: O,
    /// Said on each new connection.
    greeting: fn(&mut O::Connection) -> Answered<'_, ()>,
    idle: Mutex<Vec<(O::Connection, Instant)>>,
    permits: Semaphore,
}

impl<O: ConnectOptions<Connection: Sized>> Connections<O> {
    pub(super) fn new(
        options: O,
        most: usize,
        greeting: fn(&mut O::Connection) -> Answered<'_, ()>,
    ) -> Self {
        Self {
            options,
            greeting,
            idle: Mutex::default(),
            permits: Semaphore::new(most),
        }
    }

    /// A connection that works, as far as one can know.
    pub(super) async fn take(&self) -> Result<Taken<'_, O>, StoreError> {
        let permit = self.permits.acquire().await;
        let permit = permit.map_err(|_| StoreError::Temporary("closed".to_owned()))?;
        let taken = |connection| Taken {
            connection,
            home: self,
            _permit: permit,
        };
        let idle = self.idle().pop();
        if let Some((mut connection, since)) = idle {
            if since.elapsed() < RESTED || connection.ping().await.is_ok() {
                return Ok(taken(connection));
            }
            self.idle().clear();
        }
        let mut connection = self.options.connect().await?;
        (self.greeting)(&mut connection).await?;
        Ok(taken(connection))
    }

    fn idle(&self) -> MutexGuard<'_, Vec<(O::Connection, Instant)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection on loan. Dropped without [`give_back`](Self::give_back) it is closed.
pub(super) struct Taken<'a, O: ConnectOptions<Connection: Sized>> {
    pub(super) connection: O::Connection,
    home: &'a Connections<O>,
    _permit: SemaphorePermit<'a>,
}

impl<O: ConnectOptions<Connection: Sized>> Taken<'_, O> {
    pub(super) fn give_back(self) {
        self.home.idle().push((self.connection, Instant::now()));
    }
}
