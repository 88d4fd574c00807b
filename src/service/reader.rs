//! Reading the histories of several rooms as one: every event once, in an order that agrees with each room's own
//! (`rooms/src/merge.rs`). A room is read further when its queue runs empty, so that at most a page of each is held.

use futures_util::future::try_join_all;
use hallway_rooms::history::Start;
use hallway_rooms::key::Room;
use hallway_rooms::limits::PAGE_EVENTS;
use hallway_rooms::merge::Merge;
use hallway_rooms::offset::Offset;

use super::{Service, page};
use crate::broker::{HistoryRequest, Resumed, SharedEntry, Unavailable};

/// Rooms opened or read at once for one session: few enough that other sessions are not held up.
pub(super) const AT_ONCE: usize = 8;

/// The fewest events read of a room at once, however many rooms there are: what brokers fetch in one step.
const FEWEST: usize = 64;

/// The fewest bytes kept of such a read. With less the same events would be fetched again and again.
const LEAST_BYTES: usize = 64 * 1024;

/// The merged reader. Rooms have numbers from 0, in the order in which they were added.
#[derive(Debug)]
pub(super) struct MergedReader {
    /// The order across rooms, and how far each is read and delivered.
    pub(super) merge: Merge<SharedEntry>,
    /// The room of each number.
    rooms: Vec<Room>,
    /// Bound of one read.
    share: ReadShare,
}

/// A room's fair share of one page.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReadShare {
    events: usize,
    bytes: usize,
}

impl ReadShare {
    /// The share of one of `rooms` rooms, which make a page of at most `bytes` together.
    pub(super) fn for_rooms(rooms: usize, bytes: usize) -> Self {
        let rooms = rooms.max(1);
        Self { events: (PAGE_EVENTS / rooms).max(FEWEST), bytes: (bytes / rooms).max(LEAST_BYTES.min(bytes)) }
    }
}

impl MergedReader {
    pub(super) fn new(share: ReadShare) -> Self {
        Self { merge: Merge::default(), rooms: Vec::new(), share }
    }

    /// Adds a room that has been delivered up to `sent`. Returns its number.
    pub(super) fn add(&mut self, room: Room, sent: Offset) -> usize {
        self.rooms.push(room.clone());
        self.merge.add(room, sent)
    }

    /// Adds a room that begins at its head.
    pub(super) fn add_at(&mut self, room: Room, head: Offset) -> usize {
        let number = self.add(room, head);
        self.merge.fill_room(number, Vec::new(), false, head);
        number
    }

    /// Adds a room with the first page after `sent`.
    pub(super) fn add_read(&mut self, room: Room, sent: Offset, history: Resumed) -> usize {
        let number = self.add(room, sent);
        // An offset above the head was never assigned by this broker, or the broker lost its newest events.
        self.merge.set_back(number, history.facts.head());
        self.fill_room(number, history);
        number
    }

    /// Adds a page to a room.
    fn fill_room(&mut self, room: usize, history: Resumed) {
        let head = history.facts.head();
        self.merge.fill_room(room, history.entries, history.has_more, head);
    }

    pub(super) fn rooms(&self) -> &[Room] {
        &self.rooms
    }
}

impl Service {
    /// Reads a page of a room's history, no larger than its share.
    pub(super) async fn read_share(&self, room: &Room, from: Start, share: ReadShare) -> Result<Resumed, Unavailable> {
        let portion = HistoryRequest { from, events: share.events, bytes: share.bytes };
        let mut history = self.0.broker.read_for_client(room, portion).await?;
        page::forget_the_future(&mut history, from);
        Ok(history)
    }

    /// Reads the rooms that are due. Returns the numbers of those with a gap.
    pub(super) async fn read_on(&self, reader: &mut MergedReader) -> Result<Vec<usize>, Unavailable> {
        let mut torn = Vec::new();
        for some in reader.merge.rooms_to_read().chunks(AT_ONCE) {
            let reads = some.iter().map(|room| {
                let from = Start::After(reader.merge.read_offset(*room));
                self.read_share(&reader.rooms[*room], from, reader.share)
            });
            // A failed batch adds nothing to the merge, so the same rooms are due again at the retry.
            for (room, history) in some.iter().zip(try_join_all(reads).await?) {
                // Behind the first page a gap means that the history was trimmed between two reads.
                torn.extend((!history.complete).then_some(*room));
                reader.fill_room(*room, history);
            }
        }
        Ok(torn)
    }
}
