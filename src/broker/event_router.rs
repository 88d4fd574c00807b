//! The event router: hands what a broker passes on to the event loops that have asked for it. An entry is parsed once and
//! shared. Nothing is queued here and nothing waits: each loop has an event channel of its own, which drops what it cannot
//! hold, so that a loop that is behind holds up no other.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use hallway_rooms::entry::Entry;
use hallway_rooms::key::Room;
use parking_lot::{Mutex, RwLock};

use super::event_channel::EventSender;
use super::{Broker, ChannelEvent};

/// The way from a broker to the event loops. Clones share it.
#[derive(Clone)]
pub struct EventRouter(Arc<RouterShared>);

struct RouterShared {
    /// The event channels, by the index of their loop.
    channels: Vec<EventSender>,
    /// The loops that have each room open; unused with a single loop, which gets everything.
    subscribed: RwLock<HashMap<Room, OpenRoom>>,
    /// Held while the last loop of a room leaves it, so that no other one subscribes between its look and its request.
    changes: Mutex<()>,
}

/// What is known of a room that a loop has open.
#[derive(Clone, Copy, Debug, Default)]
struct OpenRoom {
    loops: LoopSet,
    /// Whether the broker has confirmed the node's subscription.
    is_confirmed: bool,
}

/// A set of event loops, a bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct LoopSet(u64);

impl LoopSet {
    fn of(event_loop: usize) -> Self {
        Self(1 << event_loop)
    }

    fn iter(self) -> impl Iterator<Item = usize> {
        (0..64).filter(move |event_loop| self.0 & (1 << event_loop) != 0)
    }
}

impl fmt::Debug for EventRouter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EventRouter({} loops)", self.0.channels.len())
    }
}

impl From<EventSender> for EventRouter {
    /// A router to a single loop.
    fn from(channel: EventSender) -> Self {
        Self::new(vec![channel])
    }
}

impl EventRouter {
    /// Most event loops of a node.
    pub const MOST_LOOPS: usize = 64;

    /// Makes a router to these event channels, one of each loop, at most [`MOST_LOOPS`](Self::MOST_LOOPS).
    #[must_use]
    pub fn new(channels: Vec<EventSender>) -> Self {
        Self(Arc::new(RouterShared { channels, subscribed: RwLock::default(), changes: Mutex::default() }))
    }

    /// Hands an entry to the loops that have one of its rooms open.
    pub fn route_entry(&self, entry: Entry) {
        let entry = Arc::new(entry);
        // A single loop needs no look: the broker passes on what the node has subscribed to.
        if let [only] = self.0.channels.as_slice() {
            return only.send_or_drop(ChannelEvent::Entry(entry));
        }
        for event_loop in self.loops_of(&entry).iter() {
            self.0.channels[event_loop].send_or_drop(ChannelEvent::Entry(entry.clone()));
        }
    }

    /// Reports a break, after which every loop compares its rooms with the broker.
    pub fn report_break(&self) {
        self.0.channels.iter().for_each(EventSender::report_break);
    }

    /// Whether several loops have a room open.
    pub(super) fn is_shared(&self, room: &Room) -> bool {
        self.0.subscribed.read().get(room).is_some_and(|open| open.loops.0.count_ones() > 1)
    }

    /// Notes that a loop wants a room's entries, before the broker is asked for them: none that follows its confirmation
    /// passes the loop by. True if the node is subscribed already, for another loop.
    pub(super) fn add_loop(&self, room: &Room, event_loop: usize) -> bool {
        let _changes = self.0.changes.lock();
        let mut subscribed = self.0.subscribed.write();
        let open = subscribed.entry(room.clone()).or_default();
        open.loops.0 |= LoopSet::of(event_loop).0;
        open.is_confirmed
    }

    /// Notes that the broker has confirmed a subscription that a loop asked for.
    pub(super) fn confirm_subscription(&self, room: &Room) {
        if let Some(open) = self.0.subscribed.write().get_mut(room) {
            open.is_confirmed = true;
        }
    }

    /// Notes that a loop has let a room go, and unsubscribes the node behind the last one. False if the broker has no place
    /// for the request: then nothing has changed.
    pub(super) fn remove_loop(&self, room: &Room, event_loop: usize, broker: &dyn Broker) -> bool {
        let _changes = self.0.changes.lock();
        // The lock of the table is not held over the request: the embedded broker routes entries under a lock of its own.
        let open = self.0.subscribed.read().get(room).copied().unwrap_or_default();
        let others = LoopSet(open.loops.0 & !LoopSet::of(event_loop).0);
        if others != LoopSet::default() {
            self.0.subscribed.write().insert(room.clone(), OpenRoom { loops: others, ..open });
            return true;
        }
        let is_requested = broker.unsubscribe(room);
        if is_requested {
            self.0.subscribed.write().remove(room);
        }
        is_requested
    }

    fn loops_of(&self, entry: &Entry) -> LoopSet {
        let subscribed = self.0.subscribed.read();
        let of_room = |room| subscribed.get(room).map_or(0, |open: &OpenRoom| open.loops.0);
        LoopSet(entry.places.iter().fold(0, |loops, place| loops | of_room(&place.room)))
    }
}
