//! A fan-out: a batch on its way to the members of its rooms, slice by slice.

use std::collections::HashMap;
use std::sync::Arc;

use super::batch::{Batch, BatchRoom, Delivery};
use super::outgoing::{DeliveryCounters, OutgoingEvent};
use crate::logs;
use crate::session::{Membership, Session};

/// Members of one slice: some hundred microseconds of small events.
const SLICE: usize = 256;
/// Bytes of one slice: what the kernel copies in as long.
const SLICE_BYTES: usize = 1 << 20;
/// Members of one slice however large the events are: they are worth the turn.
const LEAST: usize = 16;

/// A batch with the members that have had it.
#[derive(Debug)]
pub(super) struct FanOut {
    batch: Batch,
    rooms: Vec<BatchRoom>,
    /// So many of the rooms, from the first one on, have been left by all earlier fan-outs.
    ready: usize,
    begun: bool,
    way: Way,
    /// Members of a slice.
    pub(super) slice: usize,
}

/// How its members are found.
#[derive(Debug)]
enum Way {
    /// By the slots of its one room, from this one on: no member can be met twice, so no list is made.
    Slots(usize),
    /// By a list of those in any of its rooms.
    List(Recipients),
}

/// The sessions in the rooms of a batch, as of its beginning. Those that join later stand behind its events already.
#[derive(Debug, Default)]
struct Recipients {
    found: Vec<Recipient>,
    /// By the ids of the sessions.
    index: HashMap<u64, usize>,
    next: usize,
}

/// A session with its memberships, by the batch's rooms.
#[derive(Debug)]
struct Recipient {
    session: Arc<Session>,
    standings: Vec<(usize, Arc<Membership>)>,
}

impl FanOut {
    /// Composes the events of some deliveries. None where no event is left that a client may get.
    pub(super) fn from_deliveries(
        deliveries: impl ExactSizeIterator<Item = Delivery>,
        counts: &DeliveryCounters,
    ) -> Option<Self> {
        let (mut batch, mut rooms) = (Batch::with_capacity(deliveries.len()), Vec::with_capacity(1));
        for delivery in deliveries {
            if let Some(event) = compose_event(&delivery.entry, false, counts) {
                batch.add_event(event, delivery.targets, &mut rooms);
            }
        }
        let (way, bytes) = match rooms.as_slice() {
            [] => return None,
            [only] => (Way::Slots(0), only.text_bytes()),
            _ => {
                let recipients = Recipients::in_rooms(&mut rooms);
                let bytes = recipients.mean_bytes(&rooms);
                (Way::List(recipients), bytes)
            }
        };
        let slice = (SLICE_BYTES / bytes.max(1)).clamp(LEAST, SLICE);
        Some(Self { batch, rooms, ready: 0, begun: false, way, slice })
    }

    /// Whether an earlier fan-out has yet to serve members of one of its rooms.
    pub(super) fn is_waiting(&mut self) -> bool {
        // What is ready stays so, and is not asked again.
        self.ready += self.rooms[self.ready..].iter().take_while(|room| room.is_turn()).count();
        self.ready < self.rooms.len()
    }

    /// Serves some more members, each of which is first given what it has yet to get of the fan-outs `before` this one.
    /// False when that were the last ones.
    #[inline]
    pub(super) fn serve_slice(&mut self, before: &mut [Self], counts: &DeliveryCounters) -> bool {
        let (Self { batch, rooms, begun, way, slice, .. }, mut sent) = (self, 0);
        let more = match way {
            Way::Slots(from) => {
                let (room, first) = (&mut rooms[0], *from);
                let local = room.local.clone();
                *from += *slice;
                let more = local.for_each(first, *from, |member| {
                    before.iter_mut().for_each(|earlier| earlier.serve_session(&member.session, counts));
                    let (push, frames) = batch.push_in_one(room, &member.session, &member.membership);
                    counts.count_push(push, frames, &mut sent);
                });
                if !more {
                    batch.count_served(room, counts);
                }
                more
            }
            Way::List(recipients) => {
                // Rooms without a member are over, and not before it is their turn.
                if !std::mem::replace(begun, true) {
                    rooms.iter_mut().for_each(|room| batch.count_served(room, counts));
                }
                for recipient in recipients.next_slice(*slice) {
                    before.iter_mut().for_each(|earlier| earlier.serve_session(&recipient.session, counts));
                    let (push, frames) = recipient.push_batch(batch, rooms);
                    counts.count_push(push, frames, &mut sent);
                    for (room, _) in &recipient.standings {
                        batch.count_served(&mut rooms[*room], counts);
                    }
                }
                recipients.next < recipients.found.len()
            }
        };
        counts.delivered.increment(sent);
        more
    }

