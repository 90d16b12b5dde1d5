//! What happens when connections use too much memory together: those that use the most are closed.

use std::{cmp::Reverse, time::Duration};

use tokio::time::sleep;
use voicematch_protocol::CloseReason;

use crate::admission::make_room::MakeRoom;
use voicematch_core::session::Context;

/// Time for closed connections to give their memory back.
const PAUSE: Duration = Duration::from_millis(20);

/// Watches the memory for ever.
pub async fn watch(context: &Context, make_room: &MakeRoom) {
    loop {
        context.memory.exceeded().await;
        make_room.ask();
        shed(context);
        sleep(PAUSE).await;
    }
}

fn shed(context: &Context) {
    let members = context.directory.members().into_iter();
    let open = members.filter(|member| member.outbox.status().closing.is_none());
    let mut users: Vec<_> = open
        .map(|member| (member.outbox.memory().bytes(), member))
        .collect();
    let mut used: usize = users.iter().map(|(bytes, _)| bytes).sum();
    let limit = context.memory.limit();
    // The rest belongs to connections without a session. They are asked to make room, and new ones are refused.
    let rest = context.memory.used().saturating_sub(used);
    if used <= limit / 2 || used + rest <= limit {
        return;
    }
    users.sort_unstable_by_key(|(bytes, _)| Reverse(*bytes));
    for (bytes, member) in users {
        // Some more than needed, so that the next message does not begin it again.
        if used + rest <= limit / 8 * 7 || used <= limit / 2 {
            break;
        }
        used -= bytes;
        context.metrics.limit_hit("max_buffered_bytes");
        member.outbox.abandon(CloseReason::MemoryLimit);
    }
}
