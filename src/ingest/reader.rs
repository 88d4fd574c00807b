//! Reads the stream while it is this node's turn: batch by batch, each published before the next is read.

use std::sync::Arc;
use std::time::Duration;

use hallway_rooms::close::Refusal;
use hallway_rooms::offset::Offset;
use metrics::histogram;
use tokio::time::sleep;

use super::IngestSettings;
use super::entry::{self, Fields};
use super::lease::Lease;
use super::portion::Portion;
use super::rejects::{Ledger, Reject};
use super::stream::{Done, Next, Stored, Stream};
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
    told: Told,
}

impl Reader {
    pub(super) fn new(stream: Stream, lease: Arc<Lease>, service: Service, settings: &IngestSettings) -> Self {
        let (ledger, told) = (Ledger::default(), Told::default());
        Self { stream, lease, service, batch: settings.batch, ledger, told }
    }

    /// Reads whenever it is this node's turn, for ever.
    pub(super) async fn run(&mut self) {
        loop {
            self.lease.taken().await;
            match self.lead().await {
                Ok(()) => self.told.forget(),
                Err(trouble) => {
                    self.told.of(&trouble);
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// Reads and publishes until the lease is over. After trouble it begins anew with what is pending: what was
    /// published without being acknowledged is known by its ids.
    async fn lead(&mut self) -> Result<(), Trouble> {
        let (mut done, mut portion) = (Done::default(), Portion::new(self.batch));
        let (mut next, mut roused) = (Next::Pending, false);
        while self.lease.is_held() {
            let read = self.stream.turn(&done, next, portion.count()).await?;
            self.ledger.note(&std::mem::take(&mut done).rejects, self.stream.rejected());
            let Some((kind, batch)) = read else { continue };
            if !batch.is_empty() {
                (next, roused) = (kind, false);
                portion.learn(batch.len(), batch.iter().map(size).sum());
                done = self.publish(batch).await?;
                self.told.over();
            } else if next == Next::Pending {
                next = Next::New;
            } else {
                self.told.over();
                roused = self.wait(roused).await?;
            }
        }
        Ok(())
    }

    /// Waits for an entry, and says whether there is one. `roused` says that there was, and that it could not be read:
    /// another consumer holds it, so only what comes after it is worth waking up for.
    async fn wait(&self, roused: bool) -> Result<bool, Trouble> {
        let from = if roused { "$" } else { "0" };
        let found = self.stream.wait(from, self.lease.glance()).await?;
        Ok(found && !roused)
    }

    /// Publishes a batch and says what is done; nothing, when it took so long to read that the lease is over.
    async fn publish(&self, batch: Vec<Stored>) -> Result<Done, Trouble> {
        if !self.lease.is_held() {
            return Ok(Done::default());
        }
        let mut done = Done { entries: batch.iter().map(|(id, _)| id.clone()).collect(), rejects: Vec::new() };
        let there: Vec<(String, Fields)> = batch.into_iter().filter_map(|(id, fields)| Some((id, fields?))).collect();
        let requests = there.iter().map(|(id, fields)| entry::read(id, fields)).collect();
        let outcomes = self.service.publish_all(Way::Ingest, requests).await;
        let out_of_reach = |refused: &Refused| refused.refusal == Refusal::Unavailable;
        if outcomes.iter().any(|outcome| outcome.as_ref().is_err_and(out_of_reach)) {
            return Err(Trouble::Broker);
        }
        let now = now_ms();
        for ((id, fields), outcome) in there.into_iter().zip(outcomes) {
            match outcome {
                Ok(_) => note_lag(&id, now),
                Err(refused) => done.rejects.push(Reject::new(id, refused, fields)),
            }
        }
        Ok(done)
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
