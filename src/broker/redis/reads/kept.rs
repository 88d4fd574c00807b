//! Recently read pages. Bounded in bytes and in time. They are the past of a history, which does not change; whether
//! Redis still holds that past is checked at each use.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use hallway_rooms::history::RoomFacts;
use hallway_rooms::key::Room;
use hallway_rooms::offset::Offset;
use tokio::time::Instant;

use super::range::EntryRun;
use crate::broker::SharedEntry;

/// How long a room's pages are kept after their last use: longer than a client waits before it retries, and far
/// shorter than a cache would.
const KEPT: Duration = Duration::from_secs(10);

/// Bytes of an entry beside its text.
const OVERHEAD: usize = 256;

/// The data that a page was read from: identified by their birth, as long as no other server may have answered since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BrokerEra {
    /// When the data began.
    birth_ms: Option<u64>,
    /// Breaks of the link at the time.
    breaks: u64,
    /// Redis' clock at the time.
    now_ms: u64,
}

/// The kept pages of all rooms.
#[derive(Debug)]
pub(super) struct KeptPages {
    rooms: HashMap<Room, PageCache>,
    /// Rooms by their last use, as recorded when queued; a later use is noticed when the room comes up.
    order: VecDeque<(Room, Instant)>,
    /// Weight of all pages.
    bytes: usize,
    /// Bound of the weight.
    most: usize,
}

#[derive(Debug)]
struct PageCache {
    /// Oldest first, with gaps between them.
    runs: Vec<EntryRun>,
    era: BrokerEra,
    /// Last use.
    used: Instant,
    bytes: usize,
}

impl BrokerEra {
    pub(super) fn from_facts(facts: &RoomFacts, breaks: u64) -> Self {
        Self { birth_ms: facts.birth_ms, breaks, now_ms: facts.now_ms }
    }

    /// Whether a later read is of the same era. A clock that was set back ends the era too.
    pub(super) fn is_of(&self, facts: &RoomFacts, breaks: u64) -> bool {
        let same = self.birth_ms.is_some() && self.birth_ms == facts.birth_ms && self.breaks == breaks;
        same && facts.now_ms >= self.now_ms
    }
}

impl KeptPages {
    pub(super) fn new(most: usize) -> Self {
        Self { rooms: HashMap::new(), order: VecDeque::new(), bytes: 0, most }
    }

    /// The page that covers the entries behind an offset, with its era.
    pub(super) fn find_page(&mut self, room: &Room, place: Offset) -> Option<(EntryRun, BrokerEra)> {
        self.expire();
        let pages = self.rooms.get_mut(room)?;
        let run = pages.runs.iter().find(|run| run.contains_from(place))?;
        pages.used = Instant::now();
        Some((run.clone(), pages.era))
    }

    /// Keeps a read, joined with the pages that exist of the room.
    pub(super) fn put_runs(&mut self, room: &Room, runs: Vec<EntryRun>, era: BrokerEra) {
        self.expire();
        let now = Instant::now();
        // Pages of other data must not be joined with these.
        let mut pages =
            self.take_room(room).filter(|pages| pages.era.birth_ms == era.birth_ms && pages.era.breaks == era.breaks);
        let known = pages.as_mut().map(|pages| std::mem::take(&mut pages.runs)).unwrap_or_default();
        let runs = join_runs(room, known, runs);
        let mut pages = PageCache { bytes: 0, runs, era, used: now };
        // At most half of the bound for one room, so that a long history leaves space for others.
        while let Some(extra) = Some(pages.recount_bytes()).filter(|bytes| *bytes > self.most / 2) {
            pages.drop_oldest_bytes(room, extra - self.most / 2);
        }
        if pages.runs.is_empty() {
            return;
        }
        self.bytes += pages.bytes;
        self.rooms.insert(room.clone(), pages);
        self.order.push_back((room.clone(), now));
        while self.bytes > self.most && self.drop_oldest() {}
    }

    pub(super) fn forget(&mut self, room: &Room) {
        self.take_room(room);
    }

    fn take_room(&mut self, room: &Room) -> Option<PageCache> {
        let pages = self.rooms.remove(room)?;
        self.bytes -= pages.bytes;
        self.order.retain(|(other, _)| other != room);
        Some(pages)
    }

    /// Drops rooms that were not used for `KEPT`.
    pub(super) fn expire(&mut self) {
        while self.order.front().is_some_and(|(_, used)| used.elapsed() >= KEPT) && self.drop_oldest() {}
    }

    /// Drops the first room, unless it was used meanwhile. False when there is none.
    fn drop_oldest(&mut self) -> bool {
        let Some((room, noted)) = self.order.pop_front() else { return false };
        match self.rooms.get(&room) {
            // Used since it was queued: to the end with its true time.
            Some(pages) if pages.used > noted => self.order.push_back((room, pages.used)),
            Some(_) | None => _ = self.take_room(&room),
        }
        true
    }
}

impl PageCache {
    fn recount_bytes(&mut self) -> usize {
        self.bytes = self.runs.iter().flat_map(|run| &run.entries).map(entry_bytes).sum();
        self.bytes
    }

    /// Drops the oldest entries worth at least so many bytes.
    fn drop_oldest_bytes(&mut self, room: &Room, mut bytes: usize) {
        let Some(run) = self.runs.first_mut() else { return };
        let mut gone = 0;
        while bytes > 0 && gone < run.entries.len() {
            bytes = bytes.saturating_sub(entry_bytes(&run.entries[gone]));
            gone += 1;
        }
        // A run without entries would claim a stretch that was never seen.
        if gone == run.entries.len() {
            self.runs.remove(0);
            return;
        }
        // The run begins behind the dropped entries, or a read of an older offset would find a hole.
        let cut = run.entries[gone - 1].link_in(room);
        run.entries.drain(..gone);
        run.floor = cut.map_or(run.floor, |link| link.offset);
    }
}

/// The weight of an entry with its composed form.
fn entry_bytes(entry: &SharedEntry) -> usize {
    entry.text.len() * 2 + OVERHEAD
}

/// Existing and further runs of a room in one list; runs that touch or overlap become one.
fn join_runs(room: &Room, known: Vec<EntryRun>, read: Vec<EntryRun>) -> Vec<EntryRun> {
    let mut all: Vec<EntryRun> = known.into_iter().chain(read).collect();
    all.sort_by_key(|run| (run.floor, std::cmp::Reverse(run.end)));
    let mut row: Vec<EntryRun> = Vec::new();
    for run in all {
        match row.last_mut() {
            // Contained in the one before.
            Some(before) if run.end <= before.end => {}
            Some(before) if run.floor <= before.end => before.go_on(room, run),
            _ => row.push(run),
        }
    }
    row
}

impl EntryRun {
    /// Appends what another run has beyond this one, if its link there points at this one's end. Otherwise that run
    /// is dropped.
    fn go_on(&mut self, room: &Room, other: Self) {
        let links = |entry: &SharedEntry| entry.link_in(room);
        let at = other.entries.partition_point(|entry| links(entry).is_none_or(|link| link.offset <= self.end));
        if other.entries.get(at).and_then(links).is_some_and(|link| link.prev == self.end) {
            self.entries.extend_from_slice(&other.entries[at..]);
            self.end = other.end;
        }
    }
}
