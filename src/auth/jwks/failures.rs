//! The log lines about a JWKS: each failure once, again at intervals while it lasts, and its end.

use std::time::Duration;

use tokio::time::Instant;

use super::FetchError;
use crate::logs;

/// Time between two log lines about a lasting failure.
const AGAIN: Duration = Duration::from_mins(1);

/// What has been logged.
#[derive(Debug, Default)]
pub(super) struct FetchFailures {
    /// The kind of the open failure, and when it was logged.
    failing: Option<(&'static str, Instant)>,
    /// The unusable keys that were logged.
    skipped: Vec<String>,
    /// Whether it was logged that the keys are too old.
    stale: bool,
}

impl FetchFailures {
    /// Logs a failed fetch.
    pub(super) fn report_failure(&mut self, error: &FetchError) {
        let outcome = error.outcome();
        // By kind and not by text, which may differ with every attempt.
        if self.failing.is_some_and(|(told, at)| told == outcome && at.elapsed() < AGAIN) {
            return;
        }
        self.failing = Some((outcome, Instant::now()));
        tracing::warn!(
            event = logs::JWKS_FETCH_FAILED,
            "the JWKS {error}; the keys that are held serve until auth.jwks_max_stale"
        );
    }

    /// Logs a successful fetch, if it ends a failure or changes the keys.
    pub(super) fn report_success(&mut self, keys: usize, changed: bool) {
        self.stale = false;
        if self.failing.take().is_some() || changed {
            tracing::info!(event = logs::JWKS_FETCHED, keys, "the JWKS was fetched");
        }
    }

    /// Logs unusable keys, unless the same were logged last.
    pub(super) fn report_skipped(&mut self, skipped: &[String]) {
        if self.skipped != skipped {
            skipped.iter().for_each(|what| {
                tracing::warn!(event = logs::JWKS_KEY_SKIPPED, "a key of the JWKS is not believed: {what}")
            });
            self.skipped = skipped.to_vec();
        }
    }

    /// Whether it was logged that the keys are too old.
    pub(super) fn is_stale(&self) -> bool {
        self.stale
    }

    /// Logs that the keys have become too old.
    pub(super) fn report_stale(&mut self) {
        self.stale = true;
        tracing::error!(
            event = logs::JWKS_TOO_OLD,
            "the JWKS is older than auth.jwks_max_stale, and its keys are no longer believed: nobody is let in by them; \
             make auth.jwks_url reachable"
        );
    }
}
