//! The event channel: the bounded queue from a broker to the hub. It never blocks the broker. Entries that do not fit
//! are dropped and their rooms are reported, because the hub can read those rooms' histories.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hallway_rooms::entry::Retained;
use hallway_rooms::key::Room;
use metrics::{Counter, counter};
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};

use super::ChannelEvent;

/// Rooms with a loss that are remembered individually. Beyond that, all rooms are read again.
const REMEMBERED: usize = 4096;

/// Estimated bytes of an item beside its text.
const ITEM: usize = 512;

/// The broker's end. Clones share the queue.
#[derive(Clone, Debug)]
pub struct EventSender {
    items: mpsc::Sender<ChannelEvent>,
    bytes: Arc<QueuedBytes>,
    breaks: Arc<DroppedEvents>,
}

/// The hub's end.
#[derive(Debug)]
pub struct EventReceiver {
    items: mpsc::Receiver<ChannelEvent>,
    bytes: Arc<QueuedBytes>,
    breaks: Arc<DroppedEvents>,
    /// Items that were queued when the last break was reported. They are delivered before the next break.
    waiting: usize,
}

/// Bytes of the queued items, and their bound.
#[derive(Debug)]
struct QueuedBytes {
    waiting: AtomicUsize,
    most: usize,
}

/// The losses since the hub last asked.
struct DroppedEvents {
    /// Rooms with a loss. A set, since one busy room may lose thousands of entries.
    lost: Mutex<DropKind>,
    /// Wakes the hub although the item queue is full.
    raised: Notify,
    /// Counts dropped items.
    dropped: Counter,
}

#[derive(Debug, Default, PartialEq)]
enum DropKind {
    #[default]
    Nothing,
    In(HashSet<Room>),
    Everywhere,
}

impl std::fmt::Debug for DroppedEvents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Breaks({:?})", self.lost.lock())
    }
}

/// Makes an event channel of at most `items` items, unbounded in bytes.
#[must_use]
pub fn event_channel(items: usize) -> (EventSender, EventReceiver) {
    event_channel_within(items, usize::MAX)
}

/// Makes an event channel of at most `items` items and `bytes` bytes. A single item of any size fits.
#[must_use]
pub fn event_channel_within(items: usize, bytes: usize) -> (EventSender, EventReceiver) {
    let (to, from) = mpsc::channel(items.max(1));
    let bytes = Arc::new(QueuedBytes { waiting: AtomicUsize::new(0), most: bytes });
    let dropped = counter!(crate::metrics::FEED_DROPPED);
    let breaks = Arc::new(DroppedEvents { lost: Mutex::default(), raised: Notify::new(), dropped });
    (
        EventSender { items: to, bytes: bytes.clone(), breaks: breaks.clone() },
        EventReceiver { items: from, bytes, breaks, waiting: 0 },
    )
}

impl EventSender {
    /// Queues an item, or drops it and records the rooms with a loss.
    pub fn send_or_drop(&self, item: ChannelEvent) {
        let weight = queued_bytes(&item);
        // Added before the send, since the hub may take the item at once.
        let refused = if self.bytes.try_add_bytes(weight) {
            let Err(refused) = self.items.try_send(item) else { return };
            self.bytes.remove_bytes(weight);
            refused.into_inner()
        } else {
            item
        };
        self.breaks.dropped.increment(1);
        if let ChannelEvent::Entry(entry) = refused {
            // An ephemeral place has no history to read, so there is nothing to heal.
            let kept = entry.places.iter().filter(|place| place.keep != Retained::Nothing);
            self.breaks.lost.lock().add(kept.map(|place| place.room.clone()));
            self.breaks.raised.notify_one();
        }
    }

    /// Reports a break after which every history must be read.
    pub fn report_break(&self) {
        *self.breaks.lost.lock() = DropKind::Everywhere;
        self.breaks.raised.notify_one();
    }
}

impl QueuedBytes {
    /// Adds bytes, if they fit or nothing is queued.
    fn try_add_bytes(&self, bytes: usize) -> bool {
        let before = self.waiting.fetch_add(bytes, Ordering::Relaxed);
        // An event larger than the bound must still pass, or its room would never get it live.
        let fits = before == 0 || before.saturating_add(bytes) <= self.most;
        if !fits {
            self.remove_bytes(bytes);
        }
        fits
    }

