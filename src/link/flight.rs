//! The commands of a connection without a reply, and for how long nothing has come at all. Replies come in the order
//! of the commands, so a late one means nothing while others, or parts of it, arrive: a large reply takes its time on
//! a slow network.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// How many times its timeout a reply may take while bytes arrive. With the default of `redis.response_timeout` half
/// a minute, which is 30 MB at 1 MB/s.
const LONGEST: u32 = 6;

/// The commands in flight on one connection.
#[derive(Debug)]
pub(super) struct InFlight {
    state: Mutex<FlightState>,
    /// Cancelled when the connection is given up, which fails every open command.
    given_up: CancellationToken,
}

#[derive(Debug)]
struct FlightState {
    /// Commands without a reply.
    open: usize,
    /// When something last came, or when the first open command was sent, if that was later.
    quiet_since: Instant,
    /// When something last came; silence without an open command counts too.
    last_received: Instant,
}

/// An open command. Dropping it without a reply closes it: its sender does not wait any more.
#[derive(Debug)]
pub(super) struct PendingCommand(Arc<InFlight>);

impl InFlight {
    pub(super) fn new() -> Arc<Self> {
        let now = Instant::now();
        let state = FlightState { open: 0, quiet_since: now, last_received: now };
        Arc::new(Self { state: Mutex::new(state), given_up: CancellationToken::new() })
    }

    pub(super) fn begin_command(self: &Arc<Self>) -> PendingCommand {
        let mut state = self.state.lock();
        // Idle time before the first command is not silence.
        if state.open == 0 {
            state.quiet_since = Instant::now();
        }
        state.open += 1;
        PendingCommand(self.clone())
    }

    /// Records that something came: a reply, or a part of one.
    pub(super) fn note_bytes(&self) {
        let mut state = self.state.lock();
        state.last_received = Instant::now();
        state.quiet_since = state.last_received;
    }

    /// Waits until a reply expected by `due` is too late.
    pub(super) async fn wait_until_overdue(&self, mut due: Instant, wait_limit: Duration) {
        let last = due + wait_limit * (LONGEST - 1);
        while due > Instant::now() {
            sleep_until(due).await;
            // Moved along by each arrival, up to `LONGEST` timeouts in all.
            due = last.min(self.state.lock().last_received + wait_limit);
        }
    }

    /// How long commands have been open without anything coming.
    pub(super) fn silent_for(&self) -> Duration {
        let state = self.state.lock();
        if state.open == 0 { Duration::ZERO } else { state.quiet_since.elapsed() }
    }

    /// Whether commands wait for a reply.
    pub(super) fn is_open(&self) -> bool {
        self.state.lock().open > 0
    }

    /// How long nothing has come.
    pub(super) fn idle_for(&self) -> Duration {
        self.state.lock().last_received.elapsed()
    }

    /// Fails every open command.
    pub(super) fn give_up(&self) {
        self.given_up.cancel();
    }

    pub(super) async fn given_up(&self) {
        self.given_up.cancelled().await;
    }
}

impl PendingCommand {
    pub(super) fn note_answer(&self) {
        self.0.note_bytes();
    }
}

impl Drop for PendingCommand {
    fn drop(&mut self) {
        self.0.state.lock().open -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn silence_is_counted_from_the_last_answer_while_a_question_is_open() {
        let flight = InFlight::new();
        tokio::time::advance(Duration::from_secs(9)).await;
        assert_eq!(flight.silent_for(), Duration::ZERO, "nothing was asked");
        let (first, second) = (flight.begin_command(), flight.begin_command());
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(flight.silent_for(), Duration::from_secs(2));
        first.note_answer();
        drop(first);
        assert_eq!(flight.silent_for(), Duration::ZERO);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(flight.silent_for(), Duration::from_secs(1));
        drop(second);
        assert_eq!(flight.silent_for(), Duration::ZERO, "its asker does not wait any more");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_waited_for_as_long_as_something_comes_but_not_for_ever() {
        const PATIENCE: Duration = Duration::from_secs(5);
        let flight = InFlight::new();
        let began = Instant::now();
        flight.wait_until_overdue(began + PATIENCE, PATIENCE).await;
        assert_eq!(began.elapsed(), PATIENCE);

        let began = Instant::now();
        let trickle = async {
            for _ in 0..8 {
                tokio::time::sleep(Duration::from_secs(1)).await;
                flight.note_bytes();
            }
        };
        tokio::join!(flight.wait_until_overdue(began + PATIENCE, PATIENCE), trickle);
        assert_eq!(began.elapsed(), Duration::from_secs(8) + PATIENCE);

        let began = Instant::now();
        let endless = async {
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                flight.note_bytes();
            }
        };
        tokio::select! { () = flight.wait_until_overdue(began + PATIENCE, PATIENCE) => {}, () = endless => unreachable!() }
        assert_eq!(began.elapsed(), PATIENCE * LONGEST);
    }
}
