//! Fan-out: one event to the union of its rooms' members, each once, without a wait for any of them.
//!
//! **The problem.** An event has several rooms and a session may be in some of them. It gets one frame with the offsets
//! of exactly its rooms. Members join and leave during the fan-out, and a slow peer must cost the others nothing.
//!
//! **What comes here** is what cannot be part of a [`batch`](super::batch): an event that some room keeps in no history, or that
//! comes late or apart. The rule for each member is the same there.
//!
//! **The rule.** The hub's one task has moved the positions of the rooms before it comes here
//! ([`Delivery::advance_rooms`]). Then, for each member:
//!
//! 1. Under the lock of the session's wire, each of its memberships among the rooms is asked whether the event is newer
//!    than what it has, and is moved to it ([`Membership::accept_news`]). The rooms that say yes make a mask.
//! 2. If the mask is not empty and no other way has brought the event (`session/copies.rs`), the frame for that mask is
//!    pushed. It is composed once per dialect and mask.
//!
//! **Why it is right.**
//!
//! - *Order.* One task delivers one event at a time, and a push keeps its order in the outbox. What is still under way in
//!   other rooms of a member, or in this one, goes to it first (`rounds.rs`).
//! - *Once.* Asking and moving is one act per membership, and one walk gathers all memberships of a session.
//! - *A join meanwhile.* It holds the room's lock. Before the position moved it is in the list and receives the event
//!   here. After, its membership begins behind the event, or it catches up from the history.
//! - *A leave meanwhile.* The membership has ended and says no.
//! - *Apart.* Where the event is delivered to some of its rooms only, because others had it or wait for it, a session
//!   that has just come into one of the others was told of it there. Those rooms are held still, so that it counts.
//! - *Slow peers.* A push writes or queues and never waits. A full outbox closes its own wire and no other.
//!
//! **Example.** An event is at 12-0 in A and 7-0 in B. Ann is in A at 11-0: mask 01, a frame with A's offset. Bob is in
//! both at 11-0 and 5-0: mask 11, one frame with both. Cy is in A at 11-0 and has joined B with an answer up to 7-0: B
//! says no, and the history of B has told the event, so A's copy is dropped.
//!
//! **Faults.** An event that no client can parse is logged and skipped with the positions moved, else it would block
//! its rooms. A process that stops in the middle has closed all transports, and clients come back with their own
//! offsets.

use std::collections::HashMap;
use std::sync::Arc;

use hallway_rooms::entry::{Entry, Retained};
use tokio::task::yield_now;

use super::Hub;
use super::batch::Delivery;
use super::fan_out::compose_event;
use super::outgoing::{OutgoingEvent, RoomTarget};
use super::room::LocalRoom;
use super::rounds::Rounds;
use crate::session::{Membership, Session};
use crate::wire::PushOutcome;

/// Members served between two chances for other tasks.
const CHUNK: usize = 256;

/// A session with its standing in each of the event's rooms that it sits in.
struct Recipient {
    session: Arc<Session>,
    standings: Vec<(Arc<Membership>, usize, Retained)>,
}

impl Hub {
    /// Delivers an entry in one go to the members of its targets, whose positions have been advanced. `is_apart`: others of
    /// its rooms had or will have it by themselves.
    pub(super) async fn deliver_to_members(&self, delivery: &Delivery, is_apart: bool, rounds: &mut Rounds) {
        let Delivery { entry, targets } = delivery;
        if targets.is_empty() {
            return;
        }
        let Some(mut outgoing) = compose_event(entry, is_apart, &self.0.counts) else { return };
        // With one room no session is met twice, so no list of receivers is made.
        let sent = match targets.as_slice() {
            [only] if !is_apart => self.deliver_in_one(&mut outgoing, only, rounds).await,
            several => self.deliver_in_several(&mut outgoing, several, rounds).await,
        };
        self.0.counts.delivered.increment(sent);
        self.0.counts.note_lag(entry);
    }

