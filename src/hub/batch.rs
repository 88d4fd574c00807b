//! A batch: events that go to their members together, each member's with one look at it and one push.
//!
//! **The rule.** Under the lock of a member's wire each of its memberships is asked for the events of its room, in the
//! order in which the dispatch judged them, as it would be for each event by itself (`deliver.rs`). What it accepts is a
//! list of events, each with the member's rooms in it. Members with the same list and dialect get the same series of
//! frames, which is joined once. As a rule all members of a room have the same list, and it is the whole batch.
//!
//! **What a batch may hold.** Stored events that are next in all of their rooms here: a membership then knows by its
//! standing what it has had, however often it is asked. Whatever else there is goes by itself.

use std::sync::Arc;

use hallway_rooms::entry::{ChainLink, Entry, Retained, RoomPlace};
use hallway_rooms::offset::Offset;

use super::outgoing::{DeliveryCounters, OutgoingEvent, RoomTarget};
use super::room::LocalRoom;
use crate::session::{Membership, Session};
use crate::wire::{FrameSeries, PushOutcome};

/// Series that are kept of parts of a batch: members that had a part already, or are in several of its rooms.
const KNOWN: usize = 8;

/// An entry whose rooms stand at it, and whose members are to get it.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) entry: Arc<Entry>,
    pub(super) targets: Vec<RoomTarget>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Batch {
    events: Vec<BatchEvent>,
    /// What the member at hand accepts. One list for all of them, so that none is allocated for each.
    accepted: Vec<AcceptedEvent>,
    /// By event, room of the batch, and place: what a member of several rooms is to be asked.
    asked: Vec<(usize, usize, RoomEvent)>,
    known: Vec<KnownSeries>,
}

#[derive(Debug)]
struct BatchEvent {
    outgoing: OutgoingEvent,
    /// Rooms that have members who are to get it.
    rooms: usize,
}

/// A room of a batch with its events, oldest first.
#[derive(Debug)]
pub(super) struct BatchRoom {
    pub(super) local: Arc<LocalRoom>,
    /// Which of the room's fan-outs this is.
    turn: u64,
    /// How often [`Batch::count_served`] is called before all of its members have had the events.
    left: usize,
    events: Vec<RoomEvent>,
    /// Of the texts of these.
    bytes: usize,
    /// The offsets of the first and the last one.
    first: Offset,
    pub(super) last: Offset,
    /// Whether its events come by this room alone, so that no member is asked for copies.
    is_only_way: bool,
    /// All of its events as a series, by the address of the dialect: nearly every member gets just these.
    whole: Vec<(usize, FrameSeries)>,
}

/// An event in one of its rooms.
#[derive(Clone, Copy, Debug)]
struct RoomEvent {
    /// Which of the batch.
    event: usize,
    /// Which of the event's places the room is.
    place: usize,
    link: ChainLink,
}

/// An event that a member accepts, by the rooms of the mask (a bit per place).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct AcceptedEvent {
    event: usize,
    mask: u64,
}

/// The series of one dialect for one list of events.
#[derive(Debug)]
struct KnownSeries {
    /// The address of the dialect.
    speaks: usize,
    accepted: Vec<AcceptedEvent>,
    series: FrameSeries,
}

impl Delivery {
    /// Whether it may go in a batch; see the module.
    pub(super) fn fits_batch(&self) -> bool {
        self.targets.iter().all(|target| !target.late && self.entry.places[target.place].link().is_some())
    }

    /// Moves the rooms to the entry.
    pub(super) fn advance_rooms(&self) {
        let entry = &self.entry;
        for target in &self.targets {
            match entry.places[target.place].keep {
                Retained::Stored(link) => target.local.advance_to(link, &entry.id),
                Retained::Newest(stamp) => target.local.with_latest(|passed| passed.note_delivered(stamp, entry)),
                Retained::Nothing => {}
            }
        }
    }

    /// Bytes of the event.
    pub(super) fn text_bytes(&self) -> usize {
        self.entry.text.len()
    }
}

impl BatchRoom {
    /// Expects so many members more.
    pub(super) const fn expect_members(&mut self, members: usize) {
        self.left += members;
    }

    /// Whether the room's earlier fan-outs are done with it.
    pub(super) fn is_turn(&self) -> bool {
        self.local.is_turn(self.turn)
    }

    /// Bytes of its events.
    pub(super) const fn text_bytes(&self) -> usize {
        self.bytes
    }

    /// Whether all of its members have had the events.
    const fn is_over(&self) -> bool {
        self.left == 0
    }
}

impl Batch {
    /// A batch for so many events.
    pub(super) fn with_capacity(events: usize) -> Self {
        Self { events: Vec::with_capacity(events), ..Self::default() }
    }

    /// Adds an event, and notes it in its rooms.
    pub(super) fn add_event(&mut self, event: OutgoingEvent, targets: Vec<RoomTarget>, rooms: &mut Vec<BatchRoom>) {
        let (number, mut count) = (self.events.len(), 0);
        for RoomTarget { local, place, .. } in targets {
            let Some(link) = event.entry.places.get(place).and_then(RoomPlace::link) else { continue };
            let here = RoomEvent { event: number, place, link };
            count += 1;
            match rooms.iter_mut().find(|room| Arc::ptr_eq(&room.local, &local)) {
                Some(room) => {
                    room.events.push(here);
                    room.bytes += event.entry.text.len();
                    room.last = link.offset;
                    room.is_only_way &= event.comes_one_way();
                }
                None => rooms.push(BatchRoom {
                    turn: local.take_turn(),
                    local,
                    left: 1,
                    events: vec![here],
                    bytes: event.entry.text.len(),
                    first: link.offset,
                    last: link.offset,
                    is_only_way: event.comes_one_way(),
                    whole: Vec::with_capacity(1),
                }),
            }
        }
        self.events.push(BatchEvent { outgoing: event, rooms: count });
    }

