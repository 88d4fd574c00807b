//! Whether Redis can be relied on right now: every check must hold, and the first that does not says why.

use metrics::{Gauge, gauge};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::logs;
use crate::metrics::BROKER_UP;

/// The checks, each with what is wrong; none while it holds.
#[derive(Debug)]
struct Checks {
    pubsub: Option<String>,
    commands: Option<String>,
    policy: Option<String>,
}

/// See the module.
pub(super) struct Link {
    checks: Mutex<Checks>,
    up: watch::Sender<bool>,
    gauge: Gauge,
}

/// Which check.
#[derive(Clone, Copy, Debug)]
pub(super) enum Check {
    /// The pub/sub connection, canary included.
    PubSub,
    /// Commands and the function.
    Commands,
    /// `maxmemory-policy`.
    Policy,
}

impl Link {
    pub(super) fn new() -> Self {
        let waiting = Some("Redis has not answered yet; see redis.url and whether it runs".to_owned());
        let checks = Checks { pubsub: waiting.clone(), commands: waiting, policy: None };
        let gauge = gauge!(BROKER_UP);
        gauge.set(0.0);
        Self { checks: Mutex::new(checks), up: watch::Sender::new(false), gauge }
    }

    pub(super) fn is_up(&self) -> bool {
        *self.up.borrow()
    }

    /// Waits until it is up.
    pub(super) async fn is_back(&self) {
        // The sender is a part of this, so the wait cannot fail.
        self.up.subscribe().wait_for(|up| *up).await.ok();
    }

    pub(super) fn problem(&self) -> String {
        let checks = self.checks.lock();
        let first = [&checks.policy, &checks.pubsub, &checks.commands].into_iter().flatten().next();
        first.cloned().unwrap_or_default()
    }

    /// Notes the outcome of a check. A problem is logged when it is new, once though several checks have it, and so is
    /// the end of all problems.
    pub(super) fn set(&self, check: Check, problem: Option<String>) {
        let mut checks = self.checks.lock();
        let known = [&checks.policy, &checks.pubsub, &checks.commands].into_iter().any(|other| *other == problem);
        let slot = match check {
            Check::PubSub => &mut checks.pubsub,
            Check::Commands => &mut checks.commands,
            Check::Policy => &mut checks.policy,
        };
        let news = problem.clone().filter(|_| !known);
        *slot = problem;
        let up = checks.pubsub.is_none() && checks.commands.is_none() && checks.policy.is_none();
        drop(checks);
        if let Some(problem) = news {
            tracing::error!(event = logs::BROKER_DOWN, problem, "Redis cannot be relied on; this node is not ready");
        }
        if self.up.send_replace(up) != up {
            self.gauge.set(if up { 1.0 } else { 0.0 });
            if up {
                tracing::info!(event = logs::BROKER_UP, "Redis is ready");
            }
        }
    }
}