    async fn deliver_in_one(&self, outgoing: &mut OutgoingEvent, target: &RoomTarget, rounds: &mut Rounds) -> u64 {
        let (news, mask) = (required_standing(&outgoing.entry, target), 1 << target.place);
        let (mut sent, mut from, mut more) = (0, 0, true);
        while more {
            more = target.local.for_each(from, from + CHUNK, |member| {
                let session = &member.session;
                rounds.serve_session(session, &self.0.counts);
                let push = session.lane().push_as(outgoing.lag_policy(mask), || {
                    // First whether it is in the room: a member that has just left it has not had an event that it did not receive.
                    let accepts = member.membership.accept_news(news) && outgoing.is_first(session, mask);
                    accepts.then(|| outgoing.frame_for(session, mask))
                });
                self.0.counts.count_push(push, 1, &mut sent);
            });
            from += CHUNK;
            // The room's lock is released between chunks, so that joins and other tasks go on.
            if more {
                yield_now().await;
            }
        }
        sent
    }

    async fn deliver_in_several(
        &self,
        outgoing: &mut OutgoingEvent,
        targets: &[RoomTarget],
        rounds: &mut Rounds,
    ) -> u64 {
        let mut sent = 0;
        let aside = if outgoing.is_apart { self.other_rooms_here(&outgoing.entry, targets) } else { Vec::new() };
        for chunk in collect_recipients(&outgoing.entry, targets).chunks(CHUNK) {
            {
                // A session that joins one of these is told there what it had: before this check or after it, not during it.
                let _still: Vec<_> = aside.iter().map(|local| local.lock_room()).collect();
                for receiver in chunk {
                    rounds.serve_session(&receiver.session, &self.0.counts);
                    self.0.counts.count_push(receiver.push_event(outgoing), 1, &mut sent);
                }
            }
            // A short chunk is the last one.
            if chunk.len() == CHUNK {
                yield_now().await;
            }
        }
        sent
    }

    /// The other rooms here that an entry is stored in, in the order of their keys.
    fn other_rooms_here(&self, entry: &Entry, targets: &[RoomTarget]) -> Vec<Arc<LocalRoom>> {
        let mut aside = self.open_targets(entry);
        let is_other = |target: &RoomTarget| targets.iter().all(|chosen| chosen.place != target.place);
        aside.retain(|target| is_other(target) && entry.places[target.place].link().is_some());
        let mut aside: Vec<_> = aside.into_iter().map(|target| target.local).collect();
        aside.sort_unstable_by(|one, other| one.room().cmp(other.room()));
        aside
    }
}

/// What a member's standing is compared with: nothing for what comes late.
fn required_standing(entry: &Entry, target: &RoomTarget) -> Retained {
    if target.late { Retained::Nothing } else { entry.places[target.place].keep }
}

fn collect_recipients(entry: &Entry, targets: &[RoomTarget]) -> Vec<Recipient> {
    let mut found: Vec<Recipient> = Vec::new();
    let mut index: HashMap<u64, usize> = HashMap::new();
    for target in targets {
        let news = required_standing(entry, target);
        for member in target.local.members() {
            let at = *index.entry(member.session.id()).or_insert_with(|| {
                found.push(Recipient { session: member.session, standings: Vec::new() });
                found.len() - 1
            });
            found[at].standings.push((member.membership, target.place, news));
        }
    }
    found
}

impl Recipient {
    fn push_event(&self, outgoing: &mut OutgoingEvent) -> PushOutcome {
        // It may have left one of the rooms by the time the frame is made: the weight is a guess, and only of backpressure.
        let receiving = self.standings.iter().filter(|(membership, _, news)| membership.is_news(*news));
        let weight = outgoing.lag_policy(rooms_mask(receiving));
        let frame = || {
            let receiving = self.standings.iter().filter(|(membership, _, news)| membership.accept_news(*news));
            let mask = rooms_mask(receiving);
            (mask != 0 && outgoing.is_first(&self.session, mask)).then(|| outgoing.frame_for(&self.session, mask))
        };
        self.session.lane().push_as(weight, frame)
    }
}

/// A bit per place in which it stands.
fn rooms_mask<'a>(standings: impl Iterator<Item = &'a (Arc<Membership>, usize, Retained)>) -> u64 {
    standings.fold(0, |mask, (_, place, _)| mask | 1 << place)
}
