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
type CheckFailures = [Option<String>; CHECKS];

/// The state of all checks.
#[derive(Debug)]
pub(crate) struct Checks {
    problems: Mutex<CheckFailures>,
    /// Whether all hold; waited for by commands.
    up: watch::Sender<bool>,
    /// Kept to be cloned: the end of the last receiver would take a lock, and every command asks for the health.
    watching: watch::Receiver<bool>,
    gauge: Gauge,
}

impl Checks {
    pub(crate) fn new() -> Self {
        let mut problems = CheckFailures::default();
        // Not ready until both links have proved to work. The other checks only ever report a failure.
        for waiting in [Check::Commands, Check::PubSub] {
            problems[waiting as usize] = Some(UNANSWERED.to_owned());
        }
        let gauge = gauge!(BROKER_UP);
        gauge.set(0.0);
        let (up, watching) = watch::channel(false);
        Self { problems: Mutex::new(problems), up, watching, gauge }
    }

    pub(crate) fn is_up(&self) -> bool {
        *self.up.borrow()
    }

    /// Refuses at once while Redis cannot be reached, instead of waiting for a reply that may not come.
    pub(crate) fn reachable(&self) -> Result<(), Unavailable> {
        if self.is_up() { Ok(()) } else { Err(Unavailable(self.first_problem())) }
    }

    /// A receiver that is notified when the outcome of all checks changes.
    pub(crate) fn watch(&self) -> watch::Receiver<bool> {
        self.watching.clone()
    }

    /// The failure that explains most.
    pub(crate) fn first_problem(&self) -> String {
        self.problems.lock().iter().flatten().next().cloned().unwrap_or_default()
    }

    /// Records the outcome of a check. A failure is logged when it begins, once even if several checks have the same,
    /// and so is the end of all failures.
    pub(crate) fn set_outcome(&self, check: Check, problem: Option<String>) {
        let mut problems = self.problems.lock();
        // Several checks fail for one cause: its text is logged for the first of them.
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
