//! Paced log lines about foreign data in Redis. A publisher may send thousands of invalid messages a second; metrics
//! count them all.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The least time between two log lines.
const EVERY: Duration = Duration::from_secs(1);

/// The pace of one kind of log line.
#[derive(Debug, Default)]
pub(crate) struct Complaints {
    last: Mutex<Option<Instant>>,
}

impl Complaints {
    /// Whether the last log line is old enough for another one.
    pub(crate) fn may_complain(&self) -> bool {
        let mut last = self.last.lock();
        let may = last.is_none_or(|at| at.elapsed() >= EVERY);
        if may {
            *last = Some(Instant::now());
        }
        may
    }
}
