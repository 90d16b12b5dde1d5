//! Whom users of all nodes have blocked. What users of one node say is written to the engine, which counts the time; the others
//! are told that there is something new, and read it. The engine may lose it: then who knows says it again.

use std::{
    collections::{HashSet, VecDeque},
    time::{Duration, Instant},
};

use tokio::time::{sleep, timeout};
use voicematch_cluster::{BlocksRead, CallError, Engine, KeptApart, MostBlocks};
use voicematch_core::{
    blocks::{MAX_OF_ONE, REMEMBERED_FOR, Told},
    cluster,
    session::Context,
};

use super::{
    Node,
    desk::Todo,
    running::{Part, TICK},
};

/// Blocks that wait to be written. With more, what the engine does not know is found by reading all that it knows.
pub(super) const WAITING: usize = 10_000;

/// Between two calls: who tells of changes too often does not flood the engine, nor do all who have much to say again.
const PAUSE: Duration = Duration::from_millis(50);

/// Blocks in one call.
const CALL: usize = 100;

/// Who has not heard that there is something new finds it after this time.
const LOOK: Duration = Duration::from_secs(30);

/// Who has blocked whom, and when.
pub(super) type Made = (u64, u64, Instant);

impl cluster::Blocks for Node {
    fn tell(&self, by: u64, of: u64) {
        self.blocks.say((by, of, Instant::now()));
    }
}

/// How far this node is.
#[derive(Default)]
struct Reader {
    read: BlocksRead,
    /// There is more to read.
    more: bool,
    /// What the engine knows, while all of it is read once more.
    known: Option<HashSet<(u64, u64)>>,
    /// What it does not, and is to be told.
    missing: VecDeque<Told>,
}

impl Reader {
    fn begin_again(&mut self) {
        *self = Self {
            more: true,
            known: Some(HashSet::new()),
            ..Self::default()
        };
    }

    fn is_done(&self) -> bool {
        !self.more && self.missing.is_empty()
    }
}

impl Part {
    /// Does not return.
    pub(super) async fn keep_blocks(&self, engine: &Engine) {
        let desk = &self.node.blocks;
        let (mut state, mut reader) = (engine.state(), Reader::default());
        // What was said here before this node had joined, and what the others know.
        desk.say_again();
        loop {
            if timeout(LOOK, desk.woken()).await.is_err() {
                desk.read();
            }
            while state.wait_for(|state| state.index).await.is_ok() {
                let todo = desk.take();
                if todo.is_nothing() && reader.is_done() {
                    break;
                }
                let Some(context) = self.context.upgrade() else {
                    return;
                };
                if self
                    .one_step(engine, &context, todo, &mut reader)
                    .await
                    .is_err()
                {
                    sleep(TICK).await;
                }
                sleep(PAUSE).await;
            }
        }
    }

    /// Writes some and reads some, in two calls or three.
    async fn one_step(
        &self,
        engine: &Engine,
        context: &Context,
        todo: Todo<Made>,
        reader: &mut Reader,
    ) -> Result<(), CallError> {
        if todo.again {
            reader.begin_again();
        }
        reader.more |= todo.read;
        let write: Vec<KeptApart> = todo.words.iter().map(|made| new(*made)).collect();
        if let Err(error) = self.write(engine, context, &write).await {
            self.node.blocks.put_back(todo);
            return Err(error);
        }
        if reader.more {
            read(engine, context, reader).await?;
        }
        let next: Vec<Told> = reader.missing.iter().take(CALL).copied().collect();
        let again: Vec<KeptApart> = next.iter().map(again).collect();
        self.write(engine, context, &again).await?;
        reader.missing.drain(..next.len());
        Ok(())
    }

    async fn write(
        &self,
        engine: &Engine,
        context: &Context,
        blocks: &[KeptApart],
    ) -> Result<(), CallError> {
        if blocks.is_empty() {
            return Ok(());
        }
        let most = MostBlocks {
            of_all: context.shared.blocks.max(),
            of_one: MAX_OF_ONE,
        };
        let taken = engine.write_blocks(blocks, most, rand::random()).await?;
        if let (true, Some(joined)) = (taken > 0, self.node.joined.get()) {
            joined.bus.tell_blocks();
        }
        Ok(())
    }
}

/// Takes over some of what other nodes have said. When all has been read, it is known what the engine does not know.
async fn read(engine: &Engine, context: &Context, reader: &mut Reader) -> Result<(), CallError> {
    let some = engine.read_blocks(&reader.read).await?;
    if some.anew {
        reader.begin_again();
    }
    let now = Instant::now();
    for block in &some.blocks {
        let [by, of] = [block.by, block.of].map(u64::from_be_bytes);
        let left = block.left;
        context.shared.hear_block(&Told { by, of, left }, now);
        if let Some(known) = &mut reader.known {
            known.insert((by, of));
        }
    }
    (reader.read, reader.more) = (some.read, some.more);
    if !reader.more
        && let Some(known) = reader.known.take()
    {
        let all = context.shared.blocks.to_tell(now).into_iter();
        let missing = all.filter(|block| !known.contains(&(block.by, block.of)));
        reader.missing = missing.collect();
        tracing::debug!(
            known = known.len(),
            missing = reader.missing.len(),
            "blocks"
        );
    }
    Ok(())
}

fn new((by, of, at): Made) -> KeptApart {
    KeptApart {
        by: by.to_be_bytes(),
        of: of.to_be_bytes(),
        left: REMEMBERED_FOR.saturating_sub(at.elapsed()),
        again: false,
    }
}

fn again(told: &Told) -> KeptApart {
    KeptApart {
        by: told.by.to_be_bytes(),
        of: told.of.to_be_bytes(),
        left: told.left,
        again: true,
    }
}
