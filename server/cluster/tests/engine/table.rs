//! One node's view of the engine's index, operation by operation.

use std::time::Duration;

use redis::Value;
use voicematch_cluster::{Answer, NodeId, Op, POOL_BYTES, TicketId, Wish};

use crate::server::Server;
use crate::support::{Connected, node};

pub(crate) fn pool(level: u8, name: u8) -> [u8; POOL_BYTES] {
    let mut pool = [name; POOL_BYTES];
    pool[0] = level;
    pool
}

pub(crate) fn session(user: u8) -> [u8; 8] {
    [user; 8]
}

pub(crate) fn ticket(user: u8) -> TicketId {
    TicketId::new(session(user), 1)
}

pub(crate) fn person(user: u8) -> [u8; 8] {
    [user | 0x80; 8]
}

pub(crate) fn wish(user: u8, pools: &[[u8; POOL_BYTES]], avoided: &[[u8; 8]]) -> Wish {
    Wish::new(ticket(user), person(user), avoided, pools).expect("a wish")
}

pub(crate) fn seek(wish: Wish, waited: u64) -> Op {
    Op::Seek {
        wish,
        waited: Duration::from_secs(waited),
    }
}

pub(crate) struct Table {
    pub(crate) server: Server,
    pub(crate) one: Connected,
}

impl Table {
    pub(crate) async fn new() -> Self {
        let server = Server::start().await;
        let one = Connected::up(server.patient()).await;
        Self { server, one }
    }

    pub(crate) async fn ops(
        &self,
        number: u8,
        dead: &[NodeId],
        suspects: &[NodeId],
        ops: &[Op],
    ) -> Vec<Answer> {
        self.one
            .engine
            .seek(node(number), 1, dead, suspects, ops)
            .await
            .expect("answered")
    }

    pub(crate) async fn op(&self, op: Op) -> Answer {
        self.ops(1, &[], &[], &[op]).await[0]
    }

    /// Whom a user finds, who looks for anyone.
    pub(crate) async fn finds(&self, op: Op) -> Option<u8> {
        found(self.op(op).await)
    }

    /// Records and pools in the engine.
    pub(crate) async fn sizes(&self) -> (i64, i64) {
        let length =
            async |name: &str| match self.server.ask(&format!("HLEN {{vm:m}}:1:{name}")).await {
                Ok(Value::Int(length)) => length,
                other => panic!("{other:?}"),
            };
        (length("t").await, length("p").await)
    }
}

pub(crate) fn found(answer: Answer) -> Option<u8> {
    match answer {
        Answer::Posted => None,
        Answer::Found(found) => Some(found.ticket.session()[0]),
        other => panic!("{other:?}"),
    }
}

pub(crate) const ANYONE: u8 = 3;

pub(crate) fn anyone(user: u8) -> Wish {
    wish(user, &[pool(ANYONE, 0)], &[])
}
