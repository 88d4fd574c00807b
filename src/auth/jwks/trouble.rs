//! What the log says of a JWKS: each trouble once, again from time to time while it lasts, and its end.

use std::time::Duration;

use tokio::time::Instant;

use super::FetchError;
use crate::logs;

/// Between two lines about one trouble that lasts.
const AGAIN: Duration = Duration::from_mins(1);

/// What was told.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    failing: Option<(&'static str, Instant)>,
    skipped: Vec<String>,
    stale: bool,
}

impl Trouble {
    /// A fetch failed.
    pub(super) fn told(&mut self, error: &FetchError) {
        let outcome = error.outcome();
        if self.failing.is_some_and(|(told, at)| told == outcome && at.elapsed() < AGAIN) {
            return;
        }
        self.failing = Some((outcome, Instant::now()));
        tracing::warn!(
            event = logs::JWKS_FETCH_FAILED,
            "the JWKS {error}; the keys that are held serve until auth.jwks_max_stale"
        );
    }

    /// A fetch succeeded.
    pub(super) fn over(&mut self, keys: usize, changed: bool) {
        self.stale = false;
        if self.failing.take().is_some() || changed {
            tracing::info!(event = logs::JWKS_FETCHED, keys, "the JWKS was fetched");
        }
    }

    /// Keys that are of no use.
    pub(super) fn skipped(&mut self, skipped: &[String]) {
        if self.skipped != skipped {
            skipped.iter().for_each(|what| {
                tracing::warn!(event = logs::JWKS_KEY_SKIPPED, "a key of the JWKS is not believed: {what}")
            });
            self.skipped = skipped.to_vec();
        }
    }

    /// Whether it was told that the keys are too old.
    pub(super) fn is_stale(&self) -> bool {
        self.stale
    }

    /// The keys have become too old.
    pub(super) fn stale(&mut self) {
        self.stale = true;
        tracing::error!(
            event = logs::JWKS_TOO_OLD,
            "the JWKS is older than auth.jwks_max_stale, and its keys are no longer believed: nobody is let in by them; \
             make auth.jwks_url reachable"
        );
    }
}
