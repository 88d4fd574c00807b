//! The current state of some rooms: the last `latest` event of each key. A member is shown it after joining. An event
//! that is current in several of the rooms is sent once.

use hallway_rooms::entry::{Entry, RoomPlace, Stamp};
use hallway_rooms::envelope::Envelope;
use hallway_rooms::event::EventId;
use hallway_rooms::key::Room;

use super::compose::compose_entry;
use crate::session::Session;

/// The last event of each key, oldest first.
#[derive(Debug, Default)]
pub(super) struct CurrentEvents(Vec<CurrentKeys>);

#[derive(Debug)]
struct CurrentKeys {
    id: EventId,
    /// Where the broker keeps it: all its rooms with a stamp.
    places: Vec<RoomPlace>,
    /// The rooms of this command in which it is the last event of its key. Empty means superseded everywhere.
    rooms: Vec<Room>,
    /// Composed once, for the answer or the frame.
    envelope: Envelope,
    /// Length of the event's text, for the page's byte bound.
    bytes: usize,
    /// Whether the client has been sent it.
    sent: bool,
}

impl CurrentEvents {
    /// Merges in the entries that a broker keeps of a room, or that came later. An entry that supersedes another one
    /// of its key is pending again.
    pub(super) fn update_from(&mut self, entries: &[Entry], room: &Room) {
        for entry in entries {
            // An event may be `latest` in one of its rooms and durable in another: without a stamp here it belongs to
            // the history.
            let Some(stamp) = entry.stamp_in(room) else { continue };
            let older = |known: &&mut CurrentKeys| known.stamp_in(room).is_some_and(|other| other.key == stamp.key);
            match self.0.iter_mut().find(older) {
                // Reads and live delivery overlap, so an entry may arrive twice, or an older one last.
                Some(older) if older.stamp_in(room).is_some_and(|other| other.at >= stamp.at) => continue,
                // Superseded in this room only; it may still be current in another one.
                Some(older) => older.rooms.retain(|other| other != room),
                None => {}
            }
            self.0.retain(|known| !known.rooms.is_empty());
            match self.0.iter_mut().find(|known| known.id == entry.id) {
                // Already taken in by another room of the command: one event, several offsets.
                Some(same) => same.rooms.push(room.clone()),
                None => self.0.extend(CurrentKeys::of_entry(entry, room)),
            }
        }
    }

    /// Drops the oldest until the rest has at most `events` events and `bytes` bytes of event text. False when not
    /// even one fits; all are kept then.
    pub(super) fn trim_to_fit(&mut self, events: usize, bytes: usize) -> bool {
        let mut left = bytes;
        let fits = |known: &&CurrentKeys| {
            let fits = known.bytes <= left;
            left = left.saturating_sub(known.bytes);
            fits
        };
        let kept = self.0.iter().rev().take(events).take_while(fits).count();
        let all = self.0.len();
        if kept > 0 {
            self.0.drain(..all - kept);
        }
        all == 0 || kept > 0
    }

    /// Appends the pending events to a JSON array without its brackets. `is_first` says whether the array is still
    /// empty.
    pub(super) fn write(&self, out: &mut String, mut is_first: bool) {
        for known in self.0.iter().filter(|known| !known.sent) {
            if !std::mem::take(&mut is_first) {
                out.push(',');
            }
            known.envelope.write_event(&known.displayed_places(), out);
        }
    }

    /// The stamps of all its events in a room, including events that were taken in by another room.
    pub(super) fn stamps_in<'a>(&'a self, room: &'a Room) -> impl Iterator<Item = Stamp> + 'a {
        let places = self.0.iter().flat_map(|known| &known.places);
        places.filter(move |place| place.room == *room).filter_map(RoomPlace::stamp)
    }

    /// Marks all events as sent.
    pub(super) fn mark_all_delivered(&mut self) {
        self.0.iter_mut().for_each(|known| known.sent = true);
    }

    /// Marks the events as sent that the client got another way, such as by a history.
    pub(super) fn told_by(&mut self, came: impl Fn(&EventId) -> bool) {
        self.0.iter_mut().filter(|known| came(&known.id)).for_each(|known| known.sent = true);
    }

    /// Sends the pending events as ordinary event frames.
    pub(super) fn send_undelivered(&mut self, session: &Session) {
        for known in self.0.iter_mut().filter(|known| !known.sent) {
            session.send_frame(session.dialect().event_frame(&known.envelope, &known.displayed_places()));
            known.sent = true;
        }
    }
}

impl CurrentKeys {
    fn of_entry(entry: &Entry, room: &Room) -> Option<Self> {
        Some(Self {
            id: entry.id.clone(),
            // Every stamped place, not only the one asked for: the same event may be taken in by another room later.
            places: entry.places.iter().filter(|place| place.stamp().is_some()).cloned().collect(),
            rooms: vec![room.clone()],
            envelope: compose_entry(entry)?,
            bytes: entry.text.len(),
            sent: false,
        })
    }

    /// Its stamp in a room, if it is the last event of its key there.
    fn stamp_in(&self, room: &Room) -> Option<Stamp> {
        let place = self.places.iter().find(|place| place.room == *room)?;
        self.rooms.contains(room).then(|| place.stamp()).flatten()
    }

    fn displayed_places(&self) -> Vec<&RoomPlace> {
        self.places.iter().filter(|place| self.rooms.contains(&place.room)).collect()
    }
}
