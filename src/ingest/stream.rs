//! The stream in Redis: reading with its consumer group, and settling processed entries.

use std::time::Duration;

use redis::{RedisError, Value, cmd, from_redis_value, pipe};

use super::BLOCK;
use super::IngestSettings;
use super::entry::StreamFields;
use super::rejects::Reject;
use crate::link::Link;

const GROUP: &str = "gateway";
/// One consumer for all nodes: each node starts with the entries that the one before left pending.
const CONSUMER: &str = "gateway";

/// An entry as read; without fields when it was deleted after it was handed out.
pub(super) type IngestRow = (String, Option<StreamFields>);

/// The reply of XREADGROUP per stream: its key and its entries.
type StreamReply = Option<Vec<(String, Vec<IngestRow>)>>;

/// The part of the stream to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NextRead {
    /// Entries that were handed out and not acknowledged.
    Pending,
    /// Further entries, if none is pending.
    New,
}

/// Entries, and whether they were pending. In that case more may be, and they precede all further entries.
pub(super) type IngestBatch = (NextRead, Vec<IngestRow>);

impl NextRead {
    /// The ids to read from. Pending entries are requested before further ones in any case, since a node whose lease
    /// ran out unnoticed may have read on.
    fn ids(self, behind: &str) -> Vec<&str> {
        match self {
            Self::Pending => vec![behind],
            Self::New => vec![behind, ">"],
        }
    }
}

/// The stream. Clones share their connections.
#[derive(Clone)]
/// Reads and acknowledgements.
pub(super) struct IngestStream {
    /// Blocking waits, which would delay everything behind them.
    commands: Link,
    /// The stream's key.
    waiting: Link,
    /// The key of the stream of rejected entries.
    key: String,
    rejected: String,
    /// `ingest.rejected`: the approximate length of that stream.
    keep: usize,
    /// Bytes kept of one rejected entry.
    reject_bytes: usize,
}

impl IngestStream {
    pub(super) fn new(commands: Link, waiting: Link, settings: &IngestSettings) -> Self {
        let key = format!("{}:ingest", settings.prefix);
        let rejected = format!("{key}:rejected");
        Self { commands, waiting, key, rejected, keep: settings.rejected, reject_bytes: settings.event_bytes * 2 }
    }

    pub(super) fn rejected_key(&self) -> &str {
        &self.rejected
    }

    /// Puts bad entries aside, and returns the outcome for each. Only a kept entry may be acknowledged.
    pub(super) async fn put_aside(&self, rejects: &[Reject]) -> Result<Vec<Result<Value, RedisError>>, RedisError> {
        if rejects.is_empty() {
            return Ok(Vec::new());
        }
        let mut put = pipe();
        // One entry that fails must not hide the outcome of the others.
        put.ignore_errors();
        for reject in rejects {
            put.add_command(reject.store_command(&self.rejected, self.keep, self.reject_bytes));
        }
        put.query_async(&mut self.commands.clone()).await
    }

    /// Acknowledges and deletes `done` and reads the next entries, in one transaction. Of the pending entries only
    /// those after `behind` are read. None when the group had to be created.
    pub(super) async fn acknowledge_and_read(
        &self,
        done: &[String],
        next: NextRead,
        behind: &str,
        count: usize,
    ) -> Result<Option<IngestBatch>, RedisError> {
        let ids = next.ids(behind);
        let mut turn = pipe();
        turn.atomic().ignore_errors();
        // Redis rejects XACK and XDEL without an id.
        if !done.is_empty() {
            turn.cmd("XACK").arg(&self.key).arg(GROUP).arg(done);
            turn.cmd("XDEL").arg(&self.key).arg(done);
        }
        for from in &ids {
            // One transaction, so that no other node can read between the acknowledgement and the read.
            turn.cmd("XREADGROUP").arg("GROUP").arg(GROUP).arg(CONSUMER).arg("COUNT").arg(count);
            turn.arg("STREAMS").arg(&self.key).arg(from);
        }
        let mut replies: Vec<Result<Value, RedisError>> = turn.query_async(&mut self.commands.clone()).await?;
        let reads = replies.split_off(replies.len().saturating_sub(ids.len()));
        // A failed acknowledgement comes first: its entries would be read again, and reported as progress.
        replies.into_iter().collect::<Result<Vec<Value>, _>>()?;
        match reads.into_iter().map(|reply| entries(reply?)).collect::<Result<Vec<_>, _>>() {
            // The key was deleted, or this is the first start.
            Err(error) if error.code() == Some("NOGROUP") => self.make_group().await.map(|()| None),
            reads => Ok(Some(first_read(reads?))),
        }
    }

    /// Creates the group at the first entry, which may be older than the group.
    async fn make_group(&self) -> Result<(), RedisError> {
        let mut make = cmd("XGROUP");
        make.arg("CREATE").arg(&self.key).arg(GROUP).arg("0").arg("MKSTREAM");
        match make.query_async::<()>(&mut self.commands.clone()).await {
            // Another node created it in the same moment.
            Err(error) if error.code() != Some("BUSYGROUP") => Err(error),
            Err(_) | Ok(()) => Ok(()),
        }
    }

    /// Waits until there is an entry after `from`, at most `longest`, and returns whether there is. Takes nothing.
    pub(super) async fn wait_for_entry(&self, from: &str, longest: Duration) -> Result<bool, RedisError> {
        let mut wait = cmd("XREAD");
        wait.arg("COUNT")
            .arg(1)
            .arg("BLOCK")
            // At least 1 ms: for Redis, 0 means to block without an end.
            .arg(u64::try_from(longest.min(BLOCK).as_millis()).unwrap_or(u64::MAX).max(1));
        wait.arg("STREAMS").arg(&self.key).arg(from);
        wait.query_async::<Value>(&mut self.waiting.clone()).await.map(|reply| reply != Value::Nil)
    }

    /// The lengths of the stream and of the rejected one. Each fails by itself when its key holds another type.
    pub(super) async fn lengths(&self) -> Result<(Result<u64, RedisError>, Result<u64, RedisError>), RedisError> {
        let mut ask = pipe();
        ask.ignore_errors().cmd("XLEN").arg(&self.key).cmd("XLEN").arg(&self.rejected);
        ask.query_async(&mut self.commands.clone()).await
    }
}

/// The entries to deal with. Where entries are pending, the further ones became pending by this read, and are read
/// again in their turn.
fn first_read(reads: Vec<Vec<IngestRow>>) -> IngestBatch {
    let mut reads = reads.into_iter();
    let (pending, new) = (reads.next().unwrap_or_default(), reads.next().unwrap_or_default());
    if pending.is_empty() { (NextRead::New, new) } else { (NextRead::Pending, pending) }
}

fn entries(reply: Value) -> Result<Vec<IngestRow>, RedisError> {
    let reply: StreamReply = from_redis_value(reply)?;
    Ok(reply.into_iter().flatten().next().map(|(_, entries)| entries).unwrap_or_default())
}
