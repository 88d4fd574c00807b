//! How the ingest stream is, as this node sees it: for `/readyz`, metrics and people.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use metrics::gauge;
use tokio::time::sleep;

use super::stream::Stream;
use crate::metrics::{INGEST_LEADING, INGEST_STUCK, INGEST_WAITING};

/// Between two looks at how long the streams are: `XLEN` costs Redis nothing.
const LOOK: Duration = Duration::from_secs(2);

/// The ingest stream of a node.
#[derive(Clone, Debug, Default)]
pub struct Ingest(Arc<Seen>);

#[derive(Debug, Default)]
struct Seen {
    leading: AtomicBool,
    waiting: AtomicU64,
    rejected: AtomicU64,
    problems: Mutex<Problems>,
}

/// What is wrong while this node leads, and what mends it.
#[derive(Debug, Default)]
struct Problems {
    stuck: Option<String>,
    rejects: Option<String>,
}

/// How it is, for `/readyz`.
#[derive(Clone, Debug, serde::Serialize)]
pub struct IngestHealth {
    /// Whether the stream can be read, as far as this node would know: it is false on the node that leads and cannot go
    /// on. It does not make the node unready. What waits in the stream is late for everybody and lost to nobody; a node
    /// that turned its clients away for it would only add an outage, and one that cannot reach Redis is not ready by the
    /// broker's word.
    pub ready: bool,
    /// What is wrong and what mends it, on the node that leads. While only bad entries cannot be put aside, the others
    /// are published and `ready` is true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Whether this node is the one that reads the stream.
    pub leading: bool,
    /// Entries in the stream, a moment ago.
    pub waiting: u64,
    /// Entries in the stream of rejected ones, a moment ago.
    pub rejected: u64,
}

impl Ingest {
    /// How it is.
    #[must_use]
    pub fn health(&self) -> IngestHealth {
        let seen = &self.0;
        let leading = seen.leading.load(Ordering::Relaxed);
        let problems = seen.problems.lock().unwrap_or_else(PoisonError::into_inner);
        IngestHealth {
            ready: !leading || problems.stuck.is_none(),
            problem: problems.stuck.as_ref().or(problems.rejects.as_ref()).filter(|_| leading).cloned(),
            leading,
            waiting: seen.waiting.load(Ordering::Relaxed),
            rejected: seen.rejected.load(Ordering::Relaxed),
        }
    }

    pub(super) fn lead(&self, leading: bool) {
        self.0.leading.store(leading, Ordering::Relaxed);
        gauge!(INGEST_LEADING).set(if leading { 1.0 } else { 0.0 });
        self.change(|_| ());
    }

    /// Why it cannot go on, or that it can.
    pub(super) fn stuck(&self, problem: Option<String>) {
        self.change(|problems| problems.stuck = problem);
    }

    /// Why bad entries cannot be put aside, or that they can.
    pub(super) fn rejects_stuck(&self, problem: Option<String>) {
        self.change(|problems| problems.rejects = problem);
    }

    fn change(&self, change: impl FnOnce(&mut Problems)) {
        let mut problems = self.0.problems.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut problems);
        let stuck = problems.stuck.is_some() && self.0.leading.load(Ordering::Relaxed);
        gauge!(INGEST_STUCK).set(if stuck { 1.0 } else { 0.0 });
    }

    /// Looks at the lengths of the streams, for ever. While Redis is out of reach the last ones stay.
    pub(super) async fn watch(&self, stream: Stream) {
        self.lead(false);
        loop {
            if let Ok((waiting, rejected)) = stream.lengths().await {
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
