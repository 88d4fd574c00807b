//! Expiry: at a token's `exp` the transport is closed, without `41`, so that the client comes back with a new one.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use hallway_rooms::close::Close;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::clock::now_ms;
use crate::session::Session;

/// The longest sleep: the wall clock may be set meanwhile.
const LONGEST: Duration = Duration::from_secs(10);

/// Every session's end, on one timer.
#[derive(Clone, Debug, Default)]
pub struct Expiry(Arc<Ends>);

#[derive(Default)]
struct Ends {
    heap: Mutex<BinaryHeap<Reverse<End>>>,
    earlier: Notify,
}

struct End {
    at_ms: u64,
    session: Weak<Session>,
}

impl Expiry {
    /// Closes `session` when its token ends.
    pub fn watch(&self, session: &Arc<Session>) {
        let end = End { at_ms: session.claims().expires_ms, session: Arc::downgrade(session) };
        let mut heap = self.0.heap.lock();
        let first = heap.peek().is_none_or(|Reverse(next)| end.at_ms < next.at_ms);
        heap.push(Reverse(end));
        if first {
            self.0.earlier.notify_one();
        }
    }

    /// Closes sessions until `stop`.
    pub async fn run(&self, stop: CancellationToken) {
        loop {
            let wait = self.close_due(now_ms());
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.0.earlier.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Closes what is due and says how long until the next. Entries of sessions that are gone are dropped on the way.
    fn close_due(&self, now_ms: u64) -> Duration {
        let mut heap = self.0.heap.lock();
        while let Some(Reverse(next)) = heap.peek() {
            let session = next.session.upgrade().filter(|s| !s.is_finished());
            match session {
                None => {}
                Some(session) if next.at_ms <= now_ms => session.close(Close::TokenExpired),
                Some(_) => return Duration::from_millis(next.at_ms - now_ms).min(LONGEST),
            }
            heap.pop();
        }
        LONGEST
    }
}

impl std::fmt::Debug for Ends {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ends({})", self.heap.lock().len())
    }
}

impl PartialEq for End {
    fn eq(&self, other: &Self) -> bool {
        self.at_ms == other.at_ms
    }
}

impl Eq for End {}

impl PartialOrd for End {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for End {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at_ms.cmp(&other.at_ms)
    }
}
