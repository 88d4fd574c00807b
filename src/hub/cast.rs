//! One event on its way to many: composed once, framed once per dialect and set of rooms.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use hallway_rooms::draft::InvalidEvent;
use hallway_rooms::entry::{Entry, Place};
use hallway_rooms::envelope::Envelope;
use metrics::{Counter, Histogram, counter, histogram};

use super::room::LocalRoom;
use crate::metrics as names;
use crate::session::{Dialect, Session};
use crate::wire::Push;

/// One of an event's rooms that has members here.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) local: Arc<LocalRoom>,
    /// Which of the entry's places it is.
    pub(super) place: usize,
    /// Whether it comes out of order, so that every live member is to have it.
    pub(super) late: bool,
}

/// An event with its frames.
#[derive(Debug)]
pub(super) struct Cast<'a> {
    pub(super) entry: &'a Entry,
    envelope: Envelope,
    frames: Vec<(usize, u64, Bytes)>,
    /// Whether it may be dropped for a peer that lags.
    pub(super) ephemeral: bool,
}

impl<'a> Cast<'a> {
    /// Composes an entry's event.
    pub(super) fn of(entry: &'a Entry) -> Result<Self, InvalidEvent> {
        let ephemeral = entry.places.iter().all(|p| p.link.is_none());
        Ok(Self { entry, envelope: Envelope::of(entry)?, frames: Vec::new(), ephemeral })
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

    fn encode(&self, dialect: &dyn Dialect, mask: u64) -> Bytes {
        let chosen = |(i, _): &(usize, &Place)| mask & (1 << i) != 0;
        let places: Vec<&Place> = self.entry.places.iter().enumerate().filter(chosen).map(|(_, p)| p).collect();
        dialect.frame(&self.envelope, &places)
    }
}

/// What the hub counts, looked up once.
pub(super) struct Counts {
    pub(super) delivered: Counter,
    pub(super) events: Counter,
    pub(super) invalid: Counter,
    pub(super) dropped: Counter,
    pub(super) healed: Counter,
    pub(super) rewound: Counter,
    pub(super) cut_off: Counter,
    pub(super) lag: Histogram,
}

impl Counts {
    pub(super) fn new() -> Self {
        Self {
            delivered: counter!(names::DELIVERED),
            events: counter!(names::EVENTS_FANNED_OUT),
            invalid: counter!(names::EVENTS_REFUSED, "way" => "feed"),
            dropped: counter!(names::EPHEMERAL_DROPPED),
            healed: counter!(names::HEALED),
            rewound: counter!(names::REWOUND),
            cut_off: counter!(names::ROOMS_CUT_OFF),
            lag: histogram!(names::FAN_OUT_LAG),
        }
    }

    pub(super) fn count(&self, push: &Push, sent: &mut u64) {
        match push {
            Push::Sent | Push::Queued => *sent += 1,
            Push::Dropped => self.dropped.increment(1),
            Push::Skipped | Push::Closed | Push::Overflow => {}
        }
    }
}

/// Remembers the last events that were stored nowhere, since they come once per channel of their rooms.
#[derive(Debug, Default)]
pub(super) struct Recent(VecDeque<String>);

impl Recent {
    /// Events in flight between the first and the last channel of one.
    const KEPT: usize = 1024;

    /// Whether this is its first copy.
    pub(super) fn first(&mut self, entry: &Entry) -> bool {
        let id = entry.id.as_str();
        if self.0.iter().any(|known| known == id) {
            return false;
        }
        if self.0.len() == Self::KEPT {
            self.0.pop_front();
        }
        self.0.push_back(id.to_owned());
        true
    }
}
