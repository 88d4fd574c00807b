//! Merging the histories of several rooms into one row of events: each once, in an order that is every room's own.
//!
//! Every room has a queue of what was read of it, and two marks: `sent`, up to which everything has left the queue, and
//! `known`, up to which nothing is missing in it. An event of several rooms names its offset in each of them. It may go
//! when in no room anything of the queue stands before it. Where a queue has run out and is not known to reach that far,
//! the room must be read first: what was stored in several rooms in one act is there once it is in one of them. If it
//! is not there then, the history has lost it, and the room does not hold it up. Such a read is cut behind the last event that
//! asked for it: what else was stored meanwhile would ask for another room again, and so on for as long as a publisher is
//! faster than the reads.
//!
//! So when an event goes, everything before it in each of its rooms has gone, and at any moment the marks `sent` are a cut
//! through all rooms at once: an event is on the same side of it in every room in which it is news.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::entry::{Entry, RoomPlace};
use crate::event::EventId;
use crate::key::Room;
use crate::offset::Offset;

/// Ids remembered of what went, to tell a second copy that has a place of its own: an event that was published again to
/// more rooms.
const REMEMBERED: usize = 4096;

/// See the module. Rooms have numbers, from 0, in the order in which they were added.
/// Entries may be shared with others that read the same histories.
#[derive(Debug)]
pub struct Merge<E = Entry> {
    queues: Vec<MergeQueue<E>>,
    index: HashMap<Room, usize>,
    gone: RecentIds,
}

#[derive(Debug)]
struct MergeQueue<E> {
    room: Room,
    /// Read and yet to go. Oldest first, with the place in this room.
    entries: VecDeque<(Offset, E)>,
    /// Everything up to here has left the queue.
    sent: Offset,
    /// Nothing is missing up to here.
    known: Offset,
    /// Whether the history goes on behind `known`.
    more: bool,
    /// An event that was read of another room stands here, too: a read from now on reaches as far as this.
    owed: Offset,
}

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MergeStep {
    /// This event may go.
    Ready(ReadyEvent),
    /// Some rooms have to be read on from [`Merge::read_offset`]: those that are [`rooms_to_read`](Merge::rooms_to_read).
    Read,
    /// Everything that was read has gone.
    Nothing,
}

/// The event that goes next; good until the merge is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadyEvent(usize);

/// An event that goes.
#[derive(Debug, PartialEq, Eq)]
pub struct MergedEvent<E = Entry> {
    /// The event.
    pub entry: E,
    /// Its places that are news here: which of the entry's, and of which room.
    pub places: Vec<(usize, usize)>,
    /// Whether it went before, with another place: it is not to be passed on then.
    pub again: bool,
}

impl<E: AsRef<Entry>> MergedEvent<E> {
    /// The places, as an envelope takes them.
    #[must_use]
    pub fn new_places(&self) -> Vec<&RoomPlace> {
        self.places.iter().map(|(at, _)| &self.entry.as_ref().places[*at]).collect()
    }
}

impl<E> Default for Merge<E> {
    fn default() -> Self {
        Self { queues: Vec::new(), index: HashMap::new(), gone: RecentIds::default() }
    }
}

impl<E: AsRef<Entry>> Merge<E> {
    /// Takes in a room of which everything up to `sent` has been told, and which is yet to be read. Gives its number.
    pub fn add(&mut self, room: Room, sent: Offset) -> usize {
        let at = self.queues.len();
        self.index.insert(room.clone(), at);
        self.queues.push(MergeQueue { room, entries: VecDeque::new(), sent, known: sent, more: true, owed: sent });
        at
    }

    /// Up to where a room has been told.
    #[must_use]
    pub fn delivered_offset(&self, room: usize) -> Offset {
        self.queues[room].sent
    }

    /// Up to where a room has been read.
    #[must_use]
    pub fn read_offset(&self, room: usize) -> Offset {
        self.queues[room].known
    }

    /// The rooms that have to be read on now, so that they can be read at once: those that have run out, and those that
    /// are known less far than what was read of others asks for.
    pub fn rooms_to_read(&mut self) -> Vec<usize> {
        let mut owed: Vec<Offset> = self.queues.iter().map(|queue| queue.known).collect();
        for (_, entry) in self.queues.iter().flat_map(|queue| &queue.entries) {
            self.undelivered_places(entry.as_ref()).for_each(|(_, room, offset)| owed[room] = owed[room].max(offset));
        }
        let mut due = Vec::new();
        for (at, (queue, owed)) in self.queues.iter_mut().zip(owed).enumerate() {
            queue.owed = owed;
            let is_due = if queue.more { queue.entries.is_empty() } else { queue.known < owed };
            due.extend(is_due.then_some(at));
        }
        due
    }

    /// Takes in what a read of a room from [`read_offset`](Self::read_offset) on gave: entries, oldest first, whether more follow, and
    /// the room's head.
    pub fn fill_room(&mut self, room: usize, entries: Vec<E>, more: bool, head: Offset) {
        let queue = &mut self.queues[room];
        let placed = entries.into_iter().filter_map(|entry| Some((entry.as_ref().link_in(&queue.room)?.offset, entry)));
        let mut placed: Vec<(Offset, E)> = placed.collect();
        let last = placed.last().map(|(offset, _)| *offset);
        // With more to come only what was read is known. Without, nothing is missing up to the head, nor up to what another
        // room asked for: it was stored in one act.
        let reaches = match last {
            Some(last) if more => last,
            _ => head.max(queue.known).max(queue.owed).max(last.unwrap_or_default()),
        };
        let owed = Some(queue.owed).filter(|owed| *owed > queue.known && *owed <= reaches);
        if let Some(owed) = owed {
            placed.truncate(placed.partition_point(|(offset, _)| *offset <= owed));
        }
        queue.more = more && last.is_some() && owed.is_none();
        queue.known = owed.unwrap_or(reaches);
        queue.entries.extend(placed);
    }

