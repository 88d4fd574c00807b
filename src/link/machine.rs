//! The next step of a link: a calculation over its states, shared by the tasks of all links. Clock and chance are
//! arguments.

use std::time::Duration;

use tokio::time::Instant;

/// The wait before the second attempt in a row. Each further one waits twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(50);
/// The longest wait: with an attempt that hangs for `redis.connect_timeout` before it, below the five seconds within
/// which a node has to recover.
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// A connection that lasted this long proves that attempts need no wait.
const PROVEN: Duration = Duration::from_secs(2);

/// The state of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkPhase {
    /// There is no connection.
    Connecting,
    /// There is a connection.
    Up,
    /// There is a connection, and another one is being made to see whether it serves better.
    Suspect,
}

/// The state machine of a link.
#[derive(Debug)]
pub struct LinkMachine {
    phase: LinkPhase,
    /// Attempts since a connection was last proven.
    attempts: u32,
    /// When the next attempt is due; none while a connection is trusted.
    due: Option<Instant>,
    /// When the last connection was made, to tell whether it has proven itself.
    up_since: Instant,
}

impl LinkMachine {
    /// A link without a connection, which is due at once.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { phase: LinkPhase::Connecting, attempts: 0, due: Some(now), up_since: now }
    }

    /// The state.
    #[must_use]
    pub fn phase(&self) -> LinkPhase {
        self.phase
    }

    /// When to connect, if at all.
    #[must_use]
    pub fn attempt_due(&self) -> Option<Instant> {
        self.due
    }

    /// Records a successful attempt.
    pub fn note_connected(&mut self, now: Instant) {
        self.phase = LinkPhase::Up;
        self.due = None;
        self.up_since = now;
        self.attempts += 1;
    }

    /// Records a failed attempt. `chance`, from 0 to 1, spreads the attempts of many nodes.
    pub fn note_refused(&mut self, now: Instant, chance: f64) {
        self.attempts += 1;
        self.due = Some(now + backoff_after(self.attempts, chance));
    }

    /// Records that the connection is gone, or leads to a server that serves no client.
    pub fn note_lost(&mut self, now: Instant, chance: f64) {
        // An attempt that is due already keeps its time: the suspect connection was to be replaced anyway.
        if self.phase == LinkPhase::Up {
            self.due = Some(self.next_attempt(now, chance));
        }
        self.phase = LinkPhase::Connecting;
    }

    /// Records that something speaks against the connection.
    pub fn note_doubt(&mut self, now: Instant, chance: f64) {
        if self.phase == LinkPhase::Up {
            self.phase = LinkPhase::Suspect;
            self.due = Some(self.next_attempt(now, chance));
        }
    }

    /// Records that nothing speaks against the connection any more.
    pub fn clear_doubt(&mut self) {
        if self.phase == LinkPhase::Suspect {
            self.phase = LinkPhase::Up;
            self.due = None;
        }
    }

    /// Makes a waiting attempt due at once, because there is reason to expect success.
    pub fn attempt_now(&mut self, now: Instant) {
        self.due = self.due.map(|due| due.min(now));
    }

    /// The time of the next attempt: at once after a connection that has proven itself. One that was lost right after
    /// it was made counts like a refused attempt; otherwise a server that accepts and hangs up would be contacted in
    /// a tight loop.
    fn next_attempt(&mut self, now: Instant, chance: f64) -> Instant {
        if now.saturating_duration_since(self.up_since) >= PROVEN {
            self.attempts = 0;
        }
        // The attempt that made the connection is the first one: a single loss is followed by an attempt at once.
        now + backoff_after(self.attempts.saturating_sub(1), chance)
    }
}

/// The wait before the next attempt after so many; none after none.
fn backoff_after(attempts: u32, chance: f64) -> Duration {
    let Some(doublings) = attempts.checked_sub(1) else { return Duration::ZERO };
    let longest = (FIRST_WAIT * 2_u32.saturating_pow(doublings.min(10))).min(LONGEST_WAIT);
    longest.mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGE: Duration = Duration::from_secs(60);

    fn proven(now: Instant) -> LinkMachine {
        let mut machine = LinkMachine::new(now);
        machine.note_connected(now);
        machine
    }

    #[test]
    fn the_first_attempt_is_immediate_and_the_others_wait_up_to_two_seconds() {
        let now = Instant::now();
        let mut machine = LinkMachine::new(now);
        assert_eq!(machine.attempt_due(), Some(now));
        let mut waits = Vec::new();
        for _ in 0..9 {
            machine.note_refused(now, 1.0);
            waits.push((machine.attempt_due().expect("an attempt is due") - now).as_millis());
        }
        assert_eq!(waits, [50, 100, 200, 400, 800, 1600, 2000, 2000, 2000]);
        machine.note_refused(now, 0.0);
        assert_eq!(machine.attempt_due(), Some(now + LONGEST_WAIT / 2), "chance spreads them");
    }

    #[test]
    fn a_proven_connection_that_is_lost_or_doubted_is_replaced_at_once() {
        let now = Instant::now();
        let mut lost = proven(now);
        lost.note_lost(now + AGE, 1.0);
        assert_eq!((lost.phase(), lost.attempt_due()), (LinkPhase::Connecting, Some(now + AGE)));
        let mut doubted = proven(now);
        doubted.note_doubt(now + AGE, 1.0);
        assert_eq!((doubted.phase(), doubted.attempt_due()), (LinkPhase::Suspect, Some(now + AGE)));
        doubted.clear_doubt();
        assert_eq!((doubted.phase(), doubted.attempt_due()), (LinkPhase::Up, None));
    }

    #[test]
    fn a_server_that_accepts_and_hangs_up_is_not_asked_without_end() {
        let mut now = Instant::now();
        let mut machine = LinkMachine::new(now);
        let mut waits = Vec::new();
        for _ in 0..8 {
            machine.note_connected(now);
            machine.note_lost(now, 1.0);
            let due = machine.attempt_due().expect("an attempt is due");
            waits.push((due - now).as_millis());
            now = due;
        }
        assert_eq!(waits, [0, 50, 100, 200, 400, 800, 1600, 2000]);
    }

    #[test]
    fn a_doubted_connection_that_is_lost_keeps_the_attempt_that_is_due() {
        let now = Instant::now();
        let mut machine = proven(now);
        machine.note_doubt(now + AGE, 1.0);
        machine.note_refused(now + AGE, 1.0);
        let due = machine.attempt_due();
        machine.note_lost(now + AGE, 1.0);
        assert_eq!((machine.phase(), machine.attempt_due()), (LinkPhase::Connecting, due));
        machine.attempt_now(now);
        assert_eq!(machine.attempt_due(), Some(now));
    }
}
