//! Rates: token buckets that start full, so that a burst of a whole period passes, and an even stream always does.

use std::time::{Duration, Instant};

/// How often an action is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Time between two actions of an even stream, rounded down so that such a stream passes.
    interval: Duration,
    /// Capacity of the bucket, as the time that it takes to fill.
    full: Duration,
}

/// The tokens left of a rate, kept as the moment at which the bucket is full again: one number, and no timer.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokenBucket {
    /// `None` for a bucket that was never used, which is full.
    full_at: Option<Instant>,
}

impl Rate {
    /// Allows `times` per second, all of them at once if need be. Zero counts as one.
    #[must_use]
    pub fn per_second(times: u32) -> Self {
        Self::per(Duration::from_secs(1), times)
    }

    /// Allows `times` per minute, all of them at once if need be. Zero counts as one.
    #[must_use]
    pub fn per_minute(times: u32) -> Self {
        Self::per(Duration::from_mins(1), times)
    }

    fn per(period: Duration, times: u32) -> Self {
        let times = times.max(1);
        // From the rounded interval: a full bucket of a whole period would hold more than `times` at high rates.
        let interval = period / times;
        Self { interval, full: interval * times }
    }
}

impl TokenBucket {
    /// Takes a token; false if there is none at `now`.
    #[must_use]
    pub fn take_token(&mut self, rate: Rate, now: Instant) -> bool {
        let there = self.has_token(rate, now);
        if there {
            self.full_at = Some(self.full_after_take(rate, now));
        }
        there
    }

    /// Whether there is a token at `now`.
    #[must_use]
    pub fn has_token(&self, rate: Rate, now: Instant) -> bool {
        self.full_after_take(rate, now) <= now + rate.full
    }

    /// As [`take_token`](Self::take_token), but may also use tokens of the future: those of `credit`, and one at least. They are
    /// paid back before there is a token again.
    #[must_use]
    pub fn take_on_credit(&mut self, rate: Rate, credit: Duration, now: Instant) -> bool {
        let full_at = self.full_after_take(rate, now);
        let there = full_at <= now + rate.full + credit.max(rate.interval);
        if there {
            self.full_at = Some(full_at);
        }
        there
    }

    /// Takes a token if there is one, or else what is left of the bucket.
    pub fn take_or_empty(&mut self, rate: Rate, now: Instant) {
        self.full_at = Some(self.full_after_take(rate, now).min(now + rate.full));
    }

    /// Whether the bucket is full, which a fresh one is too.
    #[must_use]
    pub fn is_full(&self, now: Instant) -> bool {
        self.full_at.is_none_or(|at| at <= now)
    }

    fn full_after_take(&self, rate: Rate, now: Instant) -> Instant {
        // Never before `now`: time without use does not add up to more than a full bucket.
        self.full_at.map_or(now, |at| at.max(now)) + rate.interval
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_full_bucket_gives_what_it_holds_and_then_one_per_interval() {
        let (rate, start) = (Rate::per_second(5), Instant::now());
        let mut bucket = TokenBucket::default();
        let given =
            |bucket: &mut TokenBucket, at: Duration| (0..20).filter(|_| bucket.take_token(rate, start + at)).count();
        assert_eq!(given(&mut bucket, Duration::ZERO), 5);
        assert_eq!(given(&mut bucket, Duration::from_millis(199)), 0);
        assert_eq!(given(&mut bucket, Duration::from_millis(200)), 1);
        assert_eq!(given(&mut bucket, Duration::from_mins(1)), 5, "it never holds more");
    }

    proptest! {
        #[test]
        fn an_even_stream_passes_though_its_items_come_late(times in 1_u32..50, delays in prop::collection::vec(0_u64..=1000, 1..200)) {
            let (rate, start) = (Rate::per_second(times), Instant::now());
            let mut bucket = TokenBucket::default();
            let mut last = Duration::ZERO;
            for (i, delay) in delays.iter().enumerate() {
                let sent = Duration::from_secs(1) * u32::try_from(i).expect("few") / times;
                let late = Duration::from_millis(*delay) * (times - 1) / times;
                last = last.max(sent + late);
                prop_assert!(bucket.take_token(rate, start + last));
            }
        }

        #[test]
        fn it_gives_what_a_counter_gives(times in 1_u32..9, steps in prop::collection::vec(0_u32..400, 1..200)) {
            let (rate, start) = (Rate::per_second(times), Instant::now());
            let (mut bucket, mut now, mut tokens) = (TokenBucket::default(), Duration::ZERO, u128::from(times) * 1_000_000_000);
            for step in steps {
                let passed = Duration::from_millis(step.into());
                now += passed;
                let (one, all) = (rate.interval.as_nanos(), rate.full.as_nanos());
                tokens = (tokens.min(all) + passed.as_nanos()).min(all);
                let expected = tokens >= one;
                prop_assert_eq!(bucket.take_token(rate, start + now), expected);
                if expected {
                    tokens -= one;
                }
            }
        }
    }
}
