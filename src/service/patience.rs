//! Patience: what meets a broker out of reach waits for it a little, so that a blip costs time and not a room. One way to
//! wait for all commands: no attempt and no wait outlasts the time that the command has, and both end with the session.

use std::time::Duration;

use hallway_rooms::close::Refusal;
use tokio::time::{Instant, sleep, timeout_at};

use super::{Answer, Service};
use crate::broker::Unavailable;
use crate::session::Session;

/// Between two tries, also where the broker seems to be within reach: it may be this one room that cannot be read.
const RETRY: Duration = Duration::from_millis(200);

/// What a command is given in any case that spent its time behind others in the queue, unless the broker is known to be
/// out of reach: longer than a healthy broker takes.
const LEAST: Duration = Duration::from_secs(1);

impl Service {
    /// Until when a join waits for the broker: counted from its arrival for one that is answered, so that those behind it
    /// are not answered later and later; from now for one that is not.
    pub(super) fn patience(&self, answer: &Answer) -> Instant {
        if answer.is_wanted() { self.answer_by(answer) } else { Instant::now() + self.0.limits.join_wait }
    }

    /// As [`patience`](Self::patience), for what is done in vain when it is done late.
    pub(super) fn answer_by(&self, answer: &Answer) -> Instant {
        let until = Instant::from_std(answer.arrived()) + self.0.limits.answer_wait;
        let least = LEAST.min(self.0.limits.answer_wait);
        if self.0.broker.health().ready { until.max(Instant::now() + least) } else { until }
    }

    /// Whether to try again, behind a wait until the broker seems to be within reach. Not when it was refused for another
    /// reason, or not at all, when the time is up, or when the session ends.
    pub(super) async fn tries_again(&self, session: &Session, until: Instant, refusal: Option<Refusal>) -> bool {
        if refusal != Some(Refusal::Unavailable) || Instant::now() >= until {
            return false;
        }
        tokio::select! {
            () = session.ended() => false,
            back = timeout_at(until, self.broker_back()) => back.is_ok(),
        }
    }

    /// Waits until the broker seems to be within reach, and a moment in any case.
    pub(super) async fn broker_back(&self) {
        sleep(RETRY).await;
        self.0.broker.health().recovered().await;
    }
}

/// One step of a longer attempt. Several that are answered one after the other may take longer together: a broker that
/// answers is within reach.
pub(super) async fn step<T>(
    until: Instant,
    step: impl Future<Output = Result<T, Unavailable>>,
) -> Result<T, Unavailable> {
    let silent = |_| Err(Unavailable("it does not answer".to_owned()));
    timeout_at(until.max(Instant::now() + LEAST), step).await.unwrap_or_else(silent)
}

/// One attempt, given up when the time is up.
pub(super) async fn attempt<T>(
    until: Instant,
    attempt: impl Future<Output = Result<T, Refusal>>,
) -> Result<T, Refusal> {
    timeout_at(until, attempt).await.unwrap_or(Err(Refusal::Unavailable))
}
