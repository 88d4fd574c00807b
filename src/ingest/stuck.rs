//! Bad entries that cannot be put aside: they stay pending, are passed over, and are tried again now and then.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use hallway_rooms::close::Refusal;
use tokio::time::Instant;

use super::rejects::Reject;
use crate::service::publish::Refused;

/// Between two attempts at the first of them.
const AGAIN: Duration = Duration::from_secs(1);
/// Most events to remember that could not be stored.
const UNSTORED: usize = 10_000;
/// In front of every entry.
pub(super) const BEGINNING: &str = "0";

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Stuck {
    /// What is pending up to here is stuck, and when to try again.
    passed: Option<(String, Instant)>,
    /// Those that are not bad in themselves: published later they would come behind what they stood before.
    unstored: HashMap<String, Refused>,
    /// Entries of the last batch that are put aside and not known to be acknowledged.
    aside: HashSet<String>,
}

impl Stuck {
    /// Behind which entry pending ones are to be read.
    pub(super) fn behind(&self) -> &str {
        self.passed.as_ref().map_or(BEGINNING, |(last, _)| last)
    }

    /// How long until they are to be tried again; none when there are none.
    pub(super) fn due_in(&self) -> Option<Duration> {
        self.passed.as_ref().map(|(_, again)| again.saturating_duration_since(Instant::now()))
    }

    /// All up to `last` has been dealt with but for stuck ones. `soon` says that others were put aside just now.
    pub(super) fn pass(&mut self, last: String, soon: bool) {
        let kept = self.passed.take().map(|(_, again)| again);
        let again = if soon { Instant::now() } else { kept.unwrap_or_else(|| Instant::now() + AGAIN) };
        self.passed = Some((last, again));
    }

    /// The first of them is stuck as before.
    pub(super) fn put_off(&mut self) {
        if let Some((_, again)) = &mut self.passed {
            *again = Instant::now() + AGAIN;
        }
    }

    /// From here on everything pending is read from its beginning.
    pub(super) fn rewind(&mut self) {
        self.passed = None;
    }

    /// Why an entry is not to be published any more.
    pub(super) fn refused(&self, entry: &str) -> Option<Refused> {
        self.unstored.get(entry).cloned()
    }

    /// It could not be put aside.
    pub(super) fn hold(&mut self, reject: &Reject) {
        if reject.refused.refusal == Refusal::NotStored && self.unstored.len() < UNSTORED {
            self.unstored.insert(reject.entry.clone(), reject.refused.clone());
        }
    }

    /// It could.
    pub(super) fn release(&mut self, reject: &Reject) {
        self.unstored.remove(&reject.entry);
        self.aside.insert(reject.entry.clone());
    }

    /// Whether it was put aside before, and only its acknowledgement failed.
    pub(super) fn is_aside(&self, reject: &Reject) -> bool {
        self.aside.contains(&reject.entry)
    }

    /// What was put aside is acknowledged.
    pub(super) fn acknowledged(&mut self) {
        self.aside.clear();
    }

    /// It is another node's turn.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}
