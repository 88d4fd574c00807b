//! What the answer to a resume may claim: whether a history reaches back to the client's position.

use std::time::Duration;

use crate::entry::ChainLink;
use crate::limits::QUIET_HEAD_MS;
use crate::offset::Offset;

/// How far a client's timestamp may be ahead of the broker's clock and still count as past, in milliseconds. More
/// than synchronized clocks differ by, and far less than a phone's clock that was set by hand.
pub const AHEAD_MS: u64 = 2_000;

/// The requested start of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Start {
    /// Entries after this offset.
    After(Offset),
    /// Entries at or after this millisecond (nomor: `get_missed_events {room, since}`).
    Since(u64),
}

impl Start {
    /// The greatest offset that is not requested.
    #[must_use]
    pub const fn exclusive_offset(self) -> Offset {
        match self {
            Self::After(offset) => offset,
            Self::Since(ms) => Offset::last_before_ms(ms),
        }
    }

    /// Whether an entry at `offset` is requested.
    #[must_use]
    pub fn includes_offset(self, offset: Offset) -> bool {
        match self {
            Self::After(after) => offset > after,
            Self::Since(ms) => offset.ms >= ms,
        }
    }
}

/// The broker's facts about a room at one instant, read together with its entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoomFacts {
    /// The broker's clock, milliseconds since the Unix epoch.
    pub now_ms: u64,
    /// When the broker's data began; a missing value counts as now, which claims the least.
    pub birth_ms: Option<u64>,
    /// The room's last offset, if it is still kept.
    pub last: Option<Offset>,
    /// How long a last offset is kept: the shortest memory in force.
    pub memory: Duration,
    /// Since when no shorter memory was in force.
    pub memory_since_ms: u64,
    /// The time that the broker's clock went through twice, if it was set back.
    pub twice: Option<RepeatedTime>,
}

/// A span of time that the broker's clock went through twice: from the time after it was set back to the time before.
/// Events of the first pass cannot be told from those of the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RepeatedTime {
    /// Its first millisecond.
    pub from_ms: u64,
    /// Its last.
    pub to_ms: u64,
}

impl RepeatedTime {
    const fn contains_ms(self, ms: u64) -> bool {
        self.from_ms <= ms && ms <= self.to_ms
    }
}

/// How far a clock may be set back without harm, in milliseconds. The head of a quiet room lies this far back, and a
/// last offset is kept this much longer than the memory.
#[must_use]
pub fn leeway_ms(memory: Duration) -> u64 {
    QUIET_HEAD_MS.min(to_millis(memory) / 2)
}

