//! Log lines about what others put into Redis. A sender of rubbish may send thousands of messages a second, so such lines are
//! paced; metrics count them all.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Between two log lines.
const EVERY: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Complaints {
    last: Mutex<Option<Instant>>,
}

impl Complaints {
    /// Whether the last log line was long enough ago for another.
    pub(crate) fn may_complain(&self) -> bool {
        let mut last = self.last.lock();
        let may = last.is_none_or(|at| at.elapsed() >= EVERY);
        if may {
            *last = Some(Instant::now());
        }
        may
    }
}
