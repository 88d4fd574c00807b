//! Reads the stream while it is this node's turn: batch by batch, each published before the next is read.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use hallway_rooms::close::Refusal;
use hallway_rooms::offset::Offset;
use metrics::histogram;
use tokio::time::sleep;

use super::Ingest;
use super::entry::{self, Fields};
use super::lease::Lease;
use super::portion::Portion;
use super::rejects::{Ledger, Reject};
use super::stream::{Next, Stored, Stream};
use super::stuck::{BEGINNING, Stuck};
use super::trouble::{Told, Trouble};
use crate::clock::now_ms;
use crate::metrics::INGEST_LAG;
use crate::service::Service;
use crate::service::publish::{Refused, Way};

/// Before what failed is tried again.
const PAUSE: Duration = Duration::from_millis(250);

/// See the module.
pub(super) struct Reader {
    stream: Stream,
    lease: Arc<Lease>,
    service: Service,
    batch: usize,
    ledger: Ledger,
    stuck: Stuck,
    told: Told,
}

/// What became of a batch.
#[derive(Debug, Default)]
struct Settled {
    /// To be acknowledged: published, put aside, or deleted by somebody.
    done: Vec<String>,
    put_aside: bool,
    /// Some could not be put aside.
    stuck: bool,
}

impl Reader {
    pub(super) fn new(stream: Stream, lease: Arc<Lease>, service: Service, batch: usize, status: Ingest) -> Self {
        let (ledger, stuck, told) = (Ledger::default(), Stuck::default(), Told::new(status));
        Self { stream, lease, service, batch, ledger, stuck, told }
    }

