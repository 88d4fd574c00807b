//! Entries that several readers hold at once: each is in memory once, and is composed once for all of them.

use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use hallway_rooms::draft::InvalidEvent;
use hallway_rooms::entry::Entry;
use hallway_rooms::envelope::Envelope;

use super::{History, Resumed};

/// A shared entry.
#[derive(Clone)]
pub struct SharedEntry(Arc<EntryStorage>);

struct EntryStorage {
    entry: Entry,
    /// Made on first use: many entries are read and never sent.
    envelope: OnceLock<Result<Envelope, InvalidEvent>>,
}

impl SharedEntry {
    /// The event as clients get it, composed on first use.
    ///
    /// # Errors
    /// When the event is not valid for clients.
    pub fn envelope(&self) -> Result<&Envelope, &InvalidEvent> {
        self.0.envelope.get_or_init(|| Envelope::from_entry(&self.0.entry)).as_ref()
    }
}

impl From<Entry> for SharedEntry {
    fn from(entry: Entry) -> Self {
        Self(Arc::new(EntryStorage { entry, envelope: OnceLock::new() }))
    }
}

impl Deref for SharedEntry {
    type Target = Entry;

    fn deref(&self) -> &Entry {
        &self.0.entry
    }
}

impl AsRef<Entry> for SharedEntry {
    fn as_ref(&self) -> &Entry {
        self
    }
}

impl fmt::Debug for SharedEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0.entry, f)
    }
}

impl History {
    /// The same history with shared entries.
    #[must_use]
    pub fn into_shared(self) -> Resumed {
        let Self { facts, entries, complete, has_more } = self;
        History { facts, entries: entries.into_iter().map(SharedEntry::from).collect(), complete, has_more }
    }
}

impl<E: AsRef<Entry>> History<E> {
    /// The same history with at most `bytes` of event text, but at least one event if there is any.
    #[must_use]
    pub fn cut_to_bytes(mut self, bytes: usize) -> Self {
        let fitting = fitting_entries(&self.entries, bytes);
        // The rest exists, so the reader must be told to ask again.
        if fitting < self.entries.len() {
            self.entries.truncate(fitting);
            self.has_more = true;
        }
        self
    }
}

/// The number of leading entries with at most `bytes` of text together: at least one, if there is any.
pub(super) fn fitting_entries<E: AsRef<Entry>>(entries: &[E], bytes: usize) -> usize {
    let sums = entries.iter().scan(0, |sum: &mut usize, entry| {
        *sum += entry.as_ref().text.len();
        Some(*sum)
    });
    sums.take_while(|sum| *sum <= bytes).count().max(1).min(entries.len())
}
