//! How the ingest stream is, as this node sees it: for `/readyz`, metrics and people.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use metrics::gauge;
use tokio::time::sleep;

use super::stream::Stream;
use crate::metrics::{INGEST_LEADING, INGEST_WAITING};

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
}

/// How it is, for `/readyz`.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct IngestHealth {
    /// Always. What waits in the stream is late for everybody and lost to nobody; a node that turned its clients away
    /// for it would only add an outage, and one that cannot reach Redis is not ready by the broker's word.
    pub ready: bool,
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
        IngestHealth {
            ready: true,
            leading: seen.leading.load(Ordering::Relaxed),
            waiting: seen.waiting.load(Ordering::Relaxed),
            rejected: seen.rejected.load(Ordering::Relaxed),
        }
    }

    pub(super) fn lead(&self, leading: bool) {
        self.0.leading.store(leading, Ordering::Relaxed);
        gauge!(INGEST_LEADING).set(if leading { 1.0 } else { 0.0 });
    }

    /// Looks at the lengths of the streams, for ever. While Redis is out of reach the last ones stay.
    pub(super) async fn watch(&self, stream: Stream) {
        self.lead(false);
        loop {
            if let Ok((waiting, rejected)) = stream.lengths().await {
                self.0.waiting.store(waiting, Ordering::Relaxed);
                self.0.rejected.store(rejected, Ordering::Relaxed);
                gauge!(INGEST_WAITING).set(waiting as f64);
            }
            sleep(LOOK).await;
        }
    }
}