fn to_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl RoomFacts {
    /// The position of a client that joins at this instant: the last offset, or a quiet one shortly before now. The
    /// next stored event is newer.
    #[must_use]
    pub fn head(&self) -> Offset {
        self.last.unwrap_or_else(|| self.quiet())
    }

    /// A position shortly before now that no event has, not before the birth, and well within the memory.
    #[must_use]
    pub fn quiet(&self) -> Offset {
        let quiet = self.now_ms.saturating_sub(leeway_ms(self.memory)).max(self.birth()).max(self.memory_since_ms);
        // Birth or memory may have been recorded by a clock that is ahead of this one.
        Offset::last_before_ms(quiet.min(self.now_ms))
    }

    /// Whether a reader misses nothing. It delivered everything up to `at` and knows of silence up to `reach`;
    /// `links` are the oldest entries after `at`. Nothing may be missing before the first of them, between them, or
    /// after them if no more follow.
    #[must_use]
    pub fn continues_from(&self, at: Offset, reach: Offset, links: &[ChainLink], has_more: bool) -> bool {
        let born = self.born_offset() <= at;
        // Without entries only the last offset can prove the silence: equal to the reader's, or none for the whole
        // memory.
        let Some((first, rest)) = links.split_first() else {
            return born
                && self
                    .last
                    .map_or_else(|| reach >= self.silence_horizon() && !self.has_vanished(at), |last| last == at);
        };
        // A first link behind `reach` names an entry that the reader has not seen.
        born && first.prev <= reach && self.is_chain(first.offset, rest) && (has_more || self.ends_with(links))
    }

    /// All data is newer than this.
    #[must_use]
    pub fn born_offset(&self) -> Offset {
        Offset::last_before_ms(self.birth())
    }

    /// Whether the last offset of a reader's position has disappeared although it should still be kept: it was
    /// deleted.
    #[must_use]
    pub fn has_vanished(&self, at: Offset) -> bool {
        self.last.is_none() && !at.is_quiet() && at > self.silence_horizon()
    }

    /// The oldest position from which a room without a last offset is known to be silent. The first entry of such a
    /// room names at best this as its `prev`.
    #[must_use]
    pub fn silence_horizon(&self) -> Offset {
        let remembered = Offset::first_of_ms(self.now_ms.saturating_sub(to_millis(self.memory)));
        remembered.max(Offset::last_before_ms(self.memory_since_ms))
    }

    /// Whether everything from `from` on is there, given **every** entry that was found, oldest first, and whether
    /// more follow.
    #[must_use]
    pub fn complete(&self, from: Start, links: &[ChainLink], has_more: bool) -> bool {
        if !self.born_by(from) || self.is_ahead(from) || self.came_twice(from) {
            return false;
        }
        // Nothing was found: the claim needs a proof of silence.
        let Some((first, rest)) = links.split_first() else { return !has_more && self.silent_since(from) };
        self.follows_offset(from.exclusive_offset(), first.prev)
            && self.is_chain(first.offset, rest)
            && (has_more || self.ends_with(links))
    }

    /// Whether an entry that names `prev` is the first one after `place`. If an event has that position, `prev` names
    /// it. If none has it, an older `prev` proves the silence in between, unless it was written when less was
    /// remembered.
    fn follows_offset(&self, place: Offset, prev: Offset) -> bool {
        if place == prev {
            return true;
        }
        // A `prev` from before is the horizon of a shorter memory, and no proof of silence.
        let trusted = Offset::last_before_ms(self.memory_since_ms);
        place.is_quiet() && prev < place && (prev >= trusted || place >= trusted)
    }

    fn is_chain(&self, mut before: Offset, links: &[ChainLink]) -> bool {
        links.iter().all(|link| self.follows_offset(std::mem::replace(&mut before, link.offset), link.prev))
    }

    /// Whether nothing is stored after the last of these entries. A last offset outlives its entry, so a missing one
    /// was deleted, together with an unknown number of entries.
    fn ends_with(&self, links: &[ChainLink]) -> bool {
        self.last.is_some() && links.last().map(|link| link.offset) == self.last
    }

    fn came_twice(&self, from: Start) -> bool {
        match from {
            Start::After(_) => false,
            Start::Since(ms) => self.twice.is_some_and(|twice| twice.contains_ms(ms)),
        }
    }

    /// Whether a timestamp is ahead of the broker's clock. Its client cannot have seen what is stored until then, and
    /// there is nothing to return. Offsets are the broker's own and never count as ahead.
    #[must_use]
    pub const fn is_ahead(&self, from: Start) -> bool {
        match from {
            Start::After(_) => false,
            Start::Since(ms) => ms > self.now_ms.saturating_add(AHEAD_MS),
        }
    }

    fn birth(&self) -> u64 {
        self.birth_ms.unwrap_or(self.now_ms)
    }

    fn born_by(&self, from: Start) -> bool {
        match from {
            Start::After(offset) => Offset::last_before_ms(self.birth()) <= offset,
            Start::Since(ms) => self.birth() <= ms,
        }
    }

    fn silent_since(&self, from: Start) -> bool {
        match (from, self.last) {
            (Start::After(after), Some(last)) => after == last,
            // The last offset of an event's position is kept as long as this: it was deleted, or belongs to another
            // broker.
            (Start::After(after), None) => {
                after.is_quiet() && after >= self.silence_horizon() && after.ms <= self.now_ms
            }
            (Start::Since(_), Some(last)) => !from.includes_offset(last),
            (Start::Since(ms), None) => Offset::last_before_ms(ms) >= self.silence_horizon(),
        }
    }
}
