//! The scripts as typed calls.

use std::time::{Duration, Instant};

use redis::Value;

use super::{Call, CallError, Engine, lock};
use crate::id::NodeId;
use crate::scripts::{Answer, BeatReply, Op, Script, bytes, op_args, read_answer, read_beat};

fn concat(nodes: &[NodeId]) -> Vec<u8> {
    nodes.iter().flat_map(|node| node.0).collect()
}

impl Engine {
    /// Up to 64 operations of one node, one after the other, atomically. Tickets of `dead` nodes are dropped where they
    /// are met, those of `suspects` are passed over. `beat` is the number of the node's last one.
    ///
    /// # Errors
    /// `Stale` if the node is buried, or two later beats of it have come first: a connection that was given up may still
    /// deliver the call, when nobody waits for its answer. If there is no answer, whether it was done is not known.
    pub async fn seek(
        &self,
        me: NodeId,
        beat: u64,
        dead: &[NodeId],
        suspects: &[NodeId],
        ops: &[Op],
    ) -> Call<Vec<Answer>> {
        let (dead, suspects) = (concat(dead), concat(suspects));
        let mut args: Vec<Vec<u8>> = Vec::with_capacity(4 + ops.len() * 5);
        args.extend([me.0.to_vec(), beat.to_string().into_bytes(), dead, suspects]);
        for op in ops {
            args.extend(op_args(op));
        }
        let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
        let scripts = self.scripts();
        let keys: [&[u8]; 3] = [&scripts.tickets, &scripts.pools, &scripts.nodes];
        let answers = match self.script(Script::Seek, &keys, &args).await? {
            Value::Array(answers) => answers,
            Value::SimpleString(word) if word == "STALE" => {
                let calls = &self.metrics().calls;
                calls.with_label_values(&["seek", "stale"]).inc();
                return Err(CallError::Stale);
            }
            _ => return Err(CallError::Strange),
        };
        if answers.len() != ops.len() {
            return Err(CallError::Strange);
        }
        let read = |(op, answer): (&Op, &Value)| {
            bytes(answer)
                .and_then(|answer| read_answer(op, answer))
                .ok_or(CallError::Strange)
        };
        ops.iter().zip(&answers).map(read).collect()
    }

    /// This node lives. `info` is for the others; `fresh` becomes the generation if there is none.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn beat(
        &self,
        me: NodeId,
        number: u64,
        info: &str,
        fresh: [u8; 8],
    ) -> Call<BeatReply> {
        let number = number.to_string();
        let args: [&[u8]; 4] = [&me.0, number.as_bytes(), info.as_bytes(), &fresh];
        let sent = Instant::now();
        let answer = self
            .script(Script::Beat, &[&self.scripts().nodes], &args)
            .await;
        match &answer {
            Ok(_) => {
                lock(&self.shared.health).registered(sent);
                self.shared.tell();
            }
            Err(CallError::Refused(why)) => self.cannot_register(why.clone()),
            // Time tells.
            Err(_) => {}
        }
        read_beat(answer?).ok_or(CallError::Strange)
    }

    /// Declares a node dead, if nothing has changed since `value` and `generation` were read. An empty `value`: it had no
    /// entry. `mark` begins with `x`.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn bury(
        &self,
        node: NodeId,
        value: &[u8],
        generation: &[u8],
        mark: &str,
    ) -> Call<bool> {
        let args: [&[u8]; 4] = [&node.0, value, generation, mark.as_bytes()];
        match self
            .script(Script::Bury, &[&self.scripts().nodes], &args)
            .await?
        {
            Value::Int(done) => Ok(done == 1),
            _ => Err(CallError::Strange),
        }
    }

    /// Forgets the mark of a dead node.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn forget(&self, node: NodeId) -> Call<()> {
        let cmd = redis::cmd("HDEL")
            .arg(&self.scripts().nodes)
            .arg(&node.0)
            .to_owned();
        self.command("forget", &cmd).await.map(drop)
    }

    /// The home node and the id of a named room: this node, with `fresh`, if the name is free; this node, with the id that
    /// it had, if its home is dead. Holds for `lives`, and is renewed if this node is its home.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn room(
        &self,
        name: &[u8],
        me: NodeId,
        fresh: [u8; 8],
        dead: &[NodeId],
        lives: Duration,
    ) -> Call<(NodeId, [u8; 8])> {
        let lives = millis(lives);
        let args: [&[u8]; 4] = [&me.0, &fresh, &concat(dead), lives.as_bytes()];
        let answer = self
            .script(Script::Room, &[&self.scripts().key('r', name)], &args)
            .await?;
        let read = bytes(&answer).and_then(|answer| answer.split_first_chunk::<8>());
        let (home, room) = read.ok_or(CallError::Strange)?;
        Ok((
            NodeId(*home),
            room.try_into().map_err(|_| CallError::Strange)?,
        ))
    }

    /// The named room has ended: its name is free at once, if this node is its home.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn give_up_room(&self, name: &[u8], me: NodeId) -> Call<()> {
        let args: [&[u8]; 4] = [&me.0, &[0; 8], &[], b"0"];
        let key = self.scripts().key('r', name);
        self.script(Script::Room, &[&key], &args).await.map(drop)
    }

    /// Writes a value that lives for so long; `kind` is a letter of the layout: `s` where a session is, `j` seats.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn keep(&self, kind: char, name: &[u8], value: &[u8], lives: Duration) -> Call<()> {
        let lives = millis(lives);
        let args: [&[u8]; 3] = [value, lives.as_bytes(), b"set"];
        self.script(Script::Keep, &[&self.scripts().key(kind, name)], &args)
            .await
            .map(drop)
    }

    /// Writes a value that lives for so long, or for good, unless there is one, and gives what is there: the key that all
    /// nodes share, or who is in the other seat.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn keep_first(
        &self,
        kind: char,
        name: &[u8],
        value: &[u8],
        lives: Option<Duration>,
    ) -> Call<Vec<u8>> {
        let lives = lives.map_or("0".to_owned(), millis);
        let args: [&[u8]; 3] = [value, lives.as_bytes(), b"first"];
        let answer = self
            .script(Script::Keep, &[&self.scripts().key(kind, name)], &args)
            .await?;
        bytes(&answer).map(<[u8]>::to_vec).ok_or(CallError::Strange)
    }

    /// What `keep` has written, as long as it lives.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn kept(&self, kind: char, name: &[u8]) -> Call<Option<Vec<u8>>> {
        let cmd = redis::cmd("GET")
            .arg(self.scripts().key(kind, name))
            .to_owned();
        match self.command("get", &cmd).await? {
            Value::Nil => Ok(None),
            Value::BulkString(value) => Ok(Some(value)),
            _ => Err(CallError::Strange),
        }
    }
}

/// At least one: a key without a time to live would stay.
fn millis(time: Duration) -> String {
    time.as_millis().max(1).to_string()
}
