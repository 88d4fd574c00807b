//! The reader: while this node holds the lease it publishes the stream batch by batch, each before the next is read.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use hallway_rooms::close::Refusal;
use hallway_rooms::offset::Offset;
use metrics::histogram;
use tokio::time::sleep;

use super::IngestStatus;
use super::entry::{self, StreamFields};
use super::failure::{IngestFailure, ReportedFailure};
use super::lease::Lease;
use super::page::IngestPage;
use super::rejects::{Reject, RejectCounts};
use super::stream::{IngestRow, IngestStream, NextRead};
use super::stuck::{BEGINNING, Stuck};
use crate::clock::now_ms;
use crate::metrics::INGEST_LAG;
use crate::service::Service;
use crate::service::publish::{PublishRefused, PublishSource};

/// Pause before a retry.
const PAUSE: Duration = Duration::from_millis(250);

/// The reader of the stream.
pub(super) struct IngestReader {
    stream: IngestStream,
    lease: Arc<Lease>,
    service: Service,
    /// `ingest.batch`.
    batch: usize,
    /// Counts and logs rejected entries.
    ledger: RejectCounts,
    /// Bad entries that could not be put aside.
    stuck: Stuck,
    /// The failure that was reported last.
    reported: ReportedFailure,
}

/// The outcome of a batch.
#[derive(Debug, Default)]
struct BatchOutcome {
    /// Ids to acknowledge: published, put aside, or deleted by another client.
    done: Vec<String>,
    /// Whether at least one entry was put aside.
    put_aside: bool,
    /// Whether at least one entry could not be put aside.
    stuck: bool,
}

impl IngestReader {
    pub(super) fn new(
        stream: IngestStream,
        lease: Arc<Lease>,
        service: Service,
        batch: usize,
        status: IngestStatus,
    ) -> Self {
        let (ledger, stuck, reported) = (RejectCounts::default(), Stuck::default(), ReportedFailure::new(status));
        Self { stream, lease, service, batch, ledger, stuck, reported }
    }

