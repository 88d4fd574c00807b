//! An outgoing event: composed once, framed once per dialect and set of rooms, and sent to many sessions.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use bytes::Bytes;
use hallway_rooms::draft::InvalidEvent;
use hallway_rooms::entry::{Entry, RoomPlace};
use hallway_rooms::envelope::Envelope;
use metrics::{Counter, Histogram, counter, histogram};

use super::room::LocalRoom;
use crate::metrics as names;
use crate::session::copies::comes_one_way;
use crate::session::{Dialect, Session};
use crate::wire::{LagPolicy, PushOutcome};

/// One of an event's rooms that is open here.
#[derive(Clone, Debug)]
pub(super) struct RoomTarget {
    /// The room on this node.
    pub(super) local: Arc<LocalRoom>,
    /// Index of the room in the entry's `places`.
    pub(super) place: usize,
    /// Whether the event comes out of order, so that every live member must get it, whatever its own position.
    pub(super) late: bool,
}

impl RoomTarget {
    /// Whether the room has delivered nothing newer of the event's key.
    pub(super) fn is_news(&self, entry: &Entry) -> bool {
        entry.places[self.place].stamp().is_none_or(|stamp| self.local.with_latest(|passed| passed.is_news(stamp)))
    }
}

/// An event with its frames so far.
#[derive(Debug)]
pub(super) struct OutgoingEvent {
    pub(super) entry: Arc<Entry>,
    /// Whether it can reach a session by one way only, so that no copy of it needs to be looked for.
    comes_one_way: bool,
    /// Whether its other rooms delivered it, or will deliver it, as an event of their own.
    pub(super) is_apart: bool,
    /// The composed event.
    envelope: Envelope,
    /// Frames by dialect (its address) and set of rooms (a bit per place). A list, since there are a few at most.
    frames: Vec<(usize, u64, Bytes)>,
    /// Decides what a slow peer may lose.
    keeps: EventRetention,
}

/// How the event is kept, by the room that keeps most of it.
#[derive(Clone, Copy, Debug)]
enum EventRetention {
    /// In a history: a client that missed it would find it there, so it is never dropped.
    History,
    /// Only as the latest of this key.
    Newest(u64),
    /// Nowhere.
    Nothing,
}

impl OutgoingEvent {
    /// Composes the event of an entry.
    ///
    /// # Errors
    /// When the stored text is no valid event.
    pub(super) fn from_entry(entry: &Arc<Entry>, is_apart: bool) -> Result<Self, InvalidEvent> {
        let newest = entry.places.iter().find_map(RoomPlace::stamp).map(|stamp| EventRetention::Newest(stamp.key));
        // The strongest promise of its rooms decides: they share one frame.
        let stored = entry.places.iter().any(|place| place.link().is_some());
        let keeps = if stored { EventRetention::History } else { newest.unwrap_or(EventRetention::Nothing) };
        let (envelope, comes_one_way) = (Envelope::from_entry(entry)?, comes_one_way(entry));
        Ok(Self { entry: entry.clone(), comes_one_way, is_apart, envelope, frames: Vec::new(), keeps })
    }

    /// Whether it can reach a session by one way only.
    pub(super) const fn comes_one_way(&self) -> bool {
        self.comes_one_way
    }

    /// Gives the weight of its frame in a backlog. A `latest` frame may be replaced by the next one of its key, but
    /// only if both are for the same rooms: each frame carries the offsets of its rooms.
    pub(super) fn lag_policy(&self, mask: u64) -> LagPolicy {
        match self.keeps {
            EventRetention::History => LagPolicy::Durable,
            EventRetention::Nothing => LagPolicy::Ephemeral,
            EventRetention::Newest(key) => {
                // The wire knows neither keys nor rooms; one hash of both is all that it compares.
                let mut hasher = std::hash::DefaultHasher::new();
                key.hash(&mut hasher);
                self.chosen_places(mask).for_each(|place| place.room.hash(&mut hasher));
                LagPolicy::Latest(hasher.finish())
            }
        }
    }

