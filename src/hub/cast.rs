//! One event on its way to many: composed once, framed once per dialect and set of rooms.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use bytes::Bytes;
use hallway_rooms::draft::InvalidEvent;
use hallway_rooms::entry::{Entry, Place};
use hallway_rooms::envelope::Envelope;
use metrics::{Counter, Histogram, counter, histogram};

use super::room::LocalRoom;
use crate::metrics as names;
use crate::session::{Dialect, Session};
use crate::wire::{Push, Weight};

/// One of an event's rooms that has members here.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) local: Arc<LocalRoom>,
    /// Which of the entry's places it is.
    pub(super) place: usize,
    /// Whether it comes out of order, so that every live member is to have it.
    pub(super) late: bool,
}

impl Target {
    /// Whether the room has not passed on anything newer of the event's key.
    pub(super) fn is_news(&self, entry: &Entry) -> bool {
        entry.places[self.place].stamp().is_none_or(|stamp| self.local.passed(|passed| passed.is_news(stamp)))
    }
}

/// An event with its frames.
#[derive(Debug)]
pub(super) struct Cast<'a> {
    pub(super) entry: &'a Entry,
    /// Whether others of its rooms had or will have it by themselves.
    pub(super) is_apart: bool,
    envelope: Envelope,
    frames: Vec<(usize, u64, Bytes)>,
    keeps: Keeps,
}

/// The most that any of its rooms keeps of an event.
#[derive(Clone, Copy, Debug)]
enum Keeps {
    History,
    Newest(u64),
    Nothing,
}

impl<'a> Cast<'a> {
    /// Composes an entry's event.
    pub(super) fn of(entry: &'a Entry, is_apart: bool) -> Result<Self, InvalidEvent> {
        let newest = entry.places.iter().find_map(Place::stamp).map(|stamp| Keeps::Newest(stamp.key));
        let stored = entry.places.iter().any(|place| place.link().is_some());
        let keeps = if stored { Keeps::History } else { newest.unwrap_or(Keeps::Nothing) };
        Ok(Self { entry, is_apart, envelope: Envelope::of(entry)?, frames: Vec::new(), keeps })
    }

    /// What becomes of its frame at a peer that lags. Of `latest` events one gives way to the next of its key, if both
    /// came by the same rooms.
    pub(super) fn weight(&self, mask: u64) -> Weight {
        match self.keeps {
            Keeps::History => Weight::Durable,
            Keeps::Nothing => Weight::Ephemeral,
            Keeps::Newest(key) => {
                let mut hasher = std::hash::DefaultHasher::new();
                key.hash(&mut hasher);
                self.chosen(mask).for_each(|place| place.room.hash(&mut hasher));
                Weight::Latest(hasher.finish())
            }
        }
    }

    /// The frame for a session in the rooms of `mask`, a bit per place.
    pub(super) fn frame(&mut self, session: &Session, mask: u64) -> Bytes {
        let dialect = session.dialect();
        let speaks = Arc::as_ptr(dialect).cast::<()>() as usize;
        if let Some((_, _, frame)) = self.frames.iter().find(|(d, m, _)| (*d, *m) == (speaks, mask)) {
            return frame.clone();
        }
        let frame = self.encode(dialect.as_ref(), mask);
        self.frames.push((speaks, mask, frame.clone()));
        frame
    }

    /// Whether a session gets it the first time, by the rooms of `mask`.
    pub(super) fn is_first(&self, session: &Session, mask: u64) -> bool {
        session.first_copy(self.entry, mask) && !(self.is_apart && session.came_by_another(self.entry, mask))
    }

    fn encode(&self, dialect: &dyn Dialect, mask: u64) -> Bytes {
        let places: Vec<&Place> = self.chosen(mask).collect();
        dialect.frame(&self.envelope, &places)
    }

    fn chosen(&self, mask: u64) -> impl Iterator<Item = &Place> {
        let all = self.entry.places.iter().enumerate();
        all.filter(move |(i, _)| mask & (1 << i) != 0).map(|(_, place)| place)
    }
}

/// What the hub counts, looked up once.
pub(super) struct Counts {
    pub(super) delivered: Counter,
    pub(super) events: Counter,
    pub(super) invalid: Counter,
    pub(super) dropped: Counter,
    pub(super) replaced: Counter,
    pub(super) healed: Counter,
    pub(super) rewound: Counter,
    pub(super) cut_off: Counter,
    pub(super) unreadable: Counter,
    pub(super) lag: Histogram,
}

impl Counts {
    pub(super) fn new() -> Self {
        Self {
            delivered: counter!(names::DELIVERED),
            events: counter!(names::EVENTS_FANNED_OUT),
            invalid: counter!(names::EVENTS_REFUSED, "way" => "feed"),
            dropped: counter!(names::EPHEMERAL_DROPPED),
            replaced: counter!(names::LATEST_REPLACED),
            healed: counter!(names::HEALED),
            rewound: counter!(names::REWOUND),
            cut_off: counter!(names::ROOMS_CUT_OFF),
            unreadable: counter!(names::ROOMS_UNREADABLE),
            lag: histogram!(names::FAN_OUT_LAG),
        }
    }

    pub(super) fn count(&self, push: &Push, sent: &mut u64) {
        match push {
            Push::Sent | Push::Queued => *sent += 1,
            Push::Dropped => self.dropped.increment(1),
            Push::Replaced => self.replaced.increment(1),
            Push::Skipped | Push::Closed | Push::Overflow => {}
        }
    }
}
