//! Hints: refusals that are logged for a developer at info, and only counted in production. Each reason is logged at
//! intervals and not each time, since a refused client retries at once.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The interval for a lasting reason: long enough to leave the log readable, short enough to be found at its end.
const AGAIN: Duration = Duration::from_secs(60);
/// Reasons that are remembered: far more than there are, except for host names, which strangers can make up.
const REASONS: usize = 64;

/// Decides when a hint is due. Clones share the memory.
#[derive(Clone, Debug, Default)]
pub struct Hints(Option<Arc<Mutex<HashMap<String, Instant>>>>);

impl Hints {
    /// Hints for `serve --dev`.
    #[must_use]
    pub fn for_developers() -> Self {
        Self(Some(Arc::default()))
    }

    /// No hint is ever due.
    #[must_use]
    pub fn none() -> Self {
        Self(None)
    }

    /// Whether to log a reason. If so, it is not due again for a while.
    #[must_use]
    pub fn is_due(&self, reason: &str) -> bool {
        self.0.as_ref().is_some_and(|said| is_due(&mut said.lock(), reason, Instant::now()))
    }
}

fn is_due(said: &mut HashMap<String, Instant>, reason: &str, now: Instant) -> bool {
    // Expired reasons make room, so that made-up ones block the log for a minute at most.
    said.retain(|_, at| now.saturating_duration_since(*at) < AGAIN);
    if said.contains_key(reason) || said.len() >= REASONS {
        return false;
    }
    said.insert(reason.to_owned(), now);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_said_once_a_minute_and_another_one_too() {
        let (mut said, began) = (HashMap::new(), Instant::now());
        let mut due = |reason: &str, after_s: u64| is_due(&mut said, reason, began + Duration::from_secs(after_s));
        assert!(due("expired", 0) && !due("expired", 0) && due("malformed", 1) && !due("expired", 59));
        assert!(due("expired", 60) && !due("malformed", 60) && due("malformed", 61));
    }

    #[test]
    fn reasons_that_strangers_make_up_fill_neither_memory_nor_log() {
        let (mut said, began) = (HashMap::new(), Instant::now());
        let told = (0..1000).filter(|n| is_due(&mut said, &format!("host {n}"), began)).count();
        assert_eq!((told, said.len()), (REASONS, REASONS));
        assert!(is_due(&mut said, "another", began + AGAIN));
    }

    #[test]
    fn in_production_there_are_none() {
        assert!(!Hints::none().is_due("expired") && Hints::for_developers().is_due("expired"));
    }
}
