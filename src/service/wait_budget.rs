//! Wait budgets: a command that meets an unreachable broker waits for a while, so that a short outage costs time and
//! not a room. No attempt and no wait outlasts the command's budget, and both end with the session.

use std::time::Duration;

use hallway_rooms::close::Refusal;
use tokio::time::{Instant, sleep, timeout_at};

use super::{PendingReply, Service};
use crate::broker::Unavailable;
use crate::session::Session;

/// Pause before a retry, even when the broker looks healthy: this one room may be unreadable.
const RETRY: Duration = Duration::from_millis(200);

/// The minimum for a command that spent its budget waiting in the queue, unless the broker is known to be out of
/// reach: longer than a healthy broker takes.
const LEAST: Duration = Duration::from_secs(1);

impl Service {
    /// The end of a join's wait budget. An answered join counts from its arrival, so that commands queued behind it
    /// are not answered later and later. A join without an answer counts from now.
    pub(super) fn join_deadline(&self, answer: &PendingReply) -> Instant {
        if answer.is_wanted() { self.answer_by(answer) } else { Instant::now() + self.0.limits.join_wait }
    }

    /// The end of the wait budget of a command whose result is worthless when it is late.
    pub(super) fn answer_by(&self, answer: &PendingReply) -> Instant {
        let until = Instant::from_std(answer.arrived()) + self.0.limits.answer_wait;
        let least = LEAST.min(self.0.limits.answer_wait);
        // While the broker is down the minimum would only delay the refusal of every queued command.
        if self.0.broker.health().ready { until.max(Instant::now() + least) } else { until }
    }

    /// Waits until the broker can be reached and says whether to retry. False for a success, for another refusal,
    /// after the budget, or when the session ends.
    pub(super) async fn tries_again(&self, session: &Session, until: Instant, refusal: Option<Refusal>) -> bool {
        if refusal != Some(Refusal::Unavailable) || Instant::now() >= until {
            return false;
        }
        tokio::select! {
            () = session.wait_until_ended() => false,
            back = timeout_at(until, self.broker_back()) => back.is_ok(),
        }
    }

    /// Waits until the broker can be reached, and at least `RETRY`.
    pub(super) async fn broker_back(&self) {
        // Without it a room that alone is unreadable would be retried in a tight loop.
        sleep(RETRY).await;
        self.0.broker.health().recovered().await;
    }
}

/// One step of a longer attempt, with a minimum time of its own. Steps that each succeed may exceed the budget
/// together, because a broker that answers can be reached.
pub(super) async fn step_until<T>(
    until: Instant,
    step: impl Future<Output = Result<T, Unavailable>>,
) -> Result<T, Unavailable> {
    let silent = |_| Err(Unavailable("it does not answer".to_owned()));
    timeout_at(until.max(Instant::now() + LEAST), step).await.unwrap_or_else(silent)
}

/// One attempt, cut off at the end of the budget.
pub(super) async fn attempt_until<T>(
    until: Instant,
    attempt: impl Future<Output = Result<T, Refusal>>,
) -> Result<T, Refusal> {
    timeout_at(until, attempt).await.unwrap_or(Err(Refusal::Unavailable))
}
