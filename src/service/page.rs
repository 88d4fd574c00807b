//! One page of a history, as clients get it: bounded in events and bytes, at least one event if there is any.

use hallway_rooms::draft::InvalidEvent;
use hallway_rooms::entry::Entry;
use hallway_rooms::envelope::Envelope;
use hallway_rooms::history::From;
use hallway_rooms::key::Room;
use hallway_rooms::limits::PAGE_EVENTS;
use hallway_rooms::offset::Offset;
use metrics::counter;

use super::current::Current;
use crate::broker::{Resumed, Shared};
use crate::logs;
use crate::metrics::EVENTS_REFUSED;

/// A page ready to be sent.
#[derive(Debug)]
pub(super) struct Page {
    room: Room,
    /// What is fit for clients is composed, and shared with others that are told of the same.
    events: Vec<Shared>,
    /// How many, and the bytes of their text.
    taken: (usize, usize),
    /// Where the reader stands behind it.
    pub(super) offset: Offset,
    /// Everything that came behind this is in it, as far as it goes.
    pub(super) since: Offset,
    /// Whether nothing from the asked place on is missing.
    pub(super) complete: bool,
    /// Whether more follow.
    pub(super) has_more: bool,
    /// What is current, which belongs behind the last of the history.
    pub(super) current: Current,
    bytes: usize,
}

impl Page {
    /// Cuts a history to a page of `room`, of at most `bytes` of event text, with what is `latest` behind it. If the
    /// history fills the page so that nothing of that fits, more follows.
    pub(super) fn of(history: Resumed, latest: &[Entry], room: &Room, from: From, bytes: usize) -> Self {
        let since = since(&history, room, from);
        let taken = (history.entries.len(), history.entries.iter().map(|entry| entry.text.len()).sum());
        let mut current = Current::default();
        current.update(latest, room);
        let offset = history.offset(room);
        let Resumed { complete, has_more, entries, .. } = history;
        let events = entries.into_iter().filter(|entry| entry.link(room).is_some() && fit(entry).is_some()).collect();
        let mut page = Self { room: room.clone(), events, taken, offset, since, complete, has_more, current, bytes };
        if !page.has_more && !page.fit() && taken.0 > 0 {
            page.has_more = true;
        }
        page
    }

    /// Bytes of its events' text.
    pub(super) fn size(&self) -> usize {
        self.taken.1
    }

    /// Whether nothing was missed of the history.
    pub(super) fn is_empty(&self) -> bool {
        self.taken.0 == 0 && !self.has_more
    }

    /// Takes in what came while it was read.
    pub(super) fn update(&mut self, came: &[Entry], room: &Room) {
        self.current.update(came, room);
        if !self.has_more {
            self.fit();
        }
    }

    /// Appends the events as a JSON array; of what is current nothing while more follows.
    pub(super) fn write(&self, out: &mut String) {
        // Of each event beside its text: stamps, room and offset.
        out.reserve(self.taken.1 + self.events.len() * 256);
        out.push('[');
        for (at, event) in self.events.iter().enumerate() {
            out.push_str(if at == 0 { "" } else { "," });
            write_event(event, &self.room, out);
        }
        if !self.has_more {
            self.current.write(out, self.events.is_empty());
        }
        out.push(']');
    }

    fn fit(&mut self) -> bool {
        let (events, bytes) = self.taken;
        self.current.fit(PAGE_EVENTS.saturating_sub(events), self.bytes.saturating_sub(bytes))
    }
}

/// From where on a history has everything: from the place that was asked for, or, where something is missing, from its
/// first link.
pub(super) fn since(history: &Resumed, room: &Room, from: From) -> Offset {
    if history.complete {
        return from.exclusive();
    }
    let first = history.entries.first().and_then(|entry| entry.link(room));
    first.map_or(history.facts.head(), |link| link.prev)
}

/// Leaves out what stands behind a `since` that is ahead of the broker's clock: it was left there by a clock that was set
/// back, and is not what this client missed.
pub(super) fn forget_the_future(history: &mut Resumed, from: From) {
    if history.facts.is_ahead(from) {
        history.entries.clear();
        history.has_more = false;
    }
}

fn write_event(entry: &Shared, room: &Room, out: &mut String) {
    let place = entry.places.iter().find(|place| place.room == *room);
    if let (Some(place), Ok(envelope)) = (place, entry.envelope()) {
        envelope.write_event(&[place], out);
    }
}

/// A stored event as clients get it; none when it is not fit for them, such as one that an older version took.
pub(super) fn composed(entry: &Entry) -> Option<Envelope> {
    Envelope::of(entry).inspect_err(|error| refused(entry, error)).ok()
}

/// As [`composed`], of an entry that others are told of as well.
pub(super) fn fit(entry: &Shared) -> Option<&Envelope> {
    entry.envelope().inspect_err(|error| refused(entry, error)).ok()
}

fn refused(entry: &Entry, error: &InvalidEvent) {
    counter!(EVENTS_REFUSED, "source" => "history").increment(1);
    tracing::debug!(event = logs::EVENT_UNFIT, id = %entry.id, %error, "a stored event is not fit to be passed on");
}
