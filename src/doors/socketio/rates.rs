//! Command rates of one transport. Each command is judged when it arrives, before it is parsed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::rate::{Rate, TokenBucket};

/// Slots of the sliding count: one that is filling and six full ones, so the count covers the last 60 to 70 seconds.
const PARTS: usize = 7;
/// Length of a slot.
const PART: Duration = Duration::from_secs(10);

/// The commands of one transport in all its namespaces; clones share the count.
#[derive(Clone, Debug, Default)]
pub(super) struct TransportRates(Arc<Mutex<SentCounts>>);

#[derive(Debug, Default)]
struct SentCounts {
    /// Decides which commands are performed.
    bucket: TokenBucket,
    /// Commands per slot, the newest slot first.
    parts: [u32; PARTS],
    /// When the newest slot began.
    newest_began: Option<Instant>,
}

/// Bounds on the commands of a transport.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowed {
    /// Rate up to which commands are performed.
    pub(super) rate: Rate,
    /// Commands in a minute above which the transport is closed: a client that far off its limit is not slowed by
    /// refusals.
    pub(super) most: u32,
}

/// The decision on a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PaceVerdict {
    /// It is performed.
    Fine,
    /// It is refused.
    TooSoon,
    /// It closes the transport.
    TooMany,
}

impl TransportRates {
    /// Decides on a command that arrived at `now`.
    pub(super) fn judge_command(&self, allowed: Allowed, now: Instant) -> PaceVerdict {
        let mut sent = self.0.lock();
        // Refused commands count too: a client that ignores refusals is the one this is for.
        if sent.count_command(now) >= allowed.most {
            return PaceVerdict::TooMany;
        }
        if sent.bucket.take_token(allowed.rate, now) { PaceVerdict::Fine } else { PaceVerdict::TooSoon }
    }
}

impl SentCounts {
    /// Counts a command. Gives the number in the last 60 to 70 seconds.
    fn count_command(&mut self, now: Instant) -> u32 {
        let began = *self.newest_began.get_or_insert(now);
        let passed = now.saturating_duration_since(began).as_secs() / PART.as_secs();
        if passed > 0 {
            // After a long silence every slot is old; a shift by more than all of them would be out of range.
            let shift = usize::try_from(passed).map_or(PARTS, |parts| parts.min(PARTS));
            self.parts.rotate_right(shift % PARTS);
            self.parts[..shift].fill(0);
            // In whole slots from the first command on, not to `now`: otherwise each late command would stretch the
            // window.
            self.newest_began = began.checked_add(PART * u32::try_from(passed).unwrap_or(u32::MAX)).or(Some(now));
        }
        self.parts[0] = self.parts[0].saturating_add(1);
        self.parts.iter().fold(0, |sum, part| sum.saturating_add(*part))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends `count` commands evenly over `time`, and says how many were carried out, and whether the transport was closed.
    fn send(per_minute: u32, count: u32, time: Duration) -> (u32, bool) {
        let allowed = Allowed { rate: Rate::per_minute(per_minute), most: per_minute * 10 };
        let (pace, start, mut fine) = (TransportRates::default(), Instant::now(), 0);
        for i in 0..count {
            match pace.judge_command(allowed, start + time * i / count) {
                PaceVerdict::Fine => fine += 1,
                PaceVerdict::TooSoon => {}
                PaceVerdict::TooMany => return (fine, true),
            }
        }
        (fine, false)
    }

    #[test]
    fn a_burst_of_a_minutes_worth_and_an_even_stream_pass() {
        assert_eq!(send(600, 600, Duration::ZERO), (600, false));
        assert_eq!(send(600, 6000, Duration::from_mins(10)), (6000, false));
        assert_eq!(send(600, 601, Duration::ZERO), (600, false));
    }

    #[test]
    fn ten_times_as_many_in_a_minute_close_however_they_are_spread() {
        assert!(send(60, 600, Duration::ZERO).1);
        assert!(send(60, 600, Duration::from_secs(59)).1);
        assert!(!send(60, 599, Duration::ZERO).1);
        assert!(!send(60, 599, Duration::from_secs(59)).1);
        assert!(!send(60, 5000, Duration::from_mins(10)).1, "eight times as many are refused and no more");
    }

    #[test]
    fn what_was_long_ago_is_forgotten() {
        let allowed = Allowed { rate: Rate::per_minute(1), most: 10 };
        let (pace, start) = (TransportRates::default(), Instant::now());
        for round in 0..5 {
            let at = start + Duration::from_secs(75) * round;
            assert_eq!(pace.judge_command(allowed, at), PaceVerdict::Fine);
            (0..8).for_each(|_| assert_eq!(pace.judge_command(allowed, at), PaceVerdict::TooSoon));
        }
        let later = start + Duration::from_hours(10_000);
        assert_eq!(pace.judge_command(allowed, later), PaceVerdict::Fine);
    }
}
