//! Making the connections: up means that a message came back to who published it.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster_async::ClusterConnection;
use redis::{
    AsyncConnectionConfig, Cmd, ConnectionAddr, ErrorKind, Pipeline, PushInfo, PushKind,
    RedisError, RedisFuture, Value,
};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{Message, Shared, Trouble, address, lock, refusals};
use crate::frames;
use crate::id::NodeId;
use crate::settings::{SettingsError, Topology};

/// Each step of connecting. Longer than a call: an engine slow by 500 ms still relays.
pub(super) const STEP: Duration = Duration::from_secs(2);

/// Where commands go.
#[derive(Clone)]
pub(crate) enum Commands {
    Single(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl std::fmt::Debug for Commands {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Commands")
    }
}

impl ConnectionLike for Commands {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Single(connection) => connection.req_packed_command(cmd),
            Self::Cluster(connection) => connection.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipe: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Single(connection) => connection.req_packed_commands(pipe, offset, count),
            Self::Cluster(connection) => connection.req_packed_commands(pipe, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        0
    }
}

/// One command. The connection gives the engine's errors as values; here they are errors.
pub(super) async fn ask(
    connection: &mut impl ConnectionLike,
    cmd: &Cmd,
) -> Result<Value, RedisError> {
    connection.req_packed_command(cmd).await?.extract_error()
}

/// Both connections, and what goes wrong with them.
pub(super) struct Session {
    pub(super) commands: Commands,
    /// Nothing is sent on them but `SSUBSCRIBE`: an unexpected `sunsubscribe` would be taken for an answer.
    pub(super) _bus: Vec<MultiplexedConnection>,
    pub(super) node: NodeId,
    pub(super) trouble: mpsc::Receiver<Trouble>,
    pub(super) report: mpsc::Sender<Trouble>,
    pub(super) probes: mpsc::Receiver<u64>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error("{}", refusals::words(.0))]
    Redis(#[from] RedisError),
    #[error("{0} was not answered in time")]
    Silent(&'static str),
    #[error("the engine is a replica")]
    Role,
    #[error("the primary's name is not known there")]
    Unnamed,
}

impl ConnectError {
    pub(super) fn trouble(&self) -> Trouble {
        match self {
            Self::Silent(_) => Trouble::Timeout,
            Self::Role => Trouble::Role,
            Self::Settings(_) | Self::Unnamed => Trouble::Refused,
            Self::Redis(error) => match error.kind() {
                ErrorKind::Io => Trouble::Closed,
                _ => Trouble::Refused,
            },
        }
    }
}

pub(super) async fn step<T>(
    name: &'static str,
    doing: impl Future<Output = Result<T, RedisError>>,
) -> Result<T, ConnectError> {
    Ok(timeout(STEP, doing)
        .await
        .map_err(|_| ConnectError::Silent(name))??)
}

/// Connects, loads the scripts and subscribes; the supervisor waits for the first probe.
pub(super) async fn connect(shared: &Arc<Shared>) -> Result<Session, ConnectError> {
    let node = *lock(&shared.node);
    let (report, trouble) = mpsc::channel(16);
    let (came_back, probes) = mpsc::channel(16);
    let pushes = Pushes {
        shared: Arc::downgrade(shared),
        control: shared.scripts.control.clone(),
        report: report.clone(),
        came_back,
    };
    let (mut commands, mut bus) = both(shared, &pushes, node).await?;
    // In a Redis Cluster `SCRIPT LOAD` would need all primaries, also those that just die: there a script is loaded by its first call.
    let scripts = match &commands {
        Commands::Single(_) => shared.scripts.all(),
        Commands::Cluster(_) => &[],
    };
    for body in scripts {
        let load = super::load(body.text);
        let began = Instant::now();
        step("SCRIPT LOAD", ask(&mut commands, &load)).await?;
        lock(&shared.health).answered(began.elapsed(), shared.settings.call);
    }
    if let [bus] = &mut bus[..] {
        for channel in [&shared.scripts.inbox(node), &shared.scripts.control] {
            let subscribe = redis::cmd("SSUBSCRIBE").arg(channel).to_owned();
            step("SSUBSCRIBE", ask(bus, &subscribe)).await?;
        }
    }
    Ok(Session {
        commands,
        _bus: bus,
        node,
        trouble,
        report,
        probes,
    })
}

/// One connection for commands, and one or more for messages: of a Redis Cluster two, which have subscribed.
async fn both(
    shared: &Shared,
    pushes: &Pushes,
    node: NodeId,
) -> Result<(Commands, Vec<MultiplexedConnection>), ConnectError> {
    if shared.settings.engine == Topology::Cluster {
        let commands = Commands::Cluster(address::cluster(&shared.settings).await?);
        let inbox = address::subscribed(shared, &shared.scripts.inbox(node), pushes).await?;
        let control = address::subscribed(shared, &shared.scripts.control, pushes).await?;
        return Ok((commands, vec![inbox, control]));
    }
    let address = address::primary(&shared.settings).await?;
    let commands = open(shared, &address, pushes.clone()).await?;
    let mut bus = open(shared, &address, pushes.clone()).await?;
    let role = step("ROLE", ask(&mut bus, &redis::cmd("ROLE"))).await?;
    if !is_primary(&role) {
        return Err(ConnectError::Role);
    }
    Ok((Commands::Single(commands), vec![bus]))
}

pub(super) async fn open(
    shared: &Shared,
    address: &ConnectionAddr,
    pushes: Pushes,
) -> Result<MultiplexedConnection, ConnectError> {
    let client = shared.settings.client(address)?;
    // The time-outs are ours, around each call.
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(None)
        .set_response_timeout(None)
        .set_push_sender(move |push| {
            pushes.take(push);
            Ok::<_, std::convert::Infallible>(())
        });
    step(
        "connecting",
        client.get_multiplexed_async_connection_with_config(&config),
    )
    .await
}

/// What `ROLE` says.
pub(super) fn is_primary(role: &Value) -> bool {
    let Value::Array(role) = role else {
        return false;
    };
    matches!(role.first(), Some(Value::BulkString(name)) if name == b"master")
}

/// What becomes of what the engine says unasked.
#[derive(Clone)]
pub(super) struct Pushes {
    shared: Weak<Shared>,
    control: Vec<u8>,
    report: mpsc::Sender<Trouble>,
    came_back: mpsc::Sender<u64>,
}

impl Pushes {
    fn take(&self, push: PushInfo) {
        match push.kind {
            PushKind::SMessage => {
                let Some(shared) = self.shared.upgrade() else {
                    return;
                };
                let mut data = push.data.into_iter();
                let (Some(Value::BulkString(channel)), Some(Value::BulkString(bytes))) =
                    (data.next(), data.next())
                else {
                    return shared.metrics.dropped.with_label_values(&["garbage"]).inc();
                };
                if let Some(probe) = frames::probe(&bytes) {
                    // Full: the supervisor has enough of them.
                    let _ = self.came_back.try_send(probe);
                } else {
                    shared.receive(Message {
                        control: channel == self.control,
                        bytes,
                    });
                }
            }
            // Full, here and below: there is trouble already.
            PushKind::Disconnection => {
                let _ = self.report.try_send(Trouble::Closed);
            }
            PushKind::SUnsubscribe => {
                let _ = self.report.try_send(Trouble::Role);
            }
            _ => {}
        }
    }
}