    /// Has a room that nothing was read of begin further back: it has lost its newest events, or never had any.
    pub fn set_back(&mut self, room: usize, to: Offset) {
        let queue = &mut self.queues[room];
        (queue.sent, queue.known) = (queue.sent.min(to), queue.known.min(to));
        // Nothing was told up to there, so no read reaches as far by that alone.
        queue.owed = queue.owed.min(to);
    }

    /// Passes over what a room has had up to a place, unless something of it is yet to go. Whether that is news.
    pub fn pass_over(&mut self, room: usize, to: Offset) -> bool {
        let queue = &mut self.queues[room];
        let is_news = queue.entries.is_empty() && queue.sent < to;
        if is_news {
            (queue.sent, queue.known) = (to, queue.known.max(to));
        }
        is_news
    }

    /// Whether an event went lately.
    #[must_use]
    pub fn has_gone(&self, id: &EventId) -> bool {
        self.gone.known.contains(id)
    }

    /// Notes that a room has moved on, so that it is read again.
    pub fn reopen_room(&mut self, room: usize) {
        self.queues[room].more = true;
    }

    /// Takes a room out: nothing of it is news any more.
    pub fn remove_room(&mut self, room: usize) {
        let queue = &mut self.queues[room];
        queue.entries = VecDeque::new();
        queue.more = false;
        self.index.remove(&queue.room);
    }

    /// What is to be done next.
    pub fn next_step(&mut self) -> MergeStep {
        if self.queues.iter().any(|queue| queue.entries.is_empty() && queue.more) {
            return MergeStep::Read;
        }
        let Some(first) = self.earliest() else {
            // What is known of a room that has nothing left counts as told.
            self.queues.iter_mut().for_each(|queue| queue.sent = queue.sent.max(queue.known));
            return MergeStep::Nothing;
        };
        let mut at = first;
        for _ in 0..=self.queues.len() {
            match self.waits_for(at) {
                None => return MergeStep::Ready(ReadyEvent(at)),
                Some(room) if self.queues[room].entries.is_empty() => return MergeStep::Read,
                Some(room) => at = room,
            }
        }
        // Rooms that disagree about the order of two events: one of them must go first.
        MergeStep::Ready(ReadyEvent(first))
    }

    /// Bytes of the text of the event that goes next.
    #[must_use]
    pub fn event_bytes(&self, ready: ReadyEvent) -> usize {
        self.queues[ready.0].entries.front().map_or(0, |(_, entry)| entry.as_ref().text.len())
    }

    /// Takes out the event that goes next, from all of its rooms.
    pub fn take_event(&mut self, ready: ReadyEvent) -> Option<MergedEvent<E>> {
        let (_, entry) = self.queues[ready.0].entries.pop_front()?;
        let mut places = Vec::new();
        for (place, room, offset) in self.undelivered_places(entry.as_ref()).collect::<Vec<_>>() {
            let queue = &mut self.queues[room];
            if room == ready.0 || queue.pass_event(entry.as_ref(), offset) {
                queue.sent = offset;
                queue.known = queue.known.max(offset);
                places.push((place, room));
            }
        }
        let again = !self.gone.is_first(&entry.as_ref().id);
        Some(MergedEvent { entry, places, again })
    }

    /// The room whose next event is the oldest.
    fn earliest(&self) -> Option<usize> {
        let fronts = self.queues.iter().enumerate().filter_map(|(at, queue)| Some((queue.entries.front()?.0, at)));
        fronts.min().map(|(_, at)| at)
    }

    /// The room in which something stands, or may stand, before the next event of this one.
    fn waits_for(&self, at: usize) -> Option<usize> {
        let (_, entry) = self.queues[at].entries.front()?;
        let before = |(_, room, offset): &(usize, usize, Offset)| match self.queues[*room].entries.front() {
            Some((first, _)) => first < offset,
            None => self.queues[*room].known < *offset,
        };
        self.undelivered_places(entry.as_ref()).find(before).map(|(_, room, _)| room)
    }

    /// The places of an entry that are news: which of its places, of which room, and where there.
    fn undelivered_places<'a>(&'a self, entry: &'a Entry) -> impl Iterator<Item = (usize, usize, Offset)> + 'a {
        entry.places.iter().enumerate().filter_map(|(place, at)| {
            let (room, offset) = (*self.index.get(&at.room)?, at.link()?.offset);
            (offset > self.queues[room].sent).then_some((place, room, offset))
        })
    }
}

impl<E: AsRef<Entry>> MergeQueue<E> {
    /// Takes out an event that goes by another room, or finds that the history has lost it. False when something stands
    /// before it here, so that the room's mark must not pass it.
    fn pass_event(&mut self, entry: &Entry, offset: Offset) -> bool {
        let same = |(at, other): &(Offset, E)| *at == offset && other.as_ref().id == entry.id;
        // Behind others it may still go by the room that offers it, but this room's mark stays.
        if let Some(at) = self.entries.iter().position(same) {
            self.entries.remove(at);
            return at == 0;
        }
        self.entries.front().is_none_or(|(first, _)| *first > offset)
    }
}

/// The last ids that went.
#[derive(Debug, Default)]
struct RecentIds {
    known: HashSet<EventId>,
    order: VecDeque<EventId>,
}

impl RecentIds {
    fn is_first(&mut self, id: &EventId) -> bool {
        if !self.known.insert(id.clone()) {
            return false;
        }
        // The oldest goes, so that a long history does not grow it.
        if self.order.len() == REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        self.order.push_back(id.clone());
        true
    }
}

#[cfg(test)]
mod tests;
