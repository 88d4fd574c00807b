//! Bad entries that cannot be put aside: they stay pending, are passed over, and are retried at intervals.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use hallway_rooms::close::Refusal;
use tokio::time::Instant;

use super::rejects::Reject;
use crate::service::publish::PublishRefused;

/// Pause between two retries of the first one.
const AGAIN: Duration = Duration::from_secs(1);
/// Bound of the remembered entries whose events could not be stored.
const UNSTORED: usize = 10_000;
/// The position before every entry.
pub(super) const BEGINNING: &str = "0";

/// The stuck entries.
#[derive(Debug, Default)]
pub(super) struct Stuck {
    /// Pending entries up to here are stuck; and when to retry.
    passed: Option<(String, Instant)>,
    /// Valid entries that Redis could not store. They stay refused: published later they would come behind events
    /// that they preceded.
    unstored: HashMap<String, PublishRefused>,
    /// Entries of the last batch that are put aside and perhaps not acknowledged.
    aside: HashSet<String>,
}

impl Stuck {
    /// The entry after which pending ones are read.
    pub(super) fn read_from(&self) -> &str {
        self.passed.as_ref().map_or(BEGINNING, |(last, _)| last)
    }

    /// The time until the next retry; none without stuck entries.
    pub(super) fn due_in(&self) -> Option<Duration> {
        self.passed.as_ref().map(|(_, again)| again.saturating_duration_since(Instant::now()))
    }

    /// Passes over everything up to `last`. `soon` says that another entry was put aside just now.
    pub(super) fn pass_to(&mut self, last: String, soon: bool) {
        let kept = self.passed.take().map(|(_, again)| again);
        // The obstacle may be gone, so the stuck ones are retried at once. Otherwise passing over more of them must
        // not postpone the retry.
        let again = if soon { Instant::now() } else { kept.unwrap_or_else(|| Instant::now() + AGAIN) };
        self.passed = Some((last, again));
    }

    /// Postpones the retry, as the first entry is still stuck.
    pub(super) fn put_off(&mut self) {
        if let Some((_, again)) = &mut self.passed {
            *again = Instant::now() + AGAIN;
        }
    }

    /// Reads all pending entries from the start again.
    pub(super) fn rewind_to_start(&mut self) {
        self.passed = None;
    }

    /// The refusal of an entry that must not be published any more.
    pub(super) fn refusal_of(&self, entry: &str) -> Option<PublishRefused> {
        self.unstored.get(entry).cloned()
    }

    /// Records that an entry could not be put aside.
    pub(super) fn hold_back(&mut self, reject: &Reject) {
        // Invalid entries are refused by every read; these might be accepted the next time.
        if reject.refused.refusal == Refusal::NotStored && self.unstored.len() < UNSTORED {
            self.unstored.insert(reject.entry.clone(), reject.refused.clone());
        }
    }

    /// Records that an entry has been put aside.
    pub(super) fn mark_put_aside(&mut self, reject: &Reject) {
        self.unstored.remove(&reject.entry);
        self.aside.insert(reject.entry.clone());
    }

    /// Whether the entry was put aside before, and only its acknowledgement failed.
    pub(super) fn is_aside(&self, reject: &Reject) -> bool {
        self.aside.contains(&reject.entry)
    }

    /// Records that the put aside entries are acknowledged.
    pub(super) fn clear_put_aside(&mut self) {
        self.aside.clear();
    }

    /// Forgets everything, because another node leads.
    pub(super) fn forget_all(&mut self) {
        *self = Self::default();
    }
}
