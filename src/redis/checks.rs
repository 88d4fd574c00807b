//! Whether Redis can be relied on: every check must hold, and the first failing one gives the reason.

use metrics::{Gauge, gauge};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::link::{UNANSWERED, Unavailable};
use crate::logs;
use crate::metrics::BROKER_UP;

/// The checks, in the order of how much they explain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    /// Redis is a single server and not a cluster node.
    Mode,
    /// `maxmemory-policy` does not evict histories.
    Policy,
    /// The command link works.
    Commands,
    /// This node's Redis user has the rights that it needs.
    Rights,
    /// The pub/sub link receives, canaries included.
    PubSub,
}

/// The number of checks.
const CHECKS: usize = 5;

/// The failure of each check; none where it holds.
type Problems = [Option<String>; CHECKS];

/// See the module.
#[derive(Debug)]
pub(crate) struct Checks {
    problems: Mutex<Problems>,
    /// Whether all hold; waited for by commands.
    up: watch::Sender<bool>,
    gauge: Gauge,
}

impl Checks {
    pub(crate) fn new() -> Self {
        let mut problems = Problems::default();
        // Not ready until both links have proved to work. The other checks only ever report a failure.
        for waiting in [Check::Commands, Check::PubSub] {
            problems[waiting as usize] = Some(UNANSWERED.to_owned());
        }
        let gauge = gauge!(BROKER_UP);
        gauge.set(0.0);
        Self { problems: Mutex::new(problems), up: watch::Sender::new(false), gauge }
    }

    pub(crate) fn is_up(&self) -> bool {
        *self.up.borrow()
    }

    /// What to refuse at once while Redis is out of reach, instead of a wait for an answer that may not come.
    pub(crate) fn reachable(&self) -> Result<(), Unavailable> {
        if self.is_up() { Ok(()) } else { Err(Unavailable(self.problem())) }
    }

    /// Tells when it is up.
    pub(crate) fn watch(&self) -> watch::Receiver<bool> {
        self.up.subscribe()
    }

    /// The problem that explains most.
    pub(crate) fn problem(&self) -> String {
        self.problems.lock().iter().flatten().next().cloned().unwrap_or_default()
    }

    /// Notes the outcome of a check. A problem is logged when it is new, once though several checks have it, and so is
    /// the end of all problems.
    pub(crate) fn set(&self, check: Check, problem: Option<String>) {
        let mut problems = self.problems.lock();
        let known = problems.contains(&problem);
        let news = problem.clone().filter(|_| !known);
        problems[check as usize] = problem;
        let up = problems.iter().all(Option::is_none);
        // Under the lock: of two concurrent checks the later outcome must win.
        let was = self.up.send_replace(up);
        drop(problems);
        if let Some(problem) = news {
            tracing::error!(event = logs::BROKER_DOWN, problem, "Redis cannot be relied on; this node is not ready");
        }
        if was != up {
            self.gauge.set(if up { 1.0 } else { 0.0 });
            if up {
                tracing::info!(event = logs::BROKER_UP, "Redis is ready");
            }
        }
    }
}
