//! Which ends of its tokens a session has been told of: each at most once, and never two in a hurry. An app answers a notice
//! with `refresh_token`, and one whose token is from a cache must not be answered with the next notice.

use std::time::{Duration, Instant};

/// Between two notices to one session. A client that chases its notices costs no more than a ping then, and still hears of
/// the end of another token well before it comes.
pub(super) const APART: Duration = Duration::from_secs(10);

/// What one session was told.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// The ends that lie ahead. Of each the session was told within the lead, so there is one per [`APART`] of it at most.
    ends_ms: Vec<u64>,
    at: Option<Instant>,
}

/// What becomes of a notice that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Notice {
    /// It is sent, and noted.
    Now,
    /// It is looked at again at this time, milliseconds since the Unix epoch.
    At(u64),
    /// There is none: the end is known, or comes first.
    Never,
}

impl Told {
    /// Judges the notice of an end that lies ahead.
    pub(super) fn judge(&mut self, end_ms: u64, now_ms: u64, now: Instant) -> Notice {
        self.ends_ms.retain(|end_ms| *end_ms > now_ms);
        if self.ends_ms.contains(&end_ms) {
            return Notice::Never;
        }
        let wait = self.at.map_or(Duration::ZERO, |at| APART.saturating_sub(now.saturating_duration_since(at)));
        if wait.is_zero() {
            self.ends_ms.push(end_ms);
            self.at = Some(now);
            return Notice::Now;
        }
        // Up to the next millisecond: one that is looked at too early would wait once more.
        let later_ms = now_ms.saturating_add(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)).saturating_add(1);
        if later_ms < end_ms { Notice::At(later_ms) } else { Notice::Never }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START_MS: u64 = 1_800_000_000_000;

    /// What a session hears to which tokens come at which time with how long to live, and when; all in seconds.
    fn play(lead_s: u64, tokens: &[(u64, u64)]) -> Vec<(u64, u64)> {
        let (began, mut told, mut said) = (Instant::now(), Told::default(), Vec::new());
        let (mut end_ms, mut due_ms, mut tokens) = (u64::MAX, None, tokens.iter().peekable());
        for ms in (0..200_000_u64).step_by(250) {
            let (now_ms, now) = (START_MS + ms, began + Duration::from_millis(ms));
            while let Some((at_s, life_s)) = tokens.next_if(|(at_s, _)| at_s * 1000 <= ms) {
                end_ms = START_MS + (at_s + life_s) * 1000;
                due_ms = Some(end_ms - lead_s * 1000);
            }
            if now_ms >= end_ms {
                break;
            }
            let Some(_) = due_ms.take_if(|due_ms| now_ms >= *due_ms) else { continue };
            match told.judge(end_ms, now_ms, now) {
                Notice::Now => said.push((ms / 1000, (end_ms - START_MS) / 1000)),
                Notice::At(later_ms) => due_ms = Some(later_ms),
                Notice::Never => {}
            }
        }
        said
    }

    #[test]
    fn an_end_is_told_once_and_another_one_ten_seconds_later() {
        for (tokens, expected) in [
            (&[(0, 30)][..], &[(0, 30)][..]),
            (&[(0, 61)], &[(1, 61)]),
            // The same token again: the same end.
            (&[(0, 60), (1, 59), (2, 58), (20, 40)], &[(0, 60)]),
            (&[(0, 30), (1, 40)], &[(0, 30), (10, 41)]),
            (&[(0, 30), (1, 8)], &[(0, 30)]),
            (&[(0, 30), (1, 40), (20, 10)], &[(0, 30), (10, 41)]),
            (&[(0, 30), (12, 40), (13, 17), (25, 27)], &[(0, 30), (12, 52)]),
        ] {
            assert_eq!(play(60, tokens), expected, "{tokens:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_tokens_come_no_end_is_told_twice_and_no_two_within_ten_seconds(
            pauses in prop::collection::vec((0..15_u64, 1..90_u64), 1..40),
        ) {
            let at = pauses.iter().scan(0, |at, (pause, life)| { *at += pause; Some((*at, *life)) });
            let said = play(60, &at.collect::<Vec<_>>());
            for (n, (at, end)) in said.iter().enumerate() {
                prop_assert!(at < end && end - at <= 60, "{said:?}");
                prop_assert!(said[..n].iter().all(|(before, known)| known != end && at - before >= 10), "{said:?}");
            }
        }
    }
}
