//! Whether Redis can be relied on right now: every check must hold, and the first that does not says why.

use metrics::{Gauge, gauge};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::link::{UNANSWERED, Unavailable};
use crate::logs;
use crate::metrics::BROKER_UP;

/// What is looked at, what explains most first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    /// Whether it is a Redis of its own, and no node of a cluster.
    Mode,
    /// `maxmemory-policy`.
    Policy,
    /// The link for commands.
    Commands,
    /// Whether this node's user may do what the work needs.
    Rights,
    /// The pub/sub link, canary included.
    PubSub,
}

/// How many checks there are.
const CHECKS: usize = 5;

/// What is wrong, by check; none where it holds.
type Problems = [Option<String>; CHECKS];

/// See the module.
#[derive(Debug)]
pub(crate) struct Checks {
    problems: Mutex<Problems>,
    up: watch::Sender<bool>,
    gauge: Gauge,
}

impl Checks {
    pub(crate) fn new() -> Self {
        let mut problems = Problems::default();
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
        // Under the lock: of two checks at once, the later one's outcome must stand.
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
