//! Reading the histories of several rooms as one: every event once, in an order that is every room's own
//! (`rooms/src/merge.rs`). A room is read on when its turn comes, so that no more is held than a page of each.

use futures_util::future::try_join_all;
use hallway_rooms::history::From;
use hallway_rooms::key::Room;
use hallway_rooms::limits::PAGE_EVENTS;
use hallway_rooms::merge::Merge;
use hallway_rooms::offset::Offset;

use super::{Service, page};
use crate::broker::{Portion, Resumed, Shared, Unavailable};

/// Rooms opened or read at once for one session: not so many that it holds up others.
pub(super) const AT_ONCE: usize = 8;

/// The fewest events read of a room at once, however many rooms there are: what brokers fetch in one step.
const FEWEST: usize = 64;

/// The least that is kept of such a read: less would have the same events fetched again and again.
const LEAST_BYTES: usize = 64 * 1024;

/// See the module. Rooms have numbers, from 0, in the order in which they were added.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) merge: Merge<Shared>,
    rooms: Vec<Room>,
    share: Share,
}

/// The most that is read of a room at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    events: usize,
    bytes: usize,
}

impl Share {
    /// Of one of so many rooms, which make a page of at most `bytes` together.
    pub(super) fn of(rooms: usize, bytes: usize) -> Self {
        let rooms = rooms.max(1);
        Self { events: (PAGE_EVENTS / rooms).max(FEWEST), bytes: (bytes / rooms).max(LEAST_BYTES.min(bytes)) }
    }
}

impl Reader {
    pub(super) fn new(share: Share) -> Self {
        Self { merge: Merge::default(), rooms: Vec::new(), share }
    }

    /// Takes in a room of which everything up to `told` has been told. Gives its number.
    pub(super) fn add(&mut self, room: Room, told: Offset) -> usize {
        self.rooms.push(room.clone());
        self.merge.add(room, told)
    }

    /// Takes in a room that begins at its head.
    pub(super) fn add_at(&mut self, room: Room, head: Offset) -> usize {
        let number = self.add(room, head);
        self.merge.fill(number, Vec::new(), false, head);
        number
    }

    /// Takes in a room with the first page behind what was told of it.
    pub(super) fn add_read(&mut self, room: Room, told: Offset, history: Resumed) -> usize {
        let number = self.add(room, told);
        // A place newer than the head was never given by this broker, or what it gave is lost.
        self.merge.set_back(number, history.facts.head());
        self.fill(number, history);
        number
    }

    /// Takes in what was read of a room.
    fn fill(&mut self, room: usize, history: Resumed) {
        let head = history.facts.head();
        self.merge.fill(room, history.entries, history.has_more, head);
    }

    pub(super) fn rooms(&self) -> &[Room] {
        &self.rooms
    }
}

impl Service {
    /// A page of a room's history, no larger than its share.
    pub(super) async fn read_share(&self, room: &Room, from: From, share: Share) -> Result<Resumed, Unavailable> {
        let portion = Portion { from, events: share.events, bytes: share.bytes };
        let mut history = self.0.broker.resume(room, portion).await?;
        page::forget_the_future(&mut history, from);
        Ok(history)
    }

    /// Reads the rooms on whose turn it is. Gives those of which something is missing.
    pub(super) async fn read_on(&self, reader: &mut Reader) -> Result<Vec<usize>, Unavailable> {
        let mut torn = Vec::new();
        for some in reader.merge.due().chunks(AT_ONCE) {
            let reads = some.iter().map(|room| {
                let from = From::After(reader.merge.known(*room));
                self.read_share(&reader.rooms[*room], from, reader.share)
            });
            for (room, history) in some.iter().zip(try_join_all(reads).await?) {
                torn.extend((!history.complete).then_some(*room));
                reader.fill(*room, history);
            }
        }
        Ok(torn)
    }
}