    /// Reads whenever this node holds the lease, for ever.
    pub(super) async fn run_forever(&mut self) {
        loop {
            self.lease.wait_until_held().await;
            match self.read_while_held().await {
                // The lease is over without a failure: another node reports from here on, so this one forgets what it
                // reported.
                Ok(()) => {
                    self.reported.clear_reports();
                    self.stuck.forget_all();
                }
                Err(trouble) => {
                    // The lease may still be ours, so the loop leads again and starts with the pending entries.
                    self.reported.report_trouble(&trouble);
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// Reads and publishes until the lease is over. After a failure it starts again with the pending entries:
    /// published but unacknowledged ones are recognized by their ids. The end of a failure is reported once a batch
    /// has been published and acknowledged, or an entry has been waited for.
    async fn read_while_held(&mut self) -> Result<(), IngestFailure> {
        let (mut done, mut portion) = (Vec::new(), IngestPage::new(self.batch));
        let (mut next, mut roused) = (NextRead::Pending, false);
        // Entries that were passed over before may be valid for this node: read everything pending again.
        self.stuck.rewind_to_start();
        while self.lease.is_held() {
            if self.stuck.due_in().is_some_and(|left| left.is_zero()) {
                // A stuck entry is due. Its retry acknowledges `done` as well.
                done = self.try_again(&done).await?;
                next = NextRead::Pending;
            }
            let read = self.stream.acknowledge_and_read(&done, next, self.stuck.read_from(), portion.count()).await?;
            // The acknowledgement was part of this round trip, so the batch before is settled for good.
            if !std::mem::take(&mut done).is_empty() {
                self.stuck.clear_put_aside();
                self.reported.report_recovery();
            }
            // The group did not exist and has been created: read again.
            let Some((kind, batch)) = read else { continue };
            if !batch.is_empty() {
                (next, roused) = (kind, false);
                portion.adapt_size(batch.len(), batch.iter().map(entry_bytes).sum());
                done = self.deal_with(batch).await?;
            // Nothing is pending any more, so further entries may follow without breaking the order.
            } else if next == NextRead::Pending {
                next = NextRead::New;
            } else {
                // The stream is empty; wait without taking anything.
                roused = self.wait_for_entry(roused).await?;
            }
        }
        Ok(())
    }

    /// Waits for an entry, and returns whether there is one. `roused` says that the last wait found an entry which
    /// could not be read: another consumer holds it, so only a later one is worth waking up for. A lost connection is
    /// no failure here, since it may have been lost long ago; the next read reports it.
    async fn wait_for_entry(&mut self, roused: bool) -> Result<bool, IngestFailure> {
        // While a failure is open, check often whether it is over.
        let soon = self.reported.is_open().then_some(PAUSE);
        let longest =
            [soon, self.stuck.due_in()].into_iter().flatten().fold(self.lease.recheck_interval(), Duration::min);
        // No entry is stuck, so a failure to put entries aside is over.
        if self.stuck.due_in().is_none() {
            self.reported.over_for_rejects();
        }
        // `$` skips the entry that another consumer holds; otherwise this would return at once, for ever.
        let from = if roused { "$" } else { self.stuck.read_from() };
        match self.stream.wait_for_entry(from, longest).await {
            Ok(found) => {
                self.reported.report_recovery();
                Ok(found && !roused)
            }
            Err(error) if error.code().is_some() => Err(error.into()),
            // The next read decides whether Redis is unreachable. The pause keeps this loop from spinning until then.
            Err(_) => {
                sleep(PAUSE).await;
                Ok(roused)
            }
        }
    }

    /// Publishes a batch, returns the ids to acknowledge, and continues behind stuck entries.
    async fn deal_with(&mut self, batch: Vec<IngestRow>) -> Result<Vec<String>, IngestFailure> {
        let last = batch.last().map(|(id, _)| id.clone());
        // The lease is over: nothing is acknowledged, and the next holder reads the batch again.
        let Some(settled) = self.settle_batch(batch).await? else { return Ok(Vec::new()) };
        if let Some(last) = last.filter(|_| settled.stuck || self.stuck.due_in().is_some()) {
            self.stuck.pass_to(last, settled.put_aside);
        }
        Ok(settled.done)
    }

    /// Acknowledges `done` and tries the first stuck entry again. When it has been put aside, or is gone, all pending
    /// entries are read from the start.
    async fn try_again(&mut self, done: &[String]) -> Result<Vec<String>, IngestFailure> {
        self.stuck.put_off();
        let read = self.stream.acknowledge_and_read(done, NextRead::Pending, BEGINNING, 1).await?;
        // Another client of Redis acknowledged or deleted the stuck entries.
        let Some((_, batch)) = read.filter(|(_, batch)| !batch.is_empty()) else {
            self.stuck.rewind_to_start();
            return Ok(Vec::new());
        };
        let settled = self.settle_batch(batch).await?.unwrap_or_default();
        // The obstacle is gone, so the other stuck entries are likely to follow.
        if settled.put_aside {
            self.stuck.rewind_to_start();
        }
        Ok(settled.done)
    }

    /// Publishes a batch and puts bad entries aside. None when the batch took so long to read that the lease is over.
    async fn settle_batch(&mut self, batch: Vec<IngestRow>) -> Result<Option<BatchOutcome>, IngestFailure> {
        if !self.lease.is_held() {
            return Ok(None);
        }
        // Entries without fields were deleted meanwhile and are acknowledged as well.
        let mut settled =
            BatchOutcome { done: batch.iter().map(|(id, _)| id.clone()).collect(), ..BatchOutcome::default() };
        let mut rejects = self.publish_batch(batch).await?;
        // Already in the `rejected` stream: only the acknowledgement failed.
        rejects.retain(|reject| !self.stuck.is_aside(reject));
        let replies = self.stream.put_aside(&rejects).await?;
        let mut left: HashSet<&String> = rejects.iter().map(|reject| &reject.entry).collect();
        for (reject, reply) in rejects.iter().zip(replies) {
            match reply {
                Ok(_) => {
                    self.ledger.note_reject(reject, self.stream.rejected_key());
                    self.stuck.mark_put_aside(reject);
                    left.remove(&reject.entry);
                }
                // The rest of the batch is published and may be acknowledged; this one stays pending.
                Err(error) => {
                    self.reported.of_rejects(&error, self.stream.rejected_key());
                    self.stuck.hold_back(reject);
                }
            }
        }
        settled.done.retain(|id| !left.contains(id));
        (settled.put_aside, settled.stuck) = (left.len() < rejects.len(), !left.is_empty());
        // Only a batch without a new failure proves that putting aside works.
        if settled.put_aside && !settled.stuck {
            self.reported.over_for_rejects();
        }
        Ok(Some(settled))
    }

    /// Publishes a batch and returns the bad entries.
    async fn publish_batch(&self, batch: Vec<IngestRow>) -> Result<Vec<Reject>, IngestFailure> {
        let there: Vec<(String, StreamFields)> =
            batch.into_iter().filter_map(|(id, fields)| Some((id, fields?))).collect();
        let request =
            // Once refused as not stored it stays refused: published later it would come behind events it preceded.
            |(id, fields): &(String, StreamFields)| self.stuck.refusal_of(id).map_or_else(|| entry::parse_entry(id, fields), Err);
        let outcomes = self.service.publish_all(PublishSource::Ingest, there.iter().map(request).collect()).await;
        let out_of_reach = |refused: &PublishRefused| refused.refusal == Refusal::Unavailable;
        // An outage refuses the whole batch: nothing of it may be put aside, and all of it is read again.
        if outcomes.iter().any(|outcome| outcome.as_ref().is_err_and(out_of_reach)) {
            return Err(IngestFailure::Broker);
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

fn entry_bytes((_, fields): &IngestRow) -> usize {
    fields.iter().flatten().map(|(name, value)| name.len() + value.len()).sum()
}

/// Records how long an event waited in the stream. A stream id begins with Redis' time in milliseconds.
fn note_lag(entry: &str, now_ms: u64) {
    if let Ok(added) = entry.parse::<Offset>() {
        let lag = Duration::from_millis(now_ms.saturating_sub(added.ms));
        histogram!(INGEST_LAG).record(lag.as_secs_f64());
    }
}
