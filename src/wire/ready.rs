//! The list of wires that have something to be read by a compact reader. A wire stands on it once at most, which bounds it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// The list of one reader.
#[derive(Debug, Default)]
pub(super) struct ReadyList {
    /// Keys of the wires to look at.
    woken: Mutex<Vec<usize>>,
    /// Wakes the reader, for a wire on the list and for other news.
    pub(super) news: Notify,
}

/// Where one wire stands with its reader.
#[derive(Debug)]
pub(super) struct Readiness {
    /// Whether it is on the list, or must not get there: before the hand-over and after the end.
    listed: AtomicBool,
    /// Its key with the reader; of use while it can be listed.
    key: AtomicUsize,
}

impl ReadyList {
    /// Takes the keys on the list; `emptied` is the list from then on.
    pub(super) fn take_woken(&self, emptied: Vec<usize>) -> Vec<usize> {
        std::mem::replace(&mut self.woken.lock(), emptied)
    }

    /// Lists a wire, unless it is listed.
    pub(super) fn list_wire(&self, readiness: &Readiness) {
        if readiness.listed.swap(true, Ordering::AcqRel) {
            return;
        }
        self.woken.lock().push(readiness.key.load(Ordering::Relaxed));
        self.news.notify_one();
    }
}

impl Default for Readiness {
    fn default() -> Self {
        Self { listed: AtomicBool::new(true), key: AtomicUsize::new(0) }
    }
}

impl Readiness {
    /// Lets the wire be listed under `key`.
    pub(super) fn begin(&self, key: usize) {
        self.key.store(key, Ordering::Relaxed);
        self.unlist();
    }

    /// Lets the wire be listed again. Comes before it is looked at, so that what happens behind the look lists it.
    pub(super) fn unlist(&self) {
        self.listed.store(false, Ordering::Release);
    }

    /// Keeps the wire from the list for good: its key may be another one's from now on.
    pub(super) fn end(&self) {
        self.listed.store(true, Ordering::Release);
    }
}
