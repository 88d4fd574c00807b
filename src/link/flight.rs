//! What was asked on a connection and not answered yet, and for how long nothing has come at all. Answers come in the order
//! of the questions, so one that is late says nothing as long as others come, or a part of it does: a large answer takes its
//! time on a slow network.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// An answer may take so many times the patience with one, as long as something comes: with `redis.response_timeout` at its
/// default half a minute, which is 30 MB on a network that carries one a second.
const LONGEST: u32 = 6;

/// See the module.
#[derive(Debug)]
pub(super) struct Flight {
    state: Mutex<State>,
    given_up: CancellationToken,
}

#[derive(Debug)]
struct State {
    open: usize,
    /// When something came last, or the first open question was asked, if that was later.
    quiet_since: Instant,
    heard: Instant,
}

/// A question; dropped without an answer, it is one that its asker no longer waits for.
#[derive(Debug)]
pub(super) struct Asked(Arc<Flight>);

impl Flight {
    pub(super) fn new() -> Arc<Self> {
        let now = Instant::now();
        let state = State { open: 0, quiet_since: now, heard: now };
        Arc::new(Self { state: Mutex::new(state), given_up: CancellationToken::new() })
    }

    pub(super) fn ask(self: &Arc<Self>) -> Asked {
        let mut state = self.state.lock();
        if state.open == 0 {
            state.quiet_since = Instant::now();
        }
        state.open += 1;
        Asked(self.clone())
    }

    /// Notes that something came: an answer, or a part of one.
    pub(super) fn heard(&self) {
        let mut state = self.state.lock();
        state.heard = Instant::now();
        state.quiet_since = state.heard;
    }

    /// Waits until an answer that was to come by `due` is no longer to be expected.
    pub(super) async fn overdue(&self, mut due: Instant, patience: Duration) {
        let last = due + patience * (LONGEST - 1);
        while due > Instant::now() {
            sleep_until(due).await;
            due = last.min(self.state.lock().heard + patience);
        }
    }

    /// For how long questions have been open and nothing came.
    pub(super) fn silence(&self) -> Duration {
        let state = self.state.lock();
        if state.open == 0 { Duration::ZERO } else { state.quiet_since.elapsed() }
    }

    /// Whether there are questions that are waited for.
    pub(super) fn is_open(&self) -> bool {
        self.state.lock().open > 0
    }

    /// For how long nothing has come.
    pub(super) fn idle(&self) -> Duration {
        self.state.lock().heard.elapsed()
    }

    /// Ends the waiting for every open question.
    pub(super) fn give_up(&self) {
        self.given_up.cancel();
    }

    pub(super) async fn given_up(&self) {
        self.given_up.cancelled().await;
    }
}

impl Asked {
    pub(super) fn answered(&self) {
        self.0.heard();
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.0.state.lock().open -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn silence_is_counted_from_the_last_answer_while_a_question_is_open() {
        let flight = Flight::new();
        tokio::time::advance(Duration::from_secs(9)).await;
        assert_eq!(flight.silence(), Duration::ZERO, "nothing was asked");
        let (first, second) = (flight.ask(), flight.ask());
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(flight.silence(), Duration::from_secs(2));
        first.answered();
        drop(first);
        assert_eq!(flight.silence(), Duration::ZERO);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(flight.silence(), Duration::from_secs(1));
        drop(second);
        assert_eq!(flight.silence(), Duration::ZERO, "its asker does not wait any more");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_waited_for_as_long_as_something_comes_but_not_for_ever() {
        const PATIENCE: Duration = Duration::from_secs(5);
        let flight = Flight::new();
        let began = Instant::now();
        flight.overdue(began + PATIENCE, PATIENCE).await;
        assert_eq!(began.elapsed(), PATIENCE);

        let began = Instant::now();
        let trickle = async {
            for _ in 0..8 {
                tokio::time::sleep(Duration::from_secs(1)).await;
                flight.heard();
            }
        };
        tokio::join!(flight.overdue(began + PATIENCE, PATIENCE), trickle);
        assert_eq!(began.elapsed(), Duration::from_secs(8) + PATIENCE);

        let began = Instant::now();
        let endless = async {
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                flight.heard();
            }
        };
        tokio::select! { () = flight.overdue(began + PATIENCE, PATIENCE) => {}, () = endless => unreachable!() }
        assert_eq!(began.elapsed(), PATIENCE * LONGEST);
    }
}