    /// Counts a member of a room as served. Behind the last one the room is, up to these events.
    pub(super) fn count_served(&mut self, room: &mut BatchRoom, counts: &DeliveryCounters) {
        room.left -= 1;
        if !room.is_over() {
            return;
        }
        // Only behind the delivery: a session that joins relies on `served` for what the members' wires have.
        room.local.end_turn(room.last);
        for RoomEvent { event, .. } in &room.events {
            let BatchEvent { outgoing, rooms } = &mut self.events[*event];
            *rooms -= 1;
            if *rooms == 0 {
                counts.note_lag(&outgoing.entry);
            }
        }
    }

    /// Pushes to a member of one of the rooms what is news to it. Says how many frames that were.
    // Inlined, as all of the way to the socket.
    #[inline]
    pub(super) fn push_in_one(
        &mut self,
        room: &mut BatchRoom,
        session: &Session,
        membership: &Membership,
    ) -> (PushOutcome, usize) {
        let mut frames = 0;
        let push = session.lane().push_series(|| {
            // The events of a room follow each other, so that one question is enough for all of them.
            let had = membership.accept_up_to(room.last)?;
            let series = if room.is_only_way && had < room.first {
                Some(self.whole_series(room, session))
            } else {
                self.accept_in_one(room, session, had);
                self.series_for(session)
            };
            frames = series.map_or(0, FrameSeries::count_frames);
            series
        });
        (push, frames)
    }

    /// Pushes to a session in several of the rooms what is news to it. Says how many frames that were.
    pub(super) fn push_in_several(
        &mut self,
        rooms: &[BatchRoom],
        session: &Session,
        standings: &[(usize, Arc<Membership>)],
    ) -> (PushOutcome, usize) {
        let push = session.lane().push_series(|| {
            self.accept_in_several(rooms, session, standings);
            self.series_for(session)
        });
        (push, self.accepted.len())
    }

    fn accept_in_one(&mut self, room: &BatchRoom, session: &Session, had: Offset) {
        self.accepted.clear();
        for RoomEvent { event, place, link } in &room.events {
            let mask = 1 << place;
            if link.offset > had && self.events[*event].outgoing.is_first(session, mask) {
                self.accepted.push(AcceptedEvent { event: *event, mask });
            }
        }
    }

    fn accept_in_several(&mut self, rooms: &[BatchRoom], session: &Session, standings: &[(usize, Arc<Membership>)]) {
        self.accepted.clear();
        self.asked.clear();
        for (standing, (room, _)) in standings.iter().enumerate() {
            self.asked.extend(rooms[*room].events.iter().map(|here| (here.event, standing, *here)));
        }
        // Event by event: a copy may be told by what another room has brought just before it.
        self.asked.sort_unstable_by_key(|(event, standing, _)| (*event, *standing));
        for same in self.asked.chunk_by(|one, next| one.0 == next.0) {
            let news = |(_, standing, here): &&(usize, usize, RoomEvent)| {
                standings[*standing].1.accept_news(Retained::Stored(here.link))
            };
            let mask = same.iter().filter(news).fold(0, |mask, (_, _, here)| mask | 1 << here.place);
            let event = same[0].0;
            if mask != 0 && self.events[event].outgoing.is_first(session, mask) {
                self.accepted.push(AcceptedEvent { event, mask });
            }
        }
    }

    /// The frames of all events of a room.
    #[inline]
    fn whole_series<'a>(&mut self, room: &'a mut BatchRoom, session: &Session) -> &'a FrameSeries {
        let speaks = dialect_address(session);
        let at = room.whole.iter().position(|(known, _)| *known == speaks).unwrap_or_else(|| {
            let mut frame = |here: &RoomEvent| self.events[here.event].outgoing.frame_for(session, 1 << here.place);
            let series = match room.events.as_slice() {
                [only] => FrameSeries::from_frame(frame(only)),
                several => FrameSeries::from_frames(several.iter().map(frame).collect()),
            };
            room.whole.push((speaks, series));
            room.whole.len() - 1
        });
        &room.whole[at].1
    }

    /// The frames of what was accepted.
    fn series_for(&mut self, session: &Session) -> Option<&FrameSeries> {
        if self.accepted.is_empty() {
            return None;
        }
        let speaks = dialect_address(session);
        let is_it = |known: &KnownSeries| known.speaks == speaks && known.accepted == self.accepted;
        let at = self.known.iter().position(is_it).unwrap_or_else(|| {
            let frame =
                |accepted: &AcceptedEvent| self.events[accepted.event].outgoing.frame_for(session, accepted.mask);
            let series = FrameSeries::from_frames(self.accepted.iter().map(frame).collect());
            // The one that was made last gives way: the first ones are those of most members.
            self.known.truncate(KNOWN - 1);
            self.known.push(KnownSeries { speaks, accepted: self.accepted.clone(), series });
            self.known.len() - 1
        });
        Some(&self.known[at].series)
    }
}

/// All sessions of a namespace share one dialect object, so its address identifies it without a lookup.
#[inline]
fn dialect_address(session: &Session) -> usize {
    Arc::as_ptr(session.dialect()).cast::<()>() as usize
}