    /// Reads whenever it is this node's turn, for ever.
    pub(super) async fn run(&mut self) {
        loop {
            self.lease.taken().await;
            match self.lead().await {
                Ok(()) => {
                    self.told.forget();
                    self.stuck.forget();
                }
                Err(trouble) => {
                    self.told.of(&trouble);
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// Reads and publishes until the lease is over. After trouble it begins anew with what is pending: what was
    /// published without being acknowledged is known by its ids. That trouble is over is said when a batch has been
    /// published and acknowledged, or waited for.
    async fn lead(&mut self) -> Result<(), Trouble> {
        let (mut done, mut portion) = (Vec::new(), Portion::new(self.batch));
        let (mut next, mut roused) = (Next::Pending, false);
        self.stuck.rewind();
        while self.lease.is_held() {
            if self.stuck.due_in().is_some_and(|left| left.is_zero()) {
                done = self.try_again(&done).await?;
                next = Next::Pending;
            }
            let read = self.stream.turn(&done, next, self.stuck.behind(), portion.count()).await?;
            if !std::mem::take(&mut done).is_empty() {
                self.stuck.acknowledged();
                self.told.over();
            }
            let Some((kind, batch)) = read else { continue };
            if !batch.is_empty() {
                (next, roused) = (kind, false);
                portion.learn(batch.len(), batch.iter().map(size).sum());
                done = self.deal_with(batch).await?;
            } else if next == Next::Pending {
                next = Next::New;
            } else {
                roused = self.wait(roused).await?;
            }
        }
        Ok(())
    }

    /// Waits for an entry, and says whether there is one. `roused` says that there was, and that it could not be read:
    /// another consumer holds it, so only what comes after it is worth waking up for. A connection that is lost here
    /// says little, as it may have been lost long ago: the next turn tells.
    async fn wait(&mut self, roused: bool) -> Result<bool, Trouble> {
        let soon = self.told.is_open().then_some(PAUSE);
        let longest = [soon, self.stuck.due_in()].into_iter().flatten().fold(self.lease.glance(), Duration::min);
        if self.stuck.due_in().is_none() {
            self.told.over_for_rejects();
        }
        let from = if roused { "$" } else { self.stuck.behind() };
        match self.stream.wait(from, longest).await {
            Ok(found) => {
                self.told.over();
                Ok(found && !roused)
            }
            Err(error) if error.code().is_some() => Err(error.into()),
            Err(_) => {
                sleep(PAUSE).await;
                Ok(roused)
            }
        }
    }

    /// Publishes a batch, says what is done, and goes on behind what is stuck.
    async fn deal_with(&mut self, batch: Vec<Stored>) -> Result<Vec<String>, Trouble> {
        let last = batch.last().map(|(id, _)| id.clone());
        let Some(settled) = self.settle(batch).await? else { return Ok(Vec::new()) };
        if let Some(last) = last.filter(|_| settled.stuck || self.stuck.due_in().is_some()) {
            self.stuck.pass(last, settled.put_aside);
        }
        Ok(settled.done)
    }

    /// Acknowledges what is done and tries the first stuck entry again: when it is put aside, or there is none any more,
    /// everything pending is read from its beginning.
    async fn try_again(&mut self, done: &[String]) -> Result<Vec<String>, Trouble> {
        self.stuck.put_off();
        let read = self.stream.turn(done, Next::Pending, BEGINNING, 1).await?;
        let Some((_, batch)) = read.filter(|(_, batch)| !batch.is_empty()) else {
            self.stuck.rewind();
            return Ok(Vec::new());
        };
        let settled = self.settle(batch).await?.unwrap_or_default();
        if settled.put_aside {
            self.stuck.rewind();
        }
        Ok(settled.done)
    }

    /// Publishes a batch and puts aside what is bad; nothing, when it took so long to read that the lease is over.
    async fn settle(&mut self, batch: Vec<Stored>) -> Result<Option<Settled>, Trouble> {
        if !self.lease.is_held() {
            return Ok(None);
        }
        let mut settled = Settled { done: batch.iter().map(|(id, _)| id.clone()).collect(), ..Settled::default() };
        let mut rejects = self.publish(batch).await?;
        rejects.retain(|reject| !self.stuck.is_aside(reject));
        let replies = self.stream.put_aside(&rejects).await?;
        let mut left: HashSet<&String> = rejects.iter().map(|reject| &reject.entry).collect();
        for (reject, reply) in rejects.iter().zip(replies) {
            match reply {
                Ok(_) => {
                    self.ledger.note(reject, self.stream.rejected());
                    self.stuck.release(reject);
                    left.remove(&reject.entry);
                }
                Err(error) => {
                    self.told.of_rejects(&error, self.stream.rejected());
                    self.stuck.hold(reject);
                }
            }
        }
        settled.done.retain(|id| !left.contains(id));
        (settled.put_aside, settled.stuck) = (left.len() < rejects.len(), !left.is_empty());
        if settled.put_aside && !settled.stuck {
            self.told.over_for_rejects();
        }
        Ok(Some(settled))
    }

    /// Publishes a batch and returns what is bad.
    async fn publish(&self, batch: Vec<Stored>) -> Result<Vec<Reject>, Trouble> {
        let there: Vec<(String, Fields)> = batch.into_iter().filter_map(|(id, fields)| Some((id, fields?))).collect();
        let request =
            |(id, fields): &(String, Fields)| self.stuck.refused(id).map_or_else(|| entry::read(id, fields), Err);
        let outcomes = self.service.publish_all(Way::Ingest, there.iter().map(request).collect()).await;
        let out_of_reach = |refused: &Refused| refused.refusal == Refusal::Unavailable;
        if outcomes.iter().any(|outcome| outcome.as_ref().is_err_and(out_of_reach)) {
            return Err(Trouble::Broker);
        }
        let (now, mut rejects) = (now_ms(), Vec::new());
        for ((id, fields), outcome) in there.into_iter().zip(outcomes) {
            match outcome {
                Ok(_) => note_lag(&id, now),
                Err(refused) => rejects.push(Reject::new(id, refused, fields)),
            }
        }
        Ok(rejects)
    }
}

fn size((_, fields): &Stored) -> usize {
    fields.iter().flatten().map(|(name, value)| name.len() + value.len()).sum()
}

/// A stream id begins with the time of Redis.
fn note_lag(entry: &str, now_ms: u64) {
    if let Ok(added) = entry.parse::<Offset>() {
        let lag = Duration::from_millis(now_ms.saturating_sub(added.ms));
        histogram!(INGEST_LAG).record(lag.as_secs_f64());
    }
}