    /// Gives a session what it has yet to get of this, before its turn: it is to get something that came after.
    pub(super) fn serve_session(&mut self, session: &Session, counts: &DeliveryCounters) {
        let (push, frames) = match &self.way {
            Way::Slots(_) => {
                let room = &mut self.rooms[0];
                let Some(joined) = session.membership_in(room.local.room()) else { return };
                // As a rule it has had it, and its wire need not be asked.
                if !joined.membership.awaits(room.last) {
                    return;
                }
                self.batch.push_in_one(room, session, &joined.membership)
            }
            Way::List(recipients) => {
                let Some(recipient) = recipients.index.get(&session.id()).map(|at| &recipients.found[*at]) else {
                    return;
                };
                if !recipient.awaits_some(&self.rooms) {
                    return;
                }
                recipient.push_batch(&mut self.batch, &mut self.rooms)
            }
        };
        let mut sent = 0;
        counts.count_push(push, frames, &mut sent);
        counts.delivered.increment(sent);
    }
}

impl Recipients {
    /// Members of small rooms come first: they are not to wait for a large one that happens to be in the same batch.
    fn in_rooms(rooms: &mut [BatchRoom]) -> Self {
        let mut all = Self::default();
        let mut members: Vec<_> = rooms.iter().map(|room| room.local.members()).enumerate().collect();
        members.sort_by_key(|(_, members)| members.len());
        for (number, members) in members {
            rooms[number].expect_members(members.len());
            for member in members {
                let at = *all.index.entry(member.session.id()).or_insert_with(|| {
                    all.found.push(Recipient { session: member.session, standings: Vec::new() });
                    all.found.len() - 1
                });
                all.found[at].standings.push((number, member.membership));
            }
        }
        all
    }

    /// Bytes that one of them gets.
    fn mean_bytes(&self, rooms: &[BatchRoom]) -> usize {
        let places = self.found.iter().flat_map(|recipient| &recipient.standings);
        places.map(|(room, _)| rooms[*room].text_bytes()).sum::<usize>() / self.found.len().max(1)
    }

    fn next_slice(&mut self, members: usize) -> &[Recipient] {
        let from = self.next;
        self.next = self.found.len().min(from + members);
        &self.found[from..self.next]
    }
}

impl Recipient {
    fn push_batch(&self, batch: &mut Batch, rooms: &mut [BatchRoom]) -> (crate::wire::PushOutcome, usize) {
        match self.standings.as_slice() {
            [(room, membership)] => batch.push_in_one(&mut rooms[*room], &self.session, membership),
            several => batch.push_in_several(rooms, &self.session, several),
        }
    }

    fn awaits_some(&self, rooms: &[BatchRoom]) -> bool {
        self.standings.iter().any(|(room, membership)| membership.awaits(rooms[*room].last))
    }
}

/// Composes an event, or says that its publisher is to be told.
pub(super) fn compose_event(
    entry: &Arc<hallway_rooms::entry::Entry>,
    is_apart: bool,
    counts: &DeliveryCounters,
) -> Option<OutgoingEvent> {
    match OutgoingEvent::from_entry(entry, is_apart) {
        Ok(event) => {
            counts.events.increment(1);
            Some(event)
        }
        Err(error) => {
            counts.invalid.increment(1);
            tracing::warn!(event = logs::EVENT_UNDELIVERABLE, id = %entry.id, %error, "an event was stored that no client may get; its publisher must send valid JSON");
            None
        }
    }
}
