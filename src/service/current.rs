//! What is current in some rooms: of their `latest` events the newest of each key, as whoever comes is told. One that is
//! current in several of them is told once.

use hallway_rooms::entry::{Entry, Place, Stamp};
use hallway_rooms::envelope::Envelope;
use hallway_rooms::event::EventId;
use hallway_rooms::key::Room;

use super::page;
use crate::session::Session;

/// The newest event of each key, oldest first.
#[derive(Debug, Default)]
pub(super) struct Current(Vec<Known>);

#[derive(Debug)]
struct Known {
    id: EventId,
    /// Where it is kept, of all rooms.
    places: Vec<Place>,
    /// Those of the rooms in question of which it is the newest.
    rooms: Vec<Room>,
    envelope: Envelope,
    bytes: usize,
    told: bool,
}

impl Current {
    /// Takes in what a broker keeps of a room, or what came later; what is newer of its key is still to be told.
    pub(super) fn update(&mut self, entries: &[Entry], room: &Room) {
        for entry in entries {
            let Some(stamp) = entry.stamp(room) else { continue };
            let older = |known: &&mut Known| known.of(room).is_some_and(|other| other.key == stamp.key);
            match self.0.iter_mut().find(older) {
                Some(older) if older.of(room).is_some_and(|other| other.at >= stamp.at) => continue,
                Some(older) => older.rooms.retain(|other| other != room),
                None => {}
            }
            self.0.retain(|known| !known.rooms.is_empty());
            match self.0.iter_mut().find(|known| known.id == entry.id) {
                Some(same) => same.rooms.push(room.clone()),
                None => self.0.extend(Known::of_entry(entry, room)),
            }
        }
    }

    /// Gives up the oldest until the rest has at most so many events and bytes of event text. False, and all are kept, when
    /// nothing would be left of what there is.
    pub(super) fn fit(&mut self, events: usize, bytes: usize) -> bool {
        let mut left = bytes;
        let fits = |known: &&Known| {
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

    /// Appends the bare events that have not been told to a JSON array without its brackets, to which they may be the first.
    pub(super) fn write(&self, out: &mut String, mut is_first: bool) {
        for known in self.0.iter().filter(|known| !known.told) {
            if !std::mem::take(&mut is_first) {
                out.push(',');
            }
            known.envelope.write_event(&known.shown(), out);
        }
    }

    /// Where they stand in a room, those too that were taken in by another one.
    pub(super) fn stamps<'a>(&'a self, room: &'a Room) -> impl Iterator<Item = Stamp> + 'a {
        let places = self.0.iter().flat_map(|known| &known.places);
        places.filter(move |place| place.room == *room).filter_map(Place::stamp)
    }

    /// Notes that everything has been told.
    pub(super) fn told(&mut self) {
        self.0.iter_mut().for_each(|known| known.told = true);
    }

    /// Notes those as told that came by another way.
    pub(super) fn told_by(&mut self, came: impl Fn(&EventId) -> bool) {
        self.0.iter_mut().filter(|known| came(&known.id)).for_each(|known| known.told = true);
    }

    /// Sends what has not been told as ordinary events.
    pub(super) fn send(&mut self, session: &Session) {
        for known in self.0.iter_mut().filter(|known| !known.told) {
            session.send(session.dialect().frame(&known.envelope, &known.shown()));
            known.told = true;
        }
    }
}

impl Known {
    fn of_entry(entry: &Entry, room: &Room) -> Option<Self> {
        Some(Self {
            id: entry.id.clone(),
            places: entry.places.iter().filter(|place| place.stamp().is_some()).cloned().collect(),
            rooms: vec![room.clone()],
            envelope: page::composed(entry)?,
            bytes: entry.text.len(),
            told: false,
        })
    }

    /// Where it is the newest of its key in a room.
    fn of(&self, room: &Room) -> Option<Stamp> {
        let place = self.places.iter().find(|place| place.room == *room)?;
        self.rooms.contains(room).then(|| place.stamp()).flatten()
    }

    fn shown(&self) -> Vec<&Place> {
        self.places.iter().filter(|place| self.rooms.contains(&place.room)).collect()
    }
}
