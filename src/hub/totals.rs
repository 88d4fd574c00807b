//! The totals of a node's rooms: how many members each has in all event loops together, and how many on other nodes. A
//! room's entry is shared by the loops that have it open. The table is asked when a room is opened or let go, never on the
//! way of an event.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hallway_rooms::key::Room;
use parking_lot::Mutex;

/// How many sessions are in a room.
#[derive(Debug, Default)]
pub struct RoomTotals {
    /// On this node.
    here: AtomicUsize,
    /// On other nodes, as last announced.
    elsewhere: AtomicUsize,
}

impl RoomTotals {
    /// How many sessions of this node are in the room.
    #[must_use]
    pub fn size(&self) -> usize {
        self.here.load(Ordering::Relaxed)
    }

    /// How many sessions of other nodes are in the room, as last announced.
    #[must_use]
    pub fn members_elsewhere(&self) -> usize {
        self.elsewhere.load(Ordering::Relaxed)
    }

    /// Notes how many sessions of other nodes are in the room.
    pub fn note_others(&self, others: usize) {
        self.elsewhere.store(others, Ordering::Relaxed);
    }

    /// How many sessions are in the room on all nodes, as far as is known.
    #[must_use]
    pub fn size_everywhere(&self) -> usize {
        self.size() + self.members_elsewhere()
    }

    pub(super) fn add_member(&self) {
        self.here.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn remove_member(&self) {
        self.here.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What the event loops of a node share of their rooms. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct NodeRooms {
    pub(super) totals: NodeTotals,
    /// Rooms whose size is to be announced: at most all that were open since the last announcement.
    changed: Arc<Mutex<HashSet<Room>>>,
    /// Loops that heal after a break of the event channel: the node has healed when none does.
    healing: Arc<AtomicUsize>,
}

impl NodeRooms {
    pub(super) fn mark_size_changed(&self, room: &Room) {
        self.changed.lock().insert(room.clone());
    }

    pub(super) fn mark_all_changed(&self, rooms: impl IntoIterator<Item = Room>) {
        self.changed.lock().extend(rooms);
    }

    /// A loop begins to heal after a break. True for the first one.
    pub(super) fn begin_healing(&self) -> bool {
        self.healing.fetch_add(1, Ordering::SeqCst) == 0
    }

    /// A loop has healed. True for the last one.
    pub(super) fn end_healing(&self) -> bool {
        self.healing.fetch_sub(1, Ordering::SeqCst) == 1
    }

    pub(super) fn take_changed(&self) -> Vec<Room> {
        self.changed.lock().drain().collect()
    }
}

/// The totals of all rooms that are open on the node. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct NodeTotals(Arc<Mutex<HashMap<Room, OpenTotals>>>);

#[derive(Debug, Default)]
struct OpenTotals {
    totals: Arc<RoomTotals>,
    /// Event loops that have the room open.
    loops: usize,
}

impl NodeTotals {
    /// Gives a room's totals, for a loop that opens it.
    pub(super) fn open_room(&self, room: &Room) -> Arc<RoomTotals> {
        let mut rooms = self.0.lock();
        let open = rooms.entry(room.clone()).or_default();
        open.loops += 1;
        open.totals.clone()
    }

    /// A loop has let a room go; the last one ends its totals.
    pub(super) fn let_go(&self, room: &Room) {
        let mut rooms = self.0.lock();
        let Some(open) = rooms.get_mut(room) else { return };
        open.loops -= 1;
        if open.loops == 0 {
            rooms.remove(room);
        }
    }

    pub(super) fn find(&self, room: &Room) -> Option<Arc<RoomTotals>> {
        self.0.lock().get(room).map(|open| open.totals.clone())
    }

    pub(super) fn count(&self) -> usize {
        self.0.lock().len()
    }

    pub(super) fn all_rooms(&self) -> Vec<Room> {
        self.0.lock().keys().cloned().collect()
    }

    pub(super) fn populated_rooms(&self) -> Vec<Room> {
        let rooms = self.0.lock();
        rooms.iter().filter(|(_, open)| open.totals.size() > 0).map(|(room, _)| room.clone()).collect()
    }

    /// How many sessions of this node are in a room.
    pub(super) fn size(&self, room: &Room) -> usize {
        self.find(room).map_or(0, |totals| totals.size())
    }
}
