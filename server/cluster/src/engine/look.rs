//! A look at who waits, for people who ask why somebody is not matched.

use redis::Value;

use super::{Call, CallError, Engine};
use crate::id::{POOL_BYTES, TicketId};
use crate::scripts::{Stands, bytes};

/// Bytes of an entry of a pool: since when, and the ticket.
const ENTRY: usize = 20;

/// Who stands in a pool, of all nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolSeen {
    /// How many.
    pub waiting: usize,
    /// The first of them, the oldest first.
    pub first: Vec<Stands>,
}

impl Engine {
    /// Who stands in these pools: how many, and the first `most` of each. Nothing is changed.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn look(&self, pools: &[[u8; POOL_BYTES]], most: usize) -> Call<Vec<PoolSeen>> {
        let names: Vec<&[u8]> = pools.iter().map(<[u8; POOL_BYTES]>::as_slice).collect();
        let queues = self.fields(&self.scripts().pools, &names).await?;
        let mut seen = Vec::with_capacity(queues.len());
        for queue in queues {
            let queue = queue.unwrap_or_default();
            let entries = queue.chunks_exact(ENTRY);
            let waiting = entries.len();
            let tickets: Vec<TicketId> = entries
                .take(most)
                .filter_map(|entry| TicketId::from_slice(entry.get(8..)?))
                .collect();
            let names: Vec<&[u8]> = tickets.iter().map(|ticket| ticket.0.as_slice()).collect();
            let records = self.fields(&self.scripts().tickets, &names).await?;
            let first = tickets.into_iter().zip(records);
            let first = first.filter_map(|(ticket, record)| Stands::read(ticket, &record?));
            seen.push(PoolSeen {
                waiting,
                first: first.collect(),
            });
        }
        Ok(seen)
    }

    /// Fields of a hash.
    async fn fields(&self, key: &[u8], names: &[&[u8]]) -> Call<Vec<Option<Vec<u8>>>> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let cmd = redis::cmd("HMGET").arg(key).arg(names).to_owned();
        let Value::Array(values) = self.command("look", &cmd).await? else {
            return Err(CallError::Strange);
        };
        Ok(values
            .iter()
            .map(|value| bytes(value).map(<[u8]>::to_vec))
            .collect())
    }
}
