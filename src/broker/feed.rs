//! The feed: the bounded way from a broker to the hub. It never blocks the broker; what does not fit is dropped and
//! confessed, because the hub can read it again.

use std::collections::HashSet;
use std::sync::Arc;

use hallway_rooms::key::Room;
use metrics::{Counter, counter};
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};

use super::Feed;

/// Rooms that are remembered one by one; beyond, all are read again.
const REMEMBERED: usize = 4096;

/// The broker's end.
#[derive(Clone, Debug)]
pub struct FeedSender {
    items: mpsc::Sender<Feed>,
    breaks: Arc<Breaks>,
}

/// The hub's end.
#[derive(Debug)]
pub struct FeedReceiver {
    items: mpsc::Receiver<Feed>,
    breaks: Arc<Breaks>,
}

/// What was dropped since the hub last asked.
struct Breaks {
    lost: Mutex<Lost>,
    raised: Notify,
    dropped: Counter,
}

#[derive(Debug, Default, PartialEq)]
enum Lost {
    #[default]
    Nothing,
    In(HashSet<Room>),
    Everywhere,
}

impl std::fmt::Debug for Breaks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Breaks({:?})", self.lost.lock())
    }
}

/// A feed that holds at most `items`.
#[must_use]
pub fn feed(items: usize) -> (FeedSender, FeedReceiver) {
    let (to, from) = mpsc::channel(items.max(1));
    let dropped = counter!(crate::metrics::FEED_DROPPED);
    let breaks = Arc::new(Breaks { lost: Mutex::default(), raised: Notify::new(), dropped });
    (FeedSender { items: to, breaks: breaks.clone() }, FeedReceiver { items: from, breaks })
}

impl FeedSender {
    /// Passes an item on, or drops it and notes in which rooms something is missing.
    pub fn offer(&self, item: Feed) {
        let Err(refused) = self.items.try_send(item) else { return };
        self.breaks.dropped.increment(1);
        if let Feed::Entry(entry) = refused.into_inner() {
            let stored = entry.places.into_iter().filter(|place| place.link.is_some());
            self.breaks.lost.lock().add(stored.map(|place| place.room));
            self.breaks.raised.notify_one();
        }
    }

    /// Says that there was a break and that every history must be read.
    pub fn restored(&self) {
        *self.breaks.lost.lock() = Lost::Everywhere;
        self.breaks.raised.notify_one();
    }
}

impl Lost {
    fn add(&mut self, rooms: impl Iterator<Item = Room>) {
        if *self == Self::Nothing {
            *self = Self::In(HashSet::new());
        }
        if let Self::In(known) = self {
            known.extend(rooms);
            if known.len() > REMEMBERED {
                *self = Self::Everywhere;
            }
        }
    }
}

impl FeedReceiver {
    /// The next item; a break goes first. None when the broker is gone.
    pub async fn recv(&mut self) -> Option<Feed> {
        loop {
            match std::mem::take(&mut *self.breaks.lost.lock()) {
                Lost::Nothing => {}
                Lost::In(rooms) => return Some(Feed::Missed(rooms.into_iter().collect())),
                Lost::Everywhere => return Some(Feed::Restored),
            }
            tokio::select! {
                biased;
                () = self.breaks.raised.notified() => {}
                item = self.items.recv() => return item,
            }
        }
    }
}
