//! Which token expiries a session was notified of: each at most once, and two never within ten seconds. An app answers
//! a notice with `refresh_token`; if its token comes from a cache, the answer to that must not be the next notice at
//! once.

use std::time::{Duration, Instant};

/// Least time between two notices to one session. A client that loops on notices costs no more than a ping, and a
/// notice for another token still comes well before its end.
pub(super) const APART: Duration = Duration::from_secs(10);

/// The notices sent to one session.
#[derive(Debug, Default)]
pub(super) struct SentNotice {
    /// Announced expiries that lie ahead, in milliseconds since the Unix epoch. Each was announced within the lead time
    /// before it, so there is at most one per [`APART`] of the lead.
    ends_ms: Vec<u64>,
    /// When the last notice was sent.
    at: Option<Instant>,
}

/// The decision on a notice that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Notice {
    /// It is sent, and recorded.
    Now,
    /// It is decided again at this time, in milliseconds since the Unix epoch.
    At(u64),
    /// It is not sent: the expiry was announced, or comes before the notice may be sent.
    Never,
}

impl SentNotice {
    /// Decides on the notice of an expiry that lies ahead.
    pub(super) fn judge_notice(&mut self, end_ms: u64, now_ms: u64, now: Instant) -> Notice {
        // Expiries in the past are forgotten, which bounds the list.
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
        // Rounded up to the next millisecond: a notice checked too early would be put off once more.
        let later_ms = now_ms.saturating_add(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)).saturating_add(1);
        if later_ms < end_ms { Notice::At(later_ms) } else { Notice::Never }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START_MS: u64 = 1_800_000_000_000;

    /// Gives the notices of a session as (time, announced end), for tokens given as (time, lifetime); all in seconds.
    fn play(lead_s: u64, tokens: &[(u64, u64)]) -> Vec<(u64, u64)> {
        let (began, mut notices, mut said) = (Instant::now(), SentNotice::default(), Vec::new());
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
            match notices.judge_notice(end_ms, now_ms, now) {
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
