//! The heartbeat of one transport: pings in even intervals, each of which is to be answered in time. No clock: the times
//! are arguments.

use std::time::Duration;

use tokio::time::Instant;

use crate::wire::HandOver;

/// Where a transport stands between two pings.
#[derive(Clone, Copy, Debug)]
pub(in crate::wire) struct Heartbeat {
    /// When the next ping is due.
    next: Instant,
    /// Until when the last one is to be answered, while it is not.
    awaited_until: Option<Instant>,
    /// An answer came that no ping had asked for; it counts for the next one, as it does with the library.
    ahead: bool,
}

/// What is to be done at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BeatDue {
    /// Nothing yet.
    Nothing,
    /// A ping is sent.
    Ping,
    /// The peer has not answered in time.
    Missed,
}

impl Heartbeat {
    /// Goes on where the library stopped: its last ping was written at `pinged`, and is `answered` or not.
    pub(in crate::wire) fn continue_from(pinged: Instant, answered: bool, settings: &HandOver) -> Self {
        let awaited_until = (!answered).then(|| later(pinged, settings.ping_timeout));
        Self { next: later(pinged, settings.ping_interval), awaited_until, ahead: false }
    }

    /// When something is to be done next.
    pub(super) fn due(&self) -> Instant {
        self.awaited_until.unwrap_or(self.next)
    }

    /// Decides what is to be done at `now`, and takes it as done.
    pub(super) fn judge_time(&mut self, now: Instant, settings: &HandOver) -> BeatDue {
        if let Some(until) = self.awaited_until {
            // The next ping waits for the answer to this one, however late it gets.
            return if now >= until { BeatDue::Missed } else { BeatDue::Nothing };
        }
        if now < self.next {
            return BeatDue::Nothing;
        }
        // From the time at which it was due, so that the pings of a busy node do not drift.
        self.next = later(self.next, settings.ping_interval).max(now);
        let answered = std::mem::take(&mut self.ahead);
        self.awaited_until = (!answered).then(|| later(now, settings.ping_timeout));
        BeatDue::Ping
    }

    /// Takes an answer.
    pub(super) fn note_answer(&mut self) {
        if self.awaited_until.take().is_none() {
            self.ahead = true;
        }
    }
}

/// `after` a time. The settings are bounded by an hour, so the sum exists.
fn later(time: Instant, after: Duration) -> Instant {
    time.checked_add(after).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: HandOver = HandOver {
        ping_interval: Duration::from_secs(25),
        ping_timeout: Duration::from_secs(20),
        ping: "2",
        farewell: "1",
        beats: |_| false,
        asks: |_| false,
        answers: |_| false,
    };

    fn seconds(began: Instant, at: u64) -> Instant {
        began + Duration::from_secs(at)
    }

    #[tokio::test(start_paused = true)]
    async fn pings_go_out_in_even_intervals_as_long_as_they_are_answered() {
        let began = Instant::now();
        let mut beat = Heartbeat::continue_from(began, true, &SETTINGS);
        for round in 1..5 {
            assert_eq!(beat.due(), seconds(began, 25 * round));
            assert_eq!(beat.judge_time(seconds(began, 25 * round - 1), &SETTINGS), BeatDue::Nothing);
            assert_eq!(beat.judge_time(seconds(began, 25 * round), &SETTINGS), BeatDue::Ping);
            assert_eq!(beat.due(), seconds(began, 25 * round + 20));
            assert_eq!(beat.judge_time(seconds(began, 25 * round + 19), &SETTINGS), BeatDue::Nothing);
            beat.note_answer();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_ping_without_an_answer_is_missed_also_if_the_library_sent_it() {
        let began = Instant::now();
        let mut beat = Heartbeat::continue_from(began, false, &SETTINGS);
        assert_eq!(beat.judge_time(seconds(began, 19), &SETTINGS), BeatDue::Nothing);
        assert_eq!(beat.judge_time(seconds(began, 20), &SETTINGS), BeatDue::Missed);
        let mut beat = Heartbeat::continue_from(began, true, &SETTINGS);
        assert_eq!(beat.judge_time(seconds(began, 30), &SETTINGS), BeatDue::Ping);
        assert_eq!(beat.judge_time(seconds(began, 50), &SETTINGS), BeatDue::Missed);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_ahead_counts_for_one_ping() {
        let began = Instant::now();
        let mut beat = Heartbeat::continue_from(began, true, &SETTINGS);
        beat.note_answer();
        beat.note_answer();
        assert_eq!(beat.judge_time(seconds(began, 25), &SETTINGS), BeatDue::Ping);
        assert_eq!(beat.due(), seconds(began, 50));
        assert_eq!(beat.judge_time(seconds(began, 50), &SETTINGS), BeatDue::Ping);
        assert_eq!(beat.judge_time(seconds(began, 70), &SETTINGS), BeatDue::Missed);
    }
}