    /// Gives the frame for a session in the rooms of `mask`, a bit per place.
    pub(super) fn frame_for(&mut self, session: &Session, mask: u64) -> Bytes {
        let dialect = session.dialect();
        // All sessions of a namespace share one dialect object, so its address identifies it without a lookup.
        let speaks = Arc::as_ptr(dialect).cast::<()>() as usize;
        if let Some((_, _, frame)) = self.frames.iter().find(|(d, m, _)| (*d, *m) == (speaks, mask)) {
            return frame.clone();
        }
        let frame = self.encode(dialect.as_ref(), mask);
        self.frames.push((speaks, mask, frame.clone()));
        frame
    }

    /// Whether this is the session's first copy of the event, which reaches it by the rooms of `mask`.
    pub(super) fn is_first(&self, session: &Session, mask: u64) -> bool {
        self.comes_one_way
            || session.first_copy(&self.entry, mask)
                && !(self.is_apart && session.arrived_by_another(&self.entry, mask))
    }

    fn encode(&self, dialect: &dyn Dialect, mask: u64) -> Bytes {
        let places: Vec<&RoomPlace> = self.chosen_places(mask).collect();
        dialect.event_frame(&self.envelope, &places)
    }

    fn chosen_places(&self, mask: u64) -> impl Iterator<Item = &RoomPlace> {
        let all = self.entry.places.iter().enumerate();
        all.filter(move |(i, _)| mask & (1 << i) != 0).map(|(_, place)| place)
    }
}

/// The hub's metrics, looked up once: a lookup per frame would cost more than the push.
pub(super) struct DeliveryCounters {
    /// Frames sent or queued.
    pub(super) delivered: Counter,
    /// Events with a room that is open here.
    pub(super) events: Counter,
    /// Stored events that no client may get.
    pub(super) invalid: Counter,
    /// Ephemeral frames dropped at slow peers.
    pub(super) dropped: Counter,
    /// `latest` frames replaced in a queue by a newer one.
    pub(super) replaced: Counter,
    /// Deliveries from the backlog instead of the live channel.
    pub(super) healed: Counter,
    /// Rooms set back because the broker had lost its last entries.
    pub(super) rewound: Counter,
    /// Rooms whose history did not reach back to their position.
    pub(super) cut_off: Counter,
    /// Rooms closed because their history could not be read.
    pub(super) unreadable: Counter,
    /// Seconds between storing an event and the end of its delivery.
    pub(super) lag: Histogram,
}

impl DeliveryCounters {
    pub(super) fn new() -> Self {
        Self {
            delivered: counter!(names::DELIVERED),
            events: counter!(names::EVENTS_FANNED_OUT),
            invalid: counter!(names::EVENTS_REFUSED, "source" => "dispatch"),
            dropped: counter!(names::EPHEMERAL_DROPPED),
            replaced: counter!(names::LATEST_REPLACED),
            healed: counter!(names::HEALED),
            rewound: counter!(names::REWOUND),
            cut_off: counter!(names::ROOMS_CUT_OFF),
            unreadable: counter!(names::ROOMS_UNREADABLE),
            lag: histogram!(names::FAN_OUT_LAG),
        }
    }

    /// Notes how long after an entry was stored its delivery has ended.
    pub(super) fn note_lag(&self, entry: &Entry) {
        let stored = entry.places.iter().find_map(RoomPlace::link).map(|l| l.offset.ms);
        if let Some(ms) = stored {
            let lag = crate::clock::now_ms().saturating_sub(ms);
            self.lag.record(std::time::Duration::from_millis(lag).as_secs_f64());
        }
    }

    /// Counts a push of so many frames.
    pub(super) fn count_push(&self, push: PushOutcome, frames: usize, sent: &mut u64) {
        match push {
            PushOutcome::Sent | PushOutcome::Queued => *sent += frames as u64,
            PushOutcome::Dropped => self.dropped.increment(1),
            PushOutcome::Replaced => self.replaced.increment(1),
            // A skipped member was no receiver; the other two are counted by the wire's close reason.
            PushOutcome::Skipped | PushOutcome::Closed | PushOutcome::Overflow => {}
        }
    }
}
