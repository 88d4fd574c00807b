//! One page of a history as clients get it: bounded in events and bytes, with at least one event if there is any.

use hallway_rooms::entry::Entry;
use hallway_rooms::history::Start;
use hallway_rooms::key::Room;
use hallway_rooms::limits::PAGE_EVENTS;
use hallway_rooms::offset::Offset;

use super::compose::shared_envelope;
use super::current::CurrentEvents;
use crate::broker::{Resumed, SharedEntry};

/// A page ready to be sent.
#[derive(Debug)]
pub(super) struct ReplyPage {
    room: Room,
    /// The entries valid for clients, composed once and shared with other readers of the same entries.
    events: Vec<SharedEntry>,
    /// Count and bytes of all entries that were read, including invalid ones: they fill the page too.
    taken: (usize, usize),
    /// The offset to continue from.
    pub(super) offset: Offset,
    /// The page has every event after this offset, as far as it goes.
    pub(super) since: Offset,
    /// Whether nothing after the requested start is missing.
    pub(super) complete: bool,
    /// Whether more events follow.
    pub(super) has_more: bool,
    /// The `latest` events, which belong behind the end of the history.
    pub(super) current: CurrentEvents,
    /// Bound of the page's event text.
    bytes: usize,
}

impl ReplyPage {
    /// Makes a page of `room` of a history, with at most `bytes` of event text and the `latest` events behind it. If
    /// the history leaves no room for any of those, `has_more` is set.
    pub(super) fn from_history(history: Resumed, latest: &[Entry], room: &Room, from: Start, bytes: usize) -> Self {
        let since = complete_since(&history, room, from);
        let taken = (history.entries.len(), history.entries.iter().map(|entry| entry.text.len()).sum());
        let mut current = CurrentEvents::default();
        current.update_from(latest, room);
        let offset = history.reader_offset(room);
        let Resumed { complete, has_more, entries, .. } = history;
        // An entry without a link here cannot be given an offset, and an invalid one would break the client's parser.
        let events = entries
            .into_iter()
            .filter(|entry| entry.link_in(room).is_some() && shared_envelope(entry).is_some())
            .collect();
        let mut page = Self { room: room.clone(), events, taken, offset, since, complete, has_more, current, bytes };
        if !page.has_more && !page.fit_current() && taken.0 > 0 {
            // The client asks again, and gets the current events with an empty history.
            page.has_more = true;
        }
        page
    }

    /// Bytes of its events' text, the weight of a turn.
    pub(super) fn events_bytes(&self) -> usize {
        self.taken.1
    }

    /// Whether the history has nothing after the requested start.
    pub(super) fn is_empty(&self) -> bool {
        self.taken.0 == 0 && !self.has_more
    }

    /// Merges in the `latest` events that came while the page was read.
    pub(super) fn update_current(&mut self, came: &[Entry], room: &Room) {
        self.current.update_from(came, room);
        if !self.has_more {
            self.fit_current();
        }
    }

    /// Appends the events as a JSON array. The `latest` events are left out while more history follows.
    pub(super) fn write(&self, out: &mut String) {
        // Each event adds stamps, rooms and offset to its text: one allocation instead of many.
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

    fn fit_current(&mut self) -> bool {
        let (events, bytes) = self.taken;
        self.current.trim_to_fit(PAGE_EVENTS.saturating_sub(events), self.bytes.saturating_sub(bytes))
    }
}

/// The offset after which a history has every event: the requested start or, after a gap, the start of its first
/// link.
pub(super) fn complete_since(history: &Resumed, room: &Room, from: Start) -> Offset {
    if history.complete {
        return from.exclusive_offset();
    }
    let first = history.entries.first().and_then(|entry| entry.link_in(room));
    // An incomplete history without entries says nothing about the past, so the answer holds from the head on.
    first.map_or(history.facts.head(), |link| link.prev)
}

/// Drops the events of a page whose timestamp start lies ahead of the broker's clock. They were stored before that
/// clock was set back, and the client has not missed them.
pub(super) fn forget_the_future(history: &mut Resumed, from: Start) {
    if history.facts.is_ahead(from) {
        history.entries.clear();
        history.has_more = false;
    }
}

fn write_event(entry: &SharedEntry, room: &Room, out: &mut String) {
    let place = entry.places.iter().find(|place| place.room == *room);
    if let (Some(place), Ok(envelope)) = (place, entry.envelope()) {
        envelope.write_event(&[place], out);
    }
}
