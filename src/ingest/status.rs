//! The state of the ingest stream on this node: for `/readyz`, metrics and humans.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use metrics::gauge;
use tokio::time::sleep;

use super::stream::IngestStream;
use crate::metrics::{INGEST_LEADING, INGEST_STUCK, INGEST_WAITING};

/// Pause between two reads of the streams' lengths. `XLEN` is constant time.
const LOOK: Duration = Duration::from_secs(2);

/// The ingest status of a node. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct IngestStatus(Arc<IngestSeen>);

#[derive(Debug, Default)]
struct IngestSeen {
    /// Whether this node holds the lease.
    leading: AtomicBool,
    /// Entries in the stream.
    waiting: AtomicU64,
    /// Entries in the stream of rejected ones.
    rejected: AtomicU64,
    problems: Mutex<IngestProblems>,
}

/// The open failures with their remedies, displayed while this node leads.
#[derive(Debug, Default)]
/// Why nothing can be read or published.
struct IngestProblems {
    /// Why bad entries cannot be put aside.
    stuck: Option<String>,
    rejects: Option<String>,
}

/// The ingest part of `/readyz`.
#[derive(Clone, Debug, serde::Serialize)]
pub struct IngestHealth {
    /// Whether the stream can be read, as far as this node knows: false on the leading node while it cannot go on. It
    /// does not make the node unready. Entries that wait are late, and none is lost; a node that turned its clients
    /// away for it would only add an outage. A node that cannot reach Redis is unready by the broker's health.
    pub ready: bool,
    /// The failure and its remedy, on the leading node. While only bad entries cannot be put aside, the others are
    /// published and `ready` is true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Whether this node reads the stream.
    pub leading: bool,
    /// Entries in the stream, at the last check.
    pub waiting: u64,
    /// Entries in the stream of rejected ones, at the last check.
    pub rejected: u64,
}

impl IngestStatus {
    /// The health of the stream.
    #[must_use]
    pub fn health(&self) -> IngestHealth {
        let seen = &self.0;
        let leading = seen.leading.load(Ordering::Relaxed);
        let problems = seen.problems.lock().unwrap_or_else(PoisonError::into_inner);
        IngestHealth {
            ready: !leading || problems.stuck.is_none(),
            // A node that does not lead may hold an outdated failure; the leader reports its own.
            problem: problems.stuck.as_ref().or(problems.rejects.as_ref()).filter(|_| leading).cloned(),
            leading,
            waiting: seen.waiting.load(Ordering::Relaxed),
            rejected: seen.rejected.load(Ordering::Relaxed),
        }
    }

    pub(super) fn set_leading(&self, leading: bool) {
        self.0.leading.store(leading, Ordering::Relaxed);
        gauge!(INGEST_LEADING).set(if leading { 1.0 } else { 0.0 });
        self.change_problems(|_| ());
    }

    /// Sets or clears the failure that stops the reader.
    pub(super) fn set_stuck(&self, problem: Option<String>) {
        self.change_problems(|problems| problems.stuck = problem);
    }

    /// Sets or clears the failure to put bad entries aside.
    pub(super) fn rejects_stuck(&self, problem: Option<String>) {
        self.change_problems(|problems| problems.rejects = problem);
    }

    fn change_problems(&self, change: impl FnOnce(&mut IngestProblems)) {
        let mut problems = self.0.problems.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut problems);
        // The gauge alerts, so it follows the lease: a node that lost it is not the one to mend.
        let stuck = problems.stuck.is_some() && self.0.leading.load(Ordering::Relaxed);
        gauge!(INGEST_STUCK).set(if stuck { 1.0 } else { 0.0 });
    }

    /// Reads the lengths of the streams, for ever. While Redis cannot be reached the last ones stay.
    pub(super) async fn watch_lengths(&self, stream: IngestStream) {
        // Publishes the gauges at once, so that they exist on a node that never leads.
        self.set_leading(false);
        loop {
            if let Ok((waiting, rejected)) = stream.lengths().await {
                // One key may hold another type while the other is readable.
                if let Ok(waiting) = waiting {
                    self.0.waiting.store(waiting, Ordering::Relaxed);
                    gauge!(INGEST_WAITING).set(waiting as f64);
                }
                if let Ok(rejected) = rejected {
                    self.0.rejected.store(rejected, Ordering::Relaxed);
                }
            }
            sleep(LOOK).await;
        }
    }
}
