//! Offsets: the position of an event in its room's history.

use std::fmt;
use std::str::FromStr;

/// A position in a room's history, `<ms>-<n>`: a Redis stream id. Ordered by time, then by `n`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset {
    /// Milliseconds since the Unix epoch, by the broker's clock.
    pub ms: u64,
    /// Counts the entries of one millisecond, from 0.
    pub n: u64,
}

/// A text is not an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an offset is two whole numbers joined by a dash, as in 1735689600000-0")]
pub struct InvalidOffset;

impl Offset {
    /// The first offset of a millisecond.
    #[must_use]
    pub const fn first_of_ms(ms: u64) -> Self {
        Self { ms, n: 0 }
    }

    /// The greatest offset before millisecond `ms`; `0-0` for 0.
    #[must_use]
    pub const fn last_before_ms(ms: u64) -> Self {
        match ms.checked_sub(1) {
            Some(ms) => Self { ms, n: u64::MAX },
            None => Self { ms: 0, n: 0 },
        }
    }

    /// Whether it is the end of a millisecond, which no event has: the head of a room without a last offset.
    #[must_use]
    pub const fn is_quiet(self) -> bool {
        self.n == u64::MAX
    }

    /// The offset of the next entry at `now`: always greater than `last`, even when the clock is behind.
    #[must_use]
    pub const fn next(last: Option<Self>, now_ms: u64) -> Self {
        match last {
            Some(last) if now_ms <= last.ms => Self { ms: last.ms, n: last.n + 1 },
            _ => Self::first_of_ms(now_ms),
        }
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.n)
    }
}

impl FromStr for Offset {
    type Err = InvalidOffset;

    /// Accepts digits only, without signs or blanks.
    fn from_str(text: &str) -> Result<Self, InvalidOffset> {
        let (ms, n) = text.split_once('-').ok_or(InvalidOffset)?;
        Ok(Self { ms: number(ms)?, n: number(n)? })
    }
}

fn number(text: &str) -> Result<u64, InvalidOffset> {
    // `parse` alone would accept a plus sign, and two spellings of one offset.
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits {
        return Err(InvalidOffset);
    }
    text.parse().map_err(|_| InvalidOffset)
}

impl serde::Serialize for Offset {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_offset_prints_and_parses_back(ms: u64, n: u64) {
            let offset = Offset { ms, n };
            prop_assert_eq!(offset.to_string().parse::<Offset>(), Ok(offset));
        }

        #[test]
        fn the_next_offset_is_always_greater(ms in 0..u64::MAX / 2, n in 0..u64::MAX / 2, now: u64) {
            let last = Offset { ms, n };
            prop_assert!(Offset::next(Some(last), now) > last);
        }

        #[test]
        fn nothing_lies_between_before_and_at(ms in 1..u64::MAX) {
            prop_assert!(Offset::last_before_ms(ms) < Offset::first_of_ms(ms));
            prop_assert_eq!(Offset::last_before_ms(ms).ms, ms - 1);
        }
    }

    #[test]
    fn odd_texts_are_no_offsets() {
        for text in ["", "-", "1", "1-", "-1", "+1-0", "1-+0", " 1-0", "1-0 ", "a-0", "1-0-0", "99999999999999999999-0"]
        {
            assert_eq!(text.parse::<Offset>(), Err(InvalidOffset), "{text:?}");
        }
    }
}