    fn remove_bytes(&self, bytes: usize) {
        self.waiting.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// The bytes that an item counts for.
fn queued_bytes(item: &ChannelEvent) -> usize {
    match item {
        ChannelEvent::Entry(entry) => entry.text.len() + ITEM,
        ChannelEvent::Missed(_) | ChannelEvent::Restored => ITEM,
    }
}

impl DropKind {
    fn add(&mut self, rooms: impl Iterator<Item = Room>) {
        if *self == Self::Nothing {
            *self = Self::In(HashSet::new());
        }
        // `Everywhere` covers every room already.
        if let Self::In(known) = self {
            known.extend(rooms);
            if known.len() > REMEMBERED {
                *self = Self::Everywhere;
            }
        }
    }
}

impl EventReceiver {
    /// The next item. A break goes first, but not before the items that were queued at the last break. Otherwise a
    /// queue that stays full would never be emptied, because nothing is taken from it while histories are read. None
    /// when the broker is gone.
    pub async fn recv(&mut self) -> Option<ChannelEvent> {
        loop {
            if let Some(told) = self.take_break() {
                return Some(told);
            }
            tokio::select! {
                // A break is checked before the queue: it must not wait behind a backlog of items.
                biased;
                () = self.breaks.raised.notified() => {}
                item = self.items.recv() => return item.map(|item| self.note_taken(item)),
            }
        }
    }

    /// The next item, as [`recv`](Self::recv) would give it, if one waits already.
    pub fn try_recv(&mut self) -> Option<ChannelEvent> {
        if let Some(told) = self.take_break() {
            return Some(told);
        }
        self.items.try_recv().ok().map(|item| self.note_taken(item))
    }

    fn note_taken(&mut self, item: ChannelEvent) -> ChannelEvent {
        self.waiting = self.waiting.saturating_sub(1);
        self.bytes.remove_bytes(queued_bytes(&item));
        item
    }

    fn take_break(&mut self) -> Option<ChannelEvent> {
        // See `recv`: the queue is drained between two breaks.
        if self.waiting > 0 {
            return None;
        }
        let told = self.take_losses()?;
        // These items must be taken before another break is reported.
        self.waiting = self.items.len();
        Some(told)
    }

    fn take_losses(&self) -> Option<ChannelEvent> {
        match std::mem::take(&mut *self.breaks.lost.lock()) {
            DropKind::Nothing => None,
            DropKind::In(rooms) => Some(ChannelEvent::Missed(rooms.into_iter().collect())),
            DropKind::Everywhere => Some(ChannelEvent::Restored),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hallway_rooms::class::{Classes, Retention};
    use hallway_rooms::entry::Entry;

    use super::*;

    fn entry(n: u64) -> ChannelEvent {
        let retention = Retention { max_events: 9, ttl: Duration::from_secs(9) };
        let classes = Classes::built_in(retention, Duration::from_secs(99));
        let text = format!("1 e{n} 1 0 order:{n} {n}-0 0-0\n{{}}");
        ChannelEvent::Entry(Arc::new(Entry::parse(text.as_bytes(), &classes).expect("an entry")))
    }

    async fn next(from: &mut EventReceiver) -> String {
        match from.recv().await.expect("the sender is there") {
            ChannelEvent::Entry(entry) => entry.id.to_string(),
            ChannelEvent::Missed(rooms) => format!("missed in {} room", rooms.len()),
            ChannelEvent::Restored => "restored".to_owned(),
        }
    }

    #[tokio::test]
    async fn what_waits_gets_its_turn_between_two_breaks() {
        let (to, mut from) = event_channel(2);
        (1..=3).for_each(|n| to.send_or_drop(entry(n)));
        assert_eq!(next(&mut from).await, "missed in 1 room");
        to.send_or_drop(entry(4));
        assert_eq!([next(&mut from).await, next(&mut from).await], ["e1", "e2"]);
        assert_eq!(next(&mut from).await, "missed in 1 room");
        to.send_or_drop(entry(5));
        assert_eq!(next(&mut from).await, "e5");
        to.report_break();
        assert_eq!(next(&mut from).await, "restored");
    }

    #[tokio::test]
    async fn what_waits_already_is_taken_in_the_same_order_and_no_more_is_waited_for() {
        let (to, mut from) = event_channel(2);
        assert!(from.try_recv().is_none());
        (1..=3).for_each(|n| to.send_or_drop(entry(n)));
        assert!(matches!(from.try_recv(), Some(ChannelEvent::Missed(rooms)) if rooms.len() == 1));
        assert!(matches!(from.try_recv(), Some(ChannelEvent::Entry(first)) if first.id.as_str() == "e1"));
        to.report_break();
        assert!(matches!(from.try_recv(), Some(ChannelEvent::Entry(second)) if second.id.as_str() == "e2"));
        assert!(matches!(from.try_recv(), Some(ChannelEvent::Restored)));
        assert!(from.try_recv().is_none());
        drop(to);
        assert!(from.recv().await.is_none());
    }

    #[tokio::test]
    async fn what_waits_is_bounded_in_bytes_and_one_of_any_size_fits() {
        let large = |n: u64| {
            let ChannelEvent::Entry(mut entry) = entry(n) else { panic!("an entry") };
            Arc::make_mut(&mut entry).text = vec![b'x'; 1000];
            ChannelEvent::Entry(entry)
        };
        let (to, mut from) = event_channel_within(100, 4000);
        (1..=3).for_each(|n| to.send_or_drop(large(n)));
        assert_eq!(next(&mut from).await, "missed in 1 room");
        assert_eq!([next(&mut from).await, next(&mut from).await], ["e1", "e2"]);
        to.send_or_drop(large(4));
        assert_eq!(next(&mut from).await, "e4");
        let (to, mut from) = event_channel_within(100, 10);
        to.send_or_drop(large(5));
        assert_eq!(next(&mut from).await, "e5");
    }
}
