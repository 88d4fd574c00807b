//! The usher: asks the broker for seats and tells it of those that were given back, one question at a time.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, timeout};
use tokio_util::sync::CancellationToken;

use crate::fleet::Unavailable;
use crate::logs;
use crate::service::Service;

/// Between two looks at whether the broker has lost what it was told, and two tries to tell it what it could not take.
const TURN: Duration = Duration::from_millis(500);
/// Every user is told again within this time; brokers keep a count for an hour.
const RENEWAL: Duration = Duration::from_mins(10);

/// How it stands with the broker.
struct Watch {
    /// Breaks of the feed and lapses of the broker so far: after one it may have lost every count.
    losses: (u64, u64),
    renewed: Instant,
    /// The last question was answered.
    well: bool,
}

impl Service {
    /// Works until `stop`.
    pub async fn usher(&self, stop: CancellationToken) {
        let mut turns = tokio::time::interval(TURN);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut watch = Watch { losses: self.losses(), renewed: Instant::now(), well: true };
        loop {
            let turn = tokio::select! {
                () = stop.cancelled() => return,
                () = self.0.seats.0.news.notified() => false,
                _ = turns.tick() => true,
            };
            if turn {
                self.look_for_losses(&mut watch);
            }
            if stop.run_until_cancelled(self.serve(&mut watch, turn)).await.is_none() {
                return;
            }
        }
    }

    fn losses(&self) -> (u64, u64) {
        (self.0.hub.breaks(), self.0.fleet.forgotten())
    }

    fn look_for_losses(&self, watch: &mut Watch) {
        let losses = self.losses();
        let lost = std::mem::replace(&mut watch.losses, losses) != losses;
        if lost || watch.renewed.elapsed() >= RENEWAL {
            watch.renewed = Instant::now();
            self.0.seats.owe_all();
        }
    }

    /// Works off what is due. While the broker does not answer it is told only at a turn; who asks is served at once.
    async fn serve(&self, watch: &mut Watch, turn: bool) {
        let mut tell = watch.well || turn;
        loop {
            let asks = self.0.seats.due(tell);
            if asks.is_empty() {
                return;
            }
            let (cap, wait) = (self.0.limits.connections_per_user, self.0.limits.seat_wait);
            let late = |_| Err(Unavailable("it did not answer in time".to_owned()));
            let outcome = timeout(wait, self.0.fleet.seat(&asks, cap)).await.unwrap_or_else(late);
            let well = outcome.is_ok();
            match outcome {
                Ok(answers) => {
                    // What it cannot take for one user is told again with the next news.
                    tell &= answers.iter().all(Option::is_some);
                    asks.iter().zip(answers).for_each(|(ask, allowed)| self.0.seats.settle(ask, allowed, cap));
                }
                Err(Unavailable(error)) => {
                    asks.iter().for_each(|ask| self.0.seats.settle(ask, None, cap));
                    if watch.well {
                        tracing::warn!(
                            event = logs::SEATS_COUNTED_HERE,
                            error,
                            "connections of users are counted on this node only; trying on"
                        );
                    }
                    tell = false;
                }
            }
            if well && !std::mem::replace(&mut watch.well, well) {
                // What was asked before may be carried out after what was told last.
                self.0.seats.owe_all();
            }
            watch.well = well;
        }
    }
}
