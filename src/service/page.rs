//! One page of a history, as clients get it: bounded in events and bytes, at least one event if there is any.

use hallway_rooms::entry::Entry;
use hallway_rooms::envelope::Envelope;
use hallway_rooms::key::Room;
use hallway_rooms::offset::Offset;

use crate::broker::History;

/// A page ready to be sent.
#[derive(Debug)]
pub(super) struct Page {
    /// A JSON array of bare events.
    pub(super) events: String,
    /// Where the reader stands behind it.
    pub(super) offset: Offset,
    /// Whether nothing from the asked place on is missing.
    pub(super) complete: bool,
    /// Whether more follow.
    pub(super) has_more: bool,
}

impl Page {
    /// Cuts a history to a page of `room`, of at most `bytes` of event text.
    pub(super) fn of(mut history: History, room: &Room, bytes: usize) -> Self {
        cut(&mut history, bytes);
        let mut events = String::from("[");
        for entry in &history.entries {
            write_event(entry, room, &mut events);
        }
        if events.ends_with(',') {
            events.pop();
        }
        events.push(']');
        let offset = history.offset(room);
        Self { events, offset, complete: history.complete, has_more: history.has_more }
    }
}

/// Keeps the page within its bytes.
pub(super) fn cut(history: &mut History, bytes: usize) {
    let mut taken = 0;
    let mut fits = |entry: &Entry| {
        taken += entry.text.len();
        taken <= bytes
    };
    let kept = history.entries.iter().map_while(|e| fits(e).then_some(())).count().max(1);
    if kept < history.entries.len() {
        history.entries.truncate(kept);
        history.has_more = true;
    }
}

fn write_event(entry: &Entry, room: &Room, out: &mut String) {
    let Some(place) = entry.places.iter().find(|p| p.room == *room) else { return };
    match Envelope::of(entry) {
        Ok(envelope) => {
            envelope.write_event(&[place], out);
            out.push(',');
        }
        Err(error) => tracing::debug!(id = %entry.id, %error, "a stored event is not fit to be passed on"),
    }
}
