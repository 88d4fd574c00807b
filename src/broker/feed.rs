//! The feed: the bounded way from a broker to the hub. It never blocks the broker; what does not fit is dropped and
//! confessed, because the hub can read it again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use metrics::{Counter, counter};
use tokio::sync::{Notify, mpsc};

use super::Feed;

/// The broker's end.
#[derive(Clone, Debug)]
pub struct FeedSender {
    items: mpsc::Sender<Feed>,
    broken: Arc<Broken>,
}

/// The hub's end.
#[derive(Debug)]
pub struct FeedReceiver {
    items: mpsc::Receiver<Feed>,
    broken: Arc<Broken>,
}

struct Broken {
    flag: AtomicBool,
    raised: Notify,
    dropped: Counter,
}

impl std::fmt::Debug for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Broken({})", self.flag.load(Ordering::Relaxed))
    }
}

/// A feed that holds at most `items`.
#[must_use]
pub fn feed(items: usize) -> (FeedSender, FeedReceiver) {
    let (to, from) = mpsc::channel(items.max(1));
    let dropped = counter!(crate::metrics::FEED_DROPPED);
    let broken = Arc::new(Broken { flag: AtomicBool::new(false), raised: Notify::new(), dropped });
    (FeedSender { items: to, broken: broken.clone() }, FeedReceiver { items: from, broken })
}

impl FeedSender {
    /// Passes an item on, or drops it and marks the feed as broken.
    pub fn offer(&self, item: Feed) {
        if self.items.try_send(item).is_err() {
            self.broken.dropped.increment(1);
            self.restored();
        }
    }

    /// Says that there was a break and that the histories must be read.
    pub fn restored(&self) {
        self.broken.flag.store(true, Ordering::Release);
        self.broken.raised.notify_one();
    }
}

impl FeedReceiver {
    /// The next item; a break goes first. None when the broker is gone.
    pub async fn recv(&mut self) -> Option<Feed> {
        loop {
            if self.broken.flag.swap(false, Ordering::AcqRel) {
                return Some(Feed::Restored);
            }
            tokio::select! {
                biased;
                () = self.broken.raised.notified() => {}
                item = self.items.recv() => return item,
            }
        }
    }
}
