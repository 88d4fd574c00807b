//! What a resume may claim: whether a history reaches back to where a client left off.

use std::time::Duration;

use crate::limits::QUIET_HEAD_MS;
use crate::offset::Offset;

/// How far a client's time may lie ahead of the broker's clock, and still be its past: above what clocks that are kept right
/// differ by and an answer takes, far below a phone whose clock was set by hand.
pub const AHEAD_MS: u64 = 2_000;

/// Where a client wants its history from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// Everything newer than this offset.
    After(Offset),
    /// Everything at or after this millisecond (nomor: `get_missed_events {room, since}`).
    Since(u64),
}

impl From {
    /// The greatest offset that is not asked for.
    #[must_use]
    pub const fn exclusive(self) -> Offset {
        match self {
            Self::After(offset) => offset,
            Self::Since(ms) => Offset::before(ms),
        }
    }

    /// Whether an entry at `offset` is asked for.
    #[must_use]
    pub fn wants(self, offset: Offset) -> bool {
        match self {
            Self::After(after) => offset > after,
            Self::Since(ms) => offset.ms >= ms,
        }
    }
}

/// What the broker knows of a room at one instant, read together with its entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The broker's clock, milliseconds since the Unix epoch.
    pub now_ms: u64,
    /// When the broker's data began; missing counts as now.
    pub birth_ms: Option<u64>,
    /// The room's last offset, if it is still remembered.
    pub last: Option<Offset>,
    /// How long a last offset is remembered.
    pub memory: Duration,
}

/// How far a clock may be set back without any harm: the head of a quiet room lies so far back, and a last offset is
/// kept so much longer than the memory.
#[must_use]
pub fn leeway_ms(memory: Duration) -> u64 {
    QUIET_HEAD_MS.min(millis(memory) / 2)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Facts {
    /// The position that a client which joins at this instant holds: the last offset, or a quiet place shortly
    /// before now. What is stored next is newer.
    #[must_use]
    pub fn head(&self) -> Offset {
        self.last.unwrap_or_else(|| self.quiet())
    }

    /// A place shortly before now, not before the birth, and well within what is remembered.
    #[must_use]
    pub fn quiet(&self) -> Offset {
        let quiet = self.now_ms.saturating_sub(leeway_ms(self.memory)).max(self.birth());
        if quiet < self.now_ms { Offset::at(quiet) } else { Offset::before(self.now_ms) }
    }

    /// Whether a reader that delivered everything up to `at`, and knows of silence up to `reach`, misses nothing
    /// before the first entry newer than `at` (whose `prev` is given), or before now.
    #[must_use]
    pub fn continues(&self, at: Offset, reach: Offset, first_prev: Option<Offset>) -> bool {
        let born = Offset::before(self.birth()) <= at;
        born && match (first_prev, self.last) {
            (Some(prev), _) => prev <= reach,
            (None, Some(last)) => last == at,
            (None, None) => reach >= self.horizon(),
        }
    }

    /// What the first entry of a room without a last offset names as its `prev`.
    #[must_use]
    pub fn horizon(&self) -> Offset {
        Offset::at(self.now_ms.saturating_sub(millis(self.memory)))
    }

    /// Whether everything from `from` on is still there, given the `prev` of the first entry that was found.
    #[must_use]
    pub fn complete(&self, from: From, first_prev: Option<Offset>) -> bool {
        if !self.born_by(from) || self.is_ahead(from) {
            return false;
        }
        match first_prev {
            Some(prev) => prev <= from.exclusive(),
            None => self.silent_since(from),
        }
    }

    /// Whether a time lies ahead of the broker's clock: its client cannot have seen what came until then, and there is
    /// nothing to give it. An offset is the broker's own word.
    #[must_use]
    pub const fn is_ahead(&self, from: From) -> bool {
        match from {
            From::After(_) => false,
            From::Since(ms) => ms > self.now_ms.saturating_add(AHEAD_MS),
        }
    }

    fn birth(&self) -> u64 {
        self.birth_ms.unwrap_or(self.now_ms)
    }

    fn born_by(&self, from: From) -> bool {
        match from {
            From::After(offset) => Offset::before(self.birth()) <= offset,
            From::Since(ms) => self.birth() <= ms,
        }
    }

    fn silent_since(&self, from: From) -> bool {
        match (from, self.last) {
            (From::After(after), Some(last)) => after == last,
            (From::After(after), None) => after >= self.horizon() && after.ms <= self.now_ms,
            (From::Since(_), Some(last)) => !from.wants(last),
            (From::Since(ms), None) => Offset::at(ms) >= self.horizon(),
        }
    }
}
