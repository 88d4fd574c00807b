//! Reads: which may begin, and what they bring.

use std::cmp::Reverse;
use std::sync::Arc;

use hallway_rooms::entry::Entry;
use hallway_rooms::key::Room;
use tokio::time::Instant;

use super::{
    BYTES, Backlog, EntryTrust, FIRST_PAUSE, HealedPage, LONGEST_PAUSE, PATIENCE, PendingRead, READS, ReadFailure,
    ReadState, WaitingEntry, entry_bytes,
};

impl Backlog {
    /// The next read that may begin.
    pub(in crate::hub) fn next_read(&mut self, now: Instant) -> Option<PendingRead> {
        while self.later.peek().is_some_and(|Reverse((due, _))| *due <= now) {
            let Some(Reverse((_, room))) = self.later.pop() else { break };
            self.retry_room(&room);
        }
        // With all that may wait waiting, one goes on that the others may be waiting for.
        let may_begin = self.running == 0 || self.running < READS && self.bytes < BYTES;
        if !may_begin {
            return None;
        }
        loop {
            let room = self.wanted.pop_front()?;
            let Some(lag) = self.lags.get_mut(&room).filter(|lag| lag.read == ReadState::Wanted) else { continue };
            self.reads += 1;
            self.running += 1;
            lag.read = ReadState::Running { number: self.reads, again: false };
            lag.more = false;
            return Some(PendingRead { room, number: self.reads, from: lag.cursor.take() });
        }
    }

    fn retry_room(&mut self, room: &Room) {
        if let Some(lag) = self.lags.get_mut(room).filter(|lag| lag.read == ReadState::Later) {
            lag.read = ReadState::Wanted;
            self.wanted.push_back(room.clone());
        }
    }

    /// When the next read is due that waits for its time.
    pub(in crate::hub) fn next_try(&self) -> Option<Instant> {
        self.later.peek().map(|Reverse((due, _))| *due)
    }

    /// Has no room wait for its time: the broker is back.
    pub(in crate::hub) fn retry_all_now(&mut self) {
        for Reverse((_, room)) in std::mem::take(&mut self.later) {
            self.retry_room(&room);
        }
    }

    /// Adds the result of a read. It is dropped if the room was unsubscribed meanwhile.
    pub(in crate::hub) fn add_page(&mut self, pending_read: &PendingRead, page: HealedPage) {
        if !self.end_read(pending_read) {
            return;
        }
        let (room, number) = (&pending_read.room, pending_read.number);
        let Some(lag) = self.lags.get_mut(room) else { return };
        (lag.failures, lag.failing_since) = (0, None);
        let end = page.entries.iter().filter_map(|entry| entry.link_in(room)).map(|link| link.offset).max();
        // A page of which nothing can be told leads nowhere.
        let has_more = page.has_more && end.is_some();
        lag.covered = if has_more { end } else { page.last };
        lag.cursor = if has_more { end } else { lag.cursor };
        lag.more |= has_more;
        for entry in page.entries {
            let Some(link) = entry.link_in(room) else { continue };
            let weight = entry_bytes(&entry);
            let waiting = WaitingEntry { entry: Arc::new(entry), reads: u64::MAX, trust: EntryTrust::Read };
            lag.bytes += weight;
            self.bytes += weight;
            if let Some(before) = lag.queue.insert(link.offset, waiting) {
                lag.bytes -= self::entry_bytes(&before.entry);
                self.bytes -= self::entry_bytes(&before.entry);
            }
        }
        self.drop_unconfirmed(room, number, !has_more);
        self.work_on(room);
    }

    /// Lets go of what came before this read began and is not in what it found, unless another room's history has it: then
    /// what lies before it in this one is lost.
    fn drop_unconfirmed(&mut self, room: &Room, number: u64, is_whole: bool) {
        let Some(lag) = self.lags.get_mut(room) else { return };
        let mut gone = Vec::new();
        for (at, waiting) in lag.queue.iter().filter(|(_, waiting)| waiting.reads < number) {
            let is_behind = lag.covered.is_none_or(|covered| *at > covered);
            match waiting.trust {
                EntryTrust::Read if is_behind && is_whole => lag.covered = Some(*at),
                EntryTrust::Heard if is_behind && is_whole => gone.push(*at),
                EntryTrust::Claimed if !is_behind || is_whole => gone.push(*at),
                EntryTrust::Read | EntryTrust::Heard | EntryTrust::Claimed => {}
            }
        }
        for at in gone {
            let Some(entry) = self.drop_from(room, at) else { continue };
            self.ask_others(room, &entry);
            self.unconfirmed.push(entry);
        }
    }

    /// Has the other rooms of an entry that one of them does not know read, where it waits on no better word.
    fn ask_others(&mut self, room: &Room, entry: &Entry) {
        for place in entry.places.iter().filter(|place| place.room != *room) {
            let Some(link) = place.link() else { continue };
            let waiting = self.lags.get(&place.room).and_then(|lag| lag.queue.get(&link.offset));
            if waiting.is_some_and(|waiting| waiting.trust == EntryTrust::Heard && waiting.entry.id == entry.id) {
                self.drop_from(&place.room, link.offset);
                self.request_read(&place.room);
                self.work_on(&place.room);
            }
        }
    }

    /// Ends a room's read. False if the room was unsubscribed since it began.
    fn end_read(&mut self, pending_read: &PendingRead) -> bool {
        self.running = self.running.saturating_sub(1);
        let Some(lag) = self.lags.get_mut(&pending_read.room) else { return false };
        let ReadState::Running { number, again } = lag.read else { return false };
        if number != pending_read.number {
            return false;
        }
        lag.read = ReadState::No;
        if again {
            self.request_read(&pending_read.room);
        }
        true
    }

    /// Notes that an errand failed. `is_well`: the broker, apart from this.
    pub(in crate::hub) fn fail_read(
        &mut self,
        pending_read: &PendingRead,
        now: Instant,
        is_well: bool,
    ) -> Option<ReadFailure> {
        self.running = self.running.saturating_sub(1);
        let lag = self.lags.get_mut(&pending_read.room)?;
        if !matches!(lag.read, ReadState::Running { number, .. } if number == pending_read.number) {
            return None;
        }
        lag.cursor = lag.cursor.or(pending_read.from);
        let since = *lag.failing_since.get_or_insert(now);
        if !is_well {
            lag.failing_since = None;
        } else if now.duration_since(since) >= PATIENCE {
            self.forget(&pending_read.room);
            return Some(ReadFailure::GiveUp);
        }
        let pause = (FIRST_PAUSE * 2_u32.saturating_pow(lag.failures.min(10))).min(LONGEST_PAUSE);
        lag.failures += 1;
        lag.read = ReadState::Later;
        self.later.push(Reverse((now + pause, pending_read.room.clone())));
        Some(ReadFailure::Later { first: lag.failures == 1 })
    }

    /// Ends an errand to a room that is closed.
    pub(in crate::hub) fn abandon_room(&mut self, pending_read: &PendingRead) {
        if self.end_read(pending_read) {
            self.forget(&pending_read.room);
        }
    }
}
