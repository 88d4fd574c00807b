//! The backlog: rooms that are behind, and what waits for them. A calculation: the feed's task tells it what came, carries
//! out what it gives, and alone moves positions. Nothing in here waits, so a room that cannot be read, or is slow to read,
//! costs no other one anything.
//!
//! **A room lags** from the first sign that something is missing, or may be, until everything that is known of it has been
//! delivered. It then has a queue: entries in the order of its offsets, as they came by the feed or were read. The chain
//! says when the first of them is next. An entry that hangs on the position is delivered at once, also while the room is
//! being read: nothing can lie before it.
//!
//! **Several rooms.** An event of rooms A and B is one delivery for a member of both, so it must be next in both. Where a
//! session is in both, A waits for B at such an entry, and goes on when B has moved. Where none is, A does not wait: the
//! entry is delivered for A, and stays in B's queue. What holds for two holds for chains of rooms that share sessions
//! pairwise. Of a room in which the entry was delivered already, the position says so, and the session of a member that
//! has since come into both tells its second copy (`Session::arrived_by_another`).
//!
//! **Circles.** In histories that are whole the order of the broker is an order for all rooms, and no two wait for each
//! other. In damaged ones they may; then the oldest of the entries is delivered as if it were next, and what is left before
//! it comes late.
//!
//! **Gaps.** A read covers a room up to the last offset that the broker had. An entry within that whose predecessor is not
//! there has lost it: the room is cut, which costs its members their transports. Behind that, the room is read on. What came
//! by the feed before a read began, and is newer than all that this read found, was never stored, or is lost: it is
//! disowned, as is whatever lies in the future of the broker (a plain `PUBLISH` may say anything) until a history has it.
//!
//! **Bounds.** A queue takes no more from the feed than [`QUEUED`] entries and [`QUEUED_BYTES`], all queues no more than
//! [`BYTES`]; what does not fit is read again. Reads are begun first come, first served, [`READS`] at a time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use hallway_rooms::entry::{ChainLink, Entry};
use hallway_rooms::event::EventId;
use hallway_rooms::key::Room;
use hallway_rooms::limits::PAGE_BYTES;
use hallway_rooms::offset::Offset;
use hallway_rooms::position::Arrival;
use tokio::time::Instant;

mod order;
mod reads;
#[cfg(test)]
mod tests;

/// Reads of rooms in flight: ten thousand rooms take seconds, and a few slow ones leave places for the others.
pub(super) const READS: usize = 64;
/// Entries from the feed that wait in one room: more than come while a page is read.
const QUEUED: usize = 1024;
/// And their bytes: as many as a page has.
const QUEUED_BYTES: usize = PAGE_BYTES;
/// Bytes that wait in all rooms together: all reads at once.
const BYTES: usize = READS * PAGE_BYTES;
/// What an entry takes up beside its text.
const ENTRY: usize = 512;

/// Between a failed read of a room and the next one: at first, and at the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// A room that cannot be read for so long while the broker is well is given up: longer than it takes to notice that the
/// broker is not.
const PATIENCE: Duration = Duration::from_secs(1);

/// What the backlog knows of the rooms, and does to them.
pub(super) trait Rooms {
    /// What an entry is to a room; none where the room is not open here.
    fn judge_arrival(&self, room: &Room, link: ChainLink, id: &EventId) -> Option<Arrival>;
    /// Everything up to here was delivered in a room.
    fn delivered_offset(&self, room: &Room) -> Option<Offset>;
    /// Whether a session here is in both rooms.
    fn share_member(&self, one: &Room, other: &Room) -> bool;
    /// Moves a room's position over an entry that was delivered before.
    fn pass_over(&self, room: &Room, link: ChainLink, id: &EventId);
    /// What lies before `to` is lost: the room goes on from there, and its members are told.
    fn skip_lost(&self, room: &Room, to: Offset);
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    lags: HashMap<Room, LaggingRoom>,
    work: VecDeque<Room>,
    wanted: VecDeque<Room>,
    later: BinaryHeap<Reverse<(Instant, Room)>>,
    /// Reads so far, and how many are in flight.
    reads: u64,
    running: usize,
    bytes: usize,
    unconfirmed: Vec<Arc<Entry>>,
}

/// A room that is behind.
#[derive(Debug, Default)]
struct LaggingRoom {
    queue: BTreeMap<Offset, WaitingEntry>,
    bytes: usize,
    read: ReadState,
    /// The history has been read up to here.
    covered: Option<Offset>,
    /// More is to be read: from the cursor, or else from the position.
    more: bool,
    cursor: Option<Offset>,
    is_queued: bool,
    blocked_by: Option<Room>,
    waiters: HashSet<Room>,
    failures: u32,
    failing_since: Option<Instant>,
}

#[derive(Debug)]
struct WaitingEntry {
    entry: Arc<Entry>,
    /// Reads that had begun when it came.
    reads: u64,
    trust: EntryTrust,
}

/// Why an entry is taken for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EntryTrust {
    /// It says so itself, and is not delivered before a history has it.
    Claimed,
    /// It came by the feed as entries do.
    Heard,
    /// A history has it.
    Read,
}

/// Where a room stands with its reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum ReadState {
    #[default]
    No,
    Wanted,
    Later,
    Running {
        number: u64,
        /// Whether another one is to follow: something happened that this one may have come too early for.
        again: bool,
    },
}

