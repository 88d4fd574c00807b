//! The stream in Redis: reading with its consumer group, and settling what has been dealt with.

use std::time::Duration;

use redis::{RedisError, Value, cmd, from_redis_value, pipe};

use super::BLOCK;
use super::IngestSettings;
use super::entry::Fields;
use super::rejects::Reject;
use crate::link::Link;

const GROUP: &str = "gateway";
/// One for all nodes, so that each begins with what the one before left pending.
const CONSUMER: &str = "gateway";

/// An entry as it was read; without fields when somebody deleted it after it was handed out.
pub(super) type Stored = (String, Option<Fields>);

/// What XREADGROUP replies for each stream: its key and its entries.
type Reply = Option<Vec<(String, Vec<Stored>)>>;

/// What to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// What was handed out and not acknowledged.
    Pending,
    /// What is new, if nothing is pending.
    New,
}

/// Entries, and whether they were pending; then more of them may be, and come before anything new.
pub(super) type Read = (Next, Vec<Stored>);

impl Next {
    /// Also before what is new the pending ones are asked for: a node whose lease ran out unnoticed may have read on.
    fn ids(self, behind: &str) -> Vec<&str> {
        match self {
            Self::Pending => vec![behind],
            Self::New => vec![behind, ">"],
        }
    }
}

/// See the module. Clones share their connections.
#[derive(Clone)]
pub(super) struct Stream {
    commands: Link,
    waiting: Link,
    key: String,
    rejected: String,
    /// `ingest.rejected`.
    keep: usize,
    /// Bytes of one rejected entry.
    reject_bytes: usize,
}

impl Stream {
    pub(super) fn new(commands: Link, waiting: Link, settings: &IngestSettings) -> Self {
        let key = format!("{}:ingest", settings.prefix);
        let rejected = format!("{key}:rejected");
        Self { commands, waiting, key, rejected, keep: settings.rejected, reject_bytes: settings.event_bytes * 2 }
    }

    pub(super) fn rejected(&self) -> &str {
        &self.rejected
    }

    /// Puts bad entries aside, and says of each whether it is. Only then may it be acknowledged.
    pub(super) async fn put_aside(&self, rejects: &[Reject]) -> Result<Vec<Result<Value, RedisError>>, RedisError> {
        if rejects.is_empty() {
            return Ok(Vec::new());
        }
        let mut put = pipe();
        put.ignore_errors();
        for reject in rejects {
            put.add_command(reject.keep(&self.rejected, self.keep, self.reject_bytes));
        }
        put.query_async(&mut self.commands.clone()).await
    }

    /// Acknowledges and deletes what is done and reads what comes next, all at once; of what is pending only what is
    /// behind an entry. None when the group had to be made.
    pub(super) async fn turn(
        &self,
        done: &[String],
        next: Next,
        behind: &str,
        count: usize,
    ) -> Result<Option<Read>, RedisError> {
        let ids = next.ids(behind);
        let mut turn = pipe();
        turn.atomic().ignore_errors();
        if !done.is_empty() {
            turn.cmd("XACK").arg(&self.key).arg(GROUP).arg(done);
            turn.cmd("XDEL").arg(&self.key).arg(done);
        }
        for from in &ids {
            turn.cmd("XREADGROUP").arg("GROUP").arg(GROUP).arg(CONSUMER).arg("COUNT").arg(count);
            turn.arg("STREAMS").arg(&self.key).arg(from);
        }
        let mut replies: Vec<Result<Value, RedisError>> = turn.query_async(&mut self.commands.clone()).await?;
        let reads = replies.split_off(replies.len().saturating_sub(ids.len()));
        replies.into_iter().collect::<Result<Vec<Value>, _>>()?;
        match reads.into_iter().map(|reply| entries(reply?)).collect::<Result<Vec<_>, _>>() {
            Err(error) if error.code() == Some("NOGROUP") => self.make_group().await.map(|()| None),
            reads => Ok(Some(first(reads?))),
        }
    }

    /// The group begins with the first entry there is, which may be older than the group.
    async fn make_group(&self) -> Result<(), RedisError> {
        let mut make = cmd("XGROUP");
        make.arg("CREATE").arg(&self.key).arg(GROUP).arg("0").arg("MKSTREAM");
        match make.query_async::<()>(&mut self.commands.clone()).await {
            Err(error) if error.code() != Some("BUSYGROUP") => Err(error),
            Err(_) | Ok(()) => Ok(()),
        }
    }

    /// Waits until there is an entry behind `from`, at most so long, and says whether there is. Takes nothing.
    pub(super) async fn wait(&self, from: &str, longest: Duration) -> Result<bool, RedisError> {
        let mut wait = cmd("XREAD");
        wait.arg("COUNT")
            .arg(1)
            .arg("BLOCK")
            .arg(u64::try_from(longest.min(BLOCK).as_millis()).unwrap_or(u64::MAX).max(1));
        wait.arg("STREAMS").arg(&self.key).arg(from);
        wait.query_async::<Value>(&mut self.waiting.clone()).await.map(|reply| reply != Value::Nil)
    }

    /// How many entries wait, and how many are kept of those rejected, each where its key is a stream.
    pub(super) async fn lengths(&self) -> Result<(Result<u64, RedisError>, Result<u64, RedisError>), RedisError> {
        let mut ask = pipe();
        ask.ignore_errors().cmd("XLEN").arg(&self.key).cmd("XLEN").arg(&self.rejected);
        ask.query_async(&mut self.commands.clone()).await
    }
}

/// What is new has become pending too: where something is pending before it, it is read again in its turn.
fn first(reads: Vec<Vec<Stored>>) -> Read {
    let mut reads = reads.into_iter();
    let (pending, new) = (reads.next().unwrap_or_default(), reads.next().unwrap_or_default());
    if pending.is_empty() { (Next::New, new) } else { (Next::Pending, pending) }
}

fn entries(reply: Value) -> Result<Vec<Stored>, RedisError> {
    let reply: Reply = from_redis_value(reply)?;
    Ok(reply.into_iter().flatten().next().map(|(_, entries)| entries).unwrap_or_default())
}
