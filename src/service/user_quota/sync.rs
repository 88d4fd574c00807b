//! The quota sync: announces the counts of users that changed without a CONNECT, or whose announcement was lost.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::fleet::Unavailable;
use crate::logs;
use crate::service::Service;

/// Between two checks whether the fleet has lost counts, and two attempts to announce counts that it could not take.
const TURN: Duration = Duration::from_millis(500);
/// Every user is announced again within this time; the fleet keeps a count for an hour.
const RENEWAL: Duration = Duration::from_mins(10);
/// Users of one announcement: one message of some ten kilobytes.
const AT_ONCE: usize = 256;

/// The state of the sync.
struct SyncProgress {
    /// Breaks of the event channel and losses of the fleet so far: after one, all counts may be lost.
    losses: (u64, u64),
    renewed: Instant,
    /// The last announcement was taken.
    well: bool,
}

impl Service {
    /// Works until `stop`.
    pub async fn sync_quotas(&self, stop: CancellationToken) {
        let mut turns = tokio::time::interval(TURN);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut watch = SyncProgress { losses: self.loss_counts(), renewed: Instant::now(), well: true };
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                // In an outage each CONNECT brings news, which must not be a try each.
                () = self.0.quota.0.news.notified(), if watch.well => {}
                _ = turns.tick() => self.check_for_losses(&mut watch),
            }
            // An announcement that hangs must not hold up the shutdown.
            if stop.run_until_cancelled(self.announce_users(&mut watch)).await.is_none() {
                return;
            }
        }
    }

    fn loss_counts(&self) -> (u64, u64) {
        (self.0.hubs.breaks(), self.0.fleet.forget_count())
    }

    fn check_for_losses(&self, watch: &mut SyncProgress) {
        let losses = self.loss_counts();
        let lost = std::mem::replace(&mut watch.losses, losses) != losses;
        if lost || watch.renewed.elapsed() >= RENEWAL {
            watch.renewed = Instant::now();
            self.0.quota.mark_all_unannounced();
        }
    }

    /// Announces all counts that are due.
    async fn announce_users(&self, watch: &mut SyncProgress) {
        loop {
            let counts = self.0.quota.take_due_asks(AT_ONCE);
            if counts.is_empty() {
                return;
            }
            if let Err(Unavailable(error)) = self.count_in_time(&counts).await {
                self.0.quota.mark_unannounced(counts.into_iter().map(|count| count.user));
                // Once for each outage.
                if std::mem::replace(&mut watch.well, false) {
                    tracing::warn!(
                        event = logs::SEATS_COUNTED_HERE,
                        error,
                        "connections of users are counted on this node only; trying on"
                    );
                }
                return;
            }
            counts.iter().for_each(|count| self.0.quota.settle_waiting(count));
            if !std::mem::replace(&mut watch.well, true) {
                // Redis may have taken an announcement of the outage late, over one that was made after it.
                self.0.quota.mark_all_unannounced();
            }
        }
    }
}
