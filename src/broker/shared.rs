//! Entries that several readers of a history hold at once: each is in memory once, and composed once for all of them.

use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use hallway_rooms::draft::InvalidEvent;
use hallway_rooms::entry::Entry;
use hallway_rooms::envelope::Envelope;

use super::{History, Resumed};

/// See the module.
#[derive(Clone)]
pub struct Shared(Arc<Stored>);

struct Stored {
    entry: Entry,
    envelope: OnceLock<Result<Envelope, InvalidEvent>>,
}

impl Shared {
    /// The event as clients get it, composed when it is first asked for.
    ///
    /// # Errors
    /// When it is not fit for them.
    pub fn envelope(&self) -> Result<&Envelope, &InvalidEvent> {
        self.0.envelope.get_or_init(|| Envelope::of(&self.0.entry)).as_ref()
    }
}

impl From<Entry> for Shared {
    fn from(entry: Entry) -> Self {
        Self(Arc::new(Stored { entry, envelope: OnceLock::new() }))
    }
}

impl Deref for Shared {
    type Target = Entry;

    fn deref(&self) -> &Entry {
        &self.0.entry
    }
}

impl AsRef<Entry> for Shared {
    fn as_ref(&self) -> &Entry {
        self
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0.entry, f)
    }
}

impl History {
    /// The same, to be shared.
    #[must_use]
    pub fn share(self) -> Resumed {
        let Self { facts, entries, complete, has_more } = self;
        History { facts, entries: entries.into_iter().map(Shared::from).collect(), complete, has_more }
    }
}

impl<E: AsRef<Entry>> History<E> {
    /// The same, of at most so many bytes of event text, but at least one event if there is any.
    #[must_use]
    pub fn cut(mut self, bytes: usize) -> Self {
        let fitting = fitting(&self.entries, bytes);
        if fitting < self.entries.len() {
            self.entries.truncate(fitting);
            self.has_more = true;
        }
        self
    }
}

/// How many of these entries have at most so many bytes of text together: at least one, if there is any.
pub(super) fn fitting<E: AsRef<Entry>>(entries: &[E], bytes: usize) -> usize {
    let sums = entries.iter().scan(0, |sum: &mut usize, entry| {
        *sum += entry.as_ref().text.len();
        Some(*sum)
    });
    sums.take_while(|sum| *sum <= bytes).count().max(1).min(entries.len())
}
