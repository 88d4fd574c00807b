//! The task that keeps the keys: when to fetch, and what a fetch changes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use metrics::{counter, gauge};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::failures::FetchFailures;
use super::fetch::JwksSource;
use super::{FetchError, FetchRequest, HeldKeys, JwksSettings};
use crate::auth::keys::KeySet;
use crate::clock::now_ms;
use crate::metrics::{JWKS_FETCHED, JWKS_FETCHES, JWKS_KEYS};

/// The longest pause after failures, unless `auth.jwks_refresh` is shorter: keys are needed soon after a provider is
/// back.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// The fetching task, one fetch at a time, until the gateway stops.
pub(super) struct KeyFetcher {
    refresh: Duration,
    cooldown: Duration,
    source: JwksSource,
    held: watch::Sender<HeldKeys>,
    asked: Arc<FetchRequest>,
    /// When the last fetch began; pauses are counted from here.
    began: Instant,
    /// Consecutive failures, which lengthen the pause.
    failures: u32,
    /// The failures that have been logged.
    trouble: FetchFailures,
}

impl KeyFetcher {
    pub(super) fn new(
        settings: &JwksSettings,
        source: JwksSource,
        held: watch::Sender<HeldKeys>,
        asked: Arc<FetchRequest>,
    ) -> Self {
        Self {
            refresh: settings.refresh,
            cooldown: settings.cooldown,
            source,
            held,
            asked,
            began: Instant::now(),
            failures: 0,
            trouble: FetchFailures::default(),
        }
    }

    /// Fetches until `stop`. Dropping the sender then wakes the verifications that wait.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        stop.run_until_cancelled(async {
            loop {
                self.fetch().await;
                self.wait_for_next().await;
            }
        })
        .await;
    }

    async fn fetch(&mut self) {
        self.began = Instant::now();
        self.asked.begun.fetch_add(1, Ordering::AcqRel);
        let outcome = self.source.fetch().await;
        let label = outcome.as_ref().map_or_else(FetchError::outcome, |_| "fetched");
        counter!(JWKS_FETCHES, "outcome" => label).increment(1);
        match outcome {
            Ok(set) => self.accept_keys(set),
            Err(error) => self.note_failure(&error),
        }
        self.update_gauge();
    }

    /// Takes fetched keys over. They count as old as the request: a key withdrawn meanwhile may still be among them.
    fn accept_keys(&mut self, set: KeySet) {
        self.failures = 0;
        let changed = !self.held.borrow().set.as_ref().is_some_and(|old| old.is_same(&set));
        self.trouble.report_success(set.keys().len(), changed);
        self.trouble.report_skipped(set.skipped());
        #[expect(clippy::cast_precision_loss, reason = "milliseconds of this age are exact in a float")]
        gauge!(JWKS_FETCHED).set(now_ms() as f64 / 1000.0);
        let began = self.began;
        self.held.send_modify(|held| {
            if changed {
                // Kept when unchanged, so that waiting verifications recognize the same set.
                held.set = Some(Arc::new(set));
            }
            held.fetched = Some(began);
            held.trouble = None;
            held.ended += 1;
        });
    }

    fn note_failure(&mut self, error: &FetchError) {
        self.failures = self.failures.saturating_add(1);
        self.trouble.report_failure(error);
        self.held.send_modify(|held| {
            held.trouble = Some(format!("it {error}").into());
            held.ended += 1;
        });
    }

    /// Publishes how many keys are trusted at this moment.
    fn update_gauge(&self) {
        let believed = self.held.borrow().keys().map_or(0, <[_]>::len);
        #[expect(clippy::cast_precision_loss, reason = "a few keys")]
        gauge!(JWKS_KEYS).set(believed as f64);
    }

    /// Waits for a request, for the next fetch, or until the keys are too old; never shorter than the cooldown.
    async fn wait_for_next(&mut self) {
        let (soonest, due) = (self.began + self.cooldown, self.began + self.until_next());
        // Reported once: otherwise this branch would be ready at once in every pause.
        let stale_at = self.stale_at().filter(|_| !self.trouble.is_stale());
        let rung = async {
            // A request before the cooldown is over is kept by the bell, and is served then.
            sleep_until(soonest).await;
            self.asked.bell.notified().await;
        };
        let stale = async {
            match stale_at {
                // A millisecond later, since keys of exactly that age are still trusted.
                Some(at) => sleep_until(at + Duration::from_millis(1)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = rung => {}
            () = sleep_until(due) => {}
            () = stale => {
                self.trouble.report_stale();
                self.update_gauge();
                // The cooldown also holds for a fetch that this branch causes.
                sleep_until(soonest).await;
            }
        }
    }

    fn stale_at(&self) -> Option<Instant> {
        let held = self.held.borrow();
        held.fetched.and_then(|at| at.checked_add(held.max_stale))
    }

    /// The time to the next fetch. Nodes that started together drift apart, and pauses grow with failures as long as
    /// there are keys to serve with.
    fn until_next(&self) -> Duration {
        if self.failures == 0 {
            return self.refresh.mul_f64(rand::random_range(0.9..1.0)).max(self.cooldown);
        }
        // Without keys no token can be verified, so nothing is gained by waiting longer.
        if self.held.borrow().keys().is_none() {
            return self.cooldown;
        }
        // Shifts are capped, as the count of failures is not.
        let doubled = self.cooldown.saturating_mul(1 << (self.failures - 1).min(16));
        doubled.min(LONGEST_PAUSE).min(self.refresh).max(self.cooldown)
    }
}
