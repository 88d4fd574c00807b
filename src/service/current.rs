//! What is current in a room: of its `latest` events the newest of each key, as whoever comes is told.

use hallway_rooms::entry::{Entry, Place, Stamp};
use hallway_rooms::envelope::Envelope;
use hallway_rooms::key::Room;

use crate::logs;
use crate::session::Session;

/// The newest event of each key, oldest first.
#[derive(Debug, Default)]
pub(super) struct Current(Vec<Known>);

#[derive(Debug)]
struct Known {
    stamp: Stamp,
    place: Place,
    envelope: Envelope,
    bytes: usize,
    told: bool,
}

impl Current {
    /// What a broker keeps of a room.
    pub(super) fn of(entries: &[Entry], room: &Room) -> Self {
        Self(entries.iter().filter_map(|entry| Known::of(entry, room)).collect())
    }

    /// Takes in what came later; what is newer of its key is still to be told.
    pub(super) fn update(&mut self, entries: &[Entry], room: &Room) {
        for known in entries.iter().filter_map(|entry| Known::of(entry, room)) {
            match self.0.iter().position(|older| older.stamp.key == known.stamp.key) {
                Some(at) if self.0[at].stamp.at >= known.stamp.at => {}
                Some(at) => {
                    self.0.remove(at);
                    self.0.push(known);
                }
                None => self.0.push(known),
            }
        }
    }

    /// Gives up the oldest until the rest has at most so many events and bytes of event text. False when nothing is left
    /// of what there was.
    pub(super) fn fit(&mut self, events: usize, bytes: usize) -> bool {
        let mut left = bytes;
        let fits = |known: &&Known| {
            let fits = known.bytes <= left;
            left = left.saturating_sub(known.bytes);
            fits
        };
        let kept = self.0.iter().rev().take(events).take_while(fits).count();
        let all = self.0.len();
        self.0.drain(..all - kept);
        all == 0 || kept > 0
    }

    /// Appends the bare events to a JSON array without its brackets.
    pub(super) fn write(&self, out: &mut String) {
        for known in &self.0 {
            if !out.is_empty() {
                out.push(',');
            }
            known.envelope.write_event(&[&known.place], out);
        }
    }

    /// The stamps of all of them.
    pub(super) fn stamps(&self) -> impl Iterator<Item = Stamp> {
        self.0.iter().map(|known| known.stamp)
    }

    /// Notes that everything has been told.
    pub(super) fn told(&mut self) {
        self.0.iter_mut().for_each(|known| known.told = true);
    }

    /// Sends what has not been told as ordinary events.
    pub(super) fn send(&mut self, session: &Session) {
        for known in self.0.iter_mut().filter(|known| !known.told) {
            session.send(session.dialect().frame(&known.envelope, &[&known.place]));
            known.told = true;
        }
    }
}

impl Known {
    fn of(entry: &Entry, room: &Room) -> Option<Self> {
        let place = entry.places.iter().find(|place| place.room == *room)?;
        let envelope = Envelope::of(entry);
        let envelope = envelope.inspect_err(
            |error| tracing::debug!(event = logs::LATEST_UNFIT, id = %entry.id, %error, "not fit to be passed on"),
        );
        let bytes = entry.text.len();
        Some(Self { stamp: place.stamp()?, place: place.clone(), envelope: envelope.ok()?, bytes, told: false })
    }
}