/// A read that is to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PendingRead {
    pub(super) room: Room,
    number: u64,
    /// From where on, if not from the room's position.
    pub(super) from: Option<Offset>,
}

/// What was read of a room.
#[derive(Debug)]
pub(super) struct HealedPage {
    pub(super) entries: Vec<Entry>,
    /// The room's last offset as of the same instant.
    pub(super) last: Option<Offset>,
    pub(super) has_more: bool,
}

/// An entry to be delivered before the backlog is asked again.
#[derive(Clone, Debug)]
pub(super) struct QueuedEntry {
    pub(super) entry: Arc<Entry>,
    /// For which of its places, and whether it comes late there.
    pub(super) places: Vec<(usize, bool)>,
    /// Whether it was or will be delivered for another of its rooms by itself.
    pub(super) is_apart: bool,
    /// Whether no other of its rooms has had it.
    pub(super) is_first: bool,
}

/// What becomes of a room whose read failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadFailure {
    /// It is tried again; the first time in a row this is worth a word.
    Later { first: bool },
    /// It costs its members their transports.
    GiveUp,
}

impl Backlog {
    /// Whether a room is behind.
    pub(super) fn is_behind(&self, room: &Room) -> bool {
        !self.lags.is_empty() && self.lags.contains_key(room)
    }

    /// Whether no room is.
    pub(super) fn is_empty(&self) -> bool {
        self.lags.is_empty()
    }

    /// Whether [`next`](Self::next) may give something.
    pub(super) fn has_work(&self) -> bool {
        !self.work.is_empty()
    }

    /// Has a room read from its position on, by a read that begins from now on.
    pub(super) fn request_read(&mut self, room: &Room) {
        let lag = self.lags.entry(room.clone()).or_default();
        match &mut lag.read {
            ReadState::Running { again, .. } => *again = true,
            ReadState::No => {
                lag.read = ReadState::Wanted;
                self.wanted.push_back(room.clone());
            }
            ReadState::Wanted | ReadState::Later => {}
        }
    }

    /// Has a room read from a place before its position on.
    pub(super) fn want_from(&mut self, room: &Room, from: Offset) {
        let lag = self.lags.entry(room.clone()).or_default();
        (lag.cursor, lag.covered) = (Some(from), None);
        self.request_read(room);
    }

    /// Takes in an entry that came by the feed. One that is not trusted waits until a history has it.
    pub(super) fn add_arrival(&mut self, entry: &Arc<Entry>, trust: EntryTrust, rooms: &impl Rooms) {
        for place in &entry.places {
            let Some(link) = place.link() else { continue };
            let arrival = rooms.judge_arrival(&place.room, link, &entry.id);
            if matches!(arrival, None | Some(Arrival::Seen)) {
                continue;
            }
            self.enqueue(&place.room, link.offset, entry, trust);
            if arrival == Some(Arrival::Gap) || trust == EntryTrust::Claimed {
                self.request_read(&place.room);
            }
            self.work_on(&place.room);
        }
    }

    /// Whether it does not wait there yet.
    fn enqueue(&mut self, room: &Room, offset: Offset, entry: &Arc<Entry>, trust: EntryTrust) -> bool {
        let reads = self.reads;
        let weight = entry_bytes(entry);
        let lag = self.lags.entry(room.clone()).or_default();
        if lag.queue.contains_key(&offset) {
            return false;
        }
        let is_full = lag.queue.len() >= QUEUED || lag.bytes + weight > QUEUED_BYTES;
        // One that finds nothing else is taken: it may be all that its room waits for.
        if !lag.queue.is_empty() && (is_full || self.bytes + weight > BYTES) {
            lag.more = true;
            if let ReadState::Running { again, .. } = &mut lag.read {
                *again = true;
            }
            return false;
        }
        lag.bytes += weight;
        self.bytes += weight;
        lag.queue.insert(offset, WaitingEntry { entry: entry.clone(), reads, trust });
        true
    }

    /// Lets go of a room that is closed: nothing waits for it any more.
    pub(super) fn forget(&mut self, room: &Room) {
        let Some(lag) = self.lags.remove(room) else { return };
        self.bytes -= lag.bytes;
        for waiter in lag.waiters {
            self.work_on(&waiter);
        }
    }

    /// What was taken for an entry and is none, since this was last asked.
    pub(super) fn take_unconfirmed(&mut self) -> Vec<Arc<Entry>> {
        std::mem::take(&mut self.unconfirmed)
    }

    fn drop_from(&mut self, room: &Room, at: Offset) -> Option<Arc<Entry>> {
        let lag = self.lags.get_mut(room)?;
        let waiting = lag.queue.remove(&at)?;
        lag.bytes -= entry_bytes(&waiting.entry);
        self.bytes -= entry_bytes(&waiting.entry);
        Some(waiting.entry)
    }

    fn work_on(&mut self, room: &Room) {
        if let Some(lag) = self.lags.get_mut(room).filter(|lag| !lag.is_queued) {
            lag.is_queued = true;
            self.work.push_back(room.clone());
        }
    }

    /// A room has moved, so others may go on.
    fn wake_waiters(&mut self, room: &Room) {
        self.work_on(room);
        let waiters = self.lags.get_mut(room).map(|lag| std::mem::take(&mut lag.waiters)).unwrap_or_default();
        for waiter in waiters {
            self.work_on(&waiter);
        }
    }
}

fn entry_bytes(entry: &Entry) -> usize {
    entry.text.len() + ENTRY
}
