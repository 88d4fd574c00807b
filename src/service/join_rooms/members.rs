//! Adding the member to several rooms, with the answer, while the locks of all of them are held.

use std::sync::Arc;

use hallway_rooms::key::Room;
use hallway_rooms::offset::Offset;
use metrics::counter;

use super::RoomVerdicts;
use crate::hub::{LatestWatch, LocalRoom, LockedRoom};
use crate::service::catch_up::{CatchUp, CatchUpRoom};
use crate::service::reader::MergedReader;
use crate::service::reply::{self, JoinedRoom};
use crate::service::row::EventRow;
use crate::service::{PendingReply, Service};
use crate::session::{JoinedMembership, MemberDelivery, Membership, Session};

/// Rooms that have been read, in the order of their keys.
#[derive(Debug)]
pub(super) struct Joining {
    /// One per room, in that order.
    pub(super) parts: Vec<RoomMembership>,
    /// The merged histories of the rooms that have one.
    pub(super) reader: MergedReader,
    /// The events of the answer.
    pub(super) row: EventRow,
    /// Numbers of the rooms with a gap between two reads, reported as incomplete.
    pub(super) torn: Vec<usize>,
    /// Whether rooms that moved on are read again; otherwise the catch-up deals with them.
    pub(super) may_wait: bool,
}

/// One room.
#[derive(Debug)]
pub(super) struct RoomMembership {
    /// Held since before the read: no `latest` event is missed.
    pub(super) watch: LatestWatch,
    pub(super) stand: JoinedAs,
}

/// How a member comes into a room.
#[derive(Clone, Copy, Debug)]
pub(super) enum JoinedAs {
    /// It is a member already and keeps its offset.
    Kept,
    /// It starts at the head of a room without a history.
    Plain(Offset),
    /// It starts at the head of a room, which has this number in the reader. All events after `since` are delivered.
    New { number: usize, since: Offset },
    /// It resumes from an offset in a room, which has this number in the reader.
    Back {
        number: usize,
        /// All events after this offset are delivered.
        since: Offset,
        /// Whether the history reaches back to the requested start.
        complete: bool,
    },
}

/// The outcome of an attempt to add the member.
/// Also when the session ended meanwhile: there is nothing left to do.
pub(super) enum JoinAttempt {
    Seated,
    /// A room has moved on and is read again.
    Moved(Box<Joining>),
    /// A room was closed and is opened again.
    Gone,
}

impl JoinedAs {
    fn number(self) -> Option<usize> {
        match self {
            Self::Kept | Self::Plain(_) => None,
            Self::New { number, .. } | Self::Back { number, .. } => Some(number),
        }
    }

    fn is_back(self) -> bool {
        matches!(self, Self::Back { .. })
    }
}

impl Joining {
    /// The rooms. Held apart, since they must outlive the locks on them.
    fn local_rooms(&self) -> Vec<Arc<LocalRoom>> {
        self.parts.iter().map(|part| part.watch.room().clone()).collect()
    }

    /// Moves rooms that the member joins without a history forward to their positions. Returns the rooms that have
    /// moved on beyond what was read of them.
    fn find_behind(&mut self, held: &[LockedRoom<'_>]) -> Vec<usize> {
        let mut behind = Vec::new();
        for (part, locked) in self.parts.iter_mut().zip(held) {
            // A room outside the merge has no history to fall behind in.
            let (Some(number), Some(at)) = (part.stand.number(), locked.delivered_offset()) else { continue };
            // Not once something of the room is in the answer: the delivered events of a room have no gaps.
            if let JoinedAs::New { since, .. } = &mut part.stand
                && self.reader.merge.delivered_offset(number) == *since
                && self.reader.merge.pass_over(number, at)
            {
                *since = at;
            }
            if at > self.reader.merge.delivered_offset(number) {
                behind.push(number);
            }
        }
        behind
    }

    /// Merges in the `latest` events that came while the rooms were read.
    fn update_current(&mut self, held: &[LockedRoom<'_>], sent: bool) {
        for (part, locked) in self.parts.iter().zip(held).filter(|(part, _)| part.stand.is_back()) {
            self.row.current.update_from(&locked.latest_while_watched(), part.watch.room().room());
        }
        // With more to follow they belong behind the last page, which the catch-up sends.
        if sent && !self.row.has_more {
            let merge = &self.reader.merge;
            // An event may be durable in one room and `latest` in another: the history has shown it already.
            self.row.current.told_by(|id| merge.has_gone(id));
            self.row.fit_current();
        }
    }

    /// The membership that a room gets; none where the existing one stays.
    fn membership_for(&self, stand: JoinedAs, at: Offset, behind: bool) -> Option<Arc<Membership>> {
        match stand {
            JoinedAs::Kept => None,
            JoinedAs::Plain(head) => Some(Membership::receiving_from(head.max(at))),
            JoinedAs::New { number, .. } | JoinedAs::Back { number, .. } => {
                let sent = self.reader.merge.delivered_offset(number);
                Some(if behind { Membership::catching_up_from(sent) } else { Membership::receiving_from(sent) })
            }
        }
    }

    /// The offset after which the answer has every event of a room; none after a gap between two reads.
    fn complete_since(&self, stand: JoinedAs) -> Option<Offset> {
        match stand {
            JoinedAs::Kept | JoinedAs::Plain(_) => None,
            JoinedAs::New { number, since } | JoinedAs::Back { number, since, .. } => {
                (!self.torn.contains(&number)).then_some(since)
            }
        }
    }

    /// Whether the answer has every event since the requested start; none where no start was requested.
    fn complete(&self, stand: JoinedAs) -> Option<bool> {
        match stand {
            JoinedAs::Kept | JoinedAs::Plain(_) | JoinedAs::New { .. } => None,
            JoinedAs::Back { number, complete, .. } => Some(complete && !self.torn.contains(&number)),
        }
    }
}

impl Service {
    /// Adds the session to the rooms and answers, while the locks of all rooms are held.
    pub(super) fn enter_all(
        &self,
        session: &Arc<Session>,
        mut joining: Box<Joining>,
        verdicts: &RoomVerdicts,
        answer: &mut PendingReply,
    ) -> JoinAttempt {
        let locals = joining.local_rooms();
        let mut held: Vec<LockedRoom<'_>> = locals.iter().map(|local| local.lock_room()).collect();
        if held.iter().any(|locked| locked.delivered_offset().is_none()) {
            return JoinAttempt::Gone;
        }
        let (sent, lag) = (answer.is_wanted(), joining.find_behind(&held));
        // Reading once more is cheaper than a catch-up, and the answer stays whole. A full page ends that: the rest
        // follows anyway.
        if sent && joining.may_wait && !joining.row.has_more && !lag.is_empty() {
            lag.into_iter().for_each(|number| joining.reader.merge.reopen_room(number));
            return JoinAttempt::Moved(joining);
        }
        joining.update_current(&held, sent);
        // Without an answer the missed events go out as frames, which is the catch-up's work.
        let untold = !sent && joining.parts.iter().any(|part| part.stand.is_back());
        let behind = joining.row.has_more || !lag.is_empty() || untold;
        remember_ids_if_needed(session, &locals, &joining, behind);
        // Members before the answer: the reply states the room sizes with this session in them.
        let joined_rooms = self.add_members(session, &joining, &mut held, behind);
        let rooms = answer_for(session, &joining, (&joined_rooms, &held), &locals);
        let (mut is_taken, reply) = (false, || reply::joined_all(verdicts, &rooms, &joining.row));
        answer.give_as(session, reply, || {
            let taken = joining.parts.iter().zip(&joined_rooms).zip(&locals);
            for ((part, joined), local) in taken.filter_map(|((part, joined), l)| Some(((part, joined.as_ref()?), l))) {
                // Only an answer delivers the stretch after `since`; without one the memberships record it as they
                // catch up.
                session.set_membership(
                    local.room(),
                    joined.clone(),
                    joining.complete_since(part.stand).filter(|_| sent),
                );
            }
            is_taken = true;
        });
        if !is_taken || session.is_finished() {
            // The code that ended the session may have run before the session had these rooms, and would never remove
            // it from them.
            let given = joined_rooms.iter().zip(&mut held);
            given.for_each(|(member, locked)| member.iter().for_each(|joined| locked.remove_member(joined)));
            return JoinAttempt::Seated;
        }
        counter!(crate::metrics::JOINS).increment(locals.len() as u64);
        // The answer holds the current events, unless pages follow.
        if sent && !joining.row.has_more {
            joining.row.current.mark_all_delivered();
        }
        if behind {
            drop(held);
            self.catch_up_in_all(session, *joining, joined_rooms);
        } else {
            let locked = joined_rooms.iter().zip(&held).zip(&locals);
            // The answer has these events: the memberships must skip them when the hub passes them on.
            for ((member, locked), local) in locked.filter_map(|((s, h), l)| Some(((s.as_ref()?, h), l))) {
                let stamps = joining.row.current.stamps_in(local.room());
                member.membership.set_ahead(stamps.filter(|stamp| locked.is_to_come(*stamp)));
            }
        }
        JoinAttempt::Seated
    }

    /// Enters the session into the rooms. It takes the memberships over with its answer. None where it keeps the one
    /// it has.
    fn add_members(
        &self,
        session: &Arc<Session>,
        joining: &Joining,
        held: &mut [LockedRoom<'_>],
        behind: bool,
    ) -> Vec<Option<JoinedMembership>> {
        let mut joined_rooms = Vec::with_capacity(held.len());
        for (part, locked) in joining.parts.iter().zip(held) {
            let room = part.watch.room().room();
            let membership = joining.membership_for(part.stand, locked.delivered_offset().unwrap_or_default(), behind);
            joined_rooms.push(membership.and_then(|membership| {
                // A repeated join replaces the first membership; two would deliver everything twice.
                session.membership_in(room).iter().for_each(|before| locked.remove_member(before));
                let joined = locked.add_member(session.clone(), membership);
                self.0.hubs.of_session(session).mark_size_changed(room);
                joined
            }));
        }
        joined_rooms
    }

    fn catch_up_in_all(&self, session: &Arc<Session>, joining: Joining, joined_rooms: Vec<Option<JoinedMembership>>) {
        let read = joining.parts.into_iter().zip(joined_rooms).filter(|(part, _)| part.stand.number().is_some());
        let joined_rooms =
            read.filter_map(|(part, joined)| Some(CatchUpRoom { watch: part.watch, membership: joined?.membership }));
        let joined_rooms = joined_rooms.collect();
        let task = CatchUp { members: joined_rooms, reader: joining.reader, current: joining.row.current };
        self.spawn_catch_up(session.clone(), task);
    }
}

/// Turns on the session's detection of second copies, where two paths may bring an event: a catch-up, or rooms of
/// earlier commands.
fn remember_ids_if_needed(session: &Session, locals: &[Arc<LocalRoom>], joining: &Joining, behind: bool) {
    if behind {
        return session.remember_ids();
    }
    let comes = |room: &Room| {
        let at = locals.binary_search_by(|local| local.room().cmp(room));
        at.is_ok_and(|at| !matches!(joining.parts[at].stand, JoinedAs::Kept))
    };
    // Only history events can overlap with rooms that are not part of this command.
    let is_told = joining.parts.iter().any(|part| part.stand.is_back());
    if is_told && session.with_rooms(|rooms| rooms.keys().any(|room| !comes(room))) {
        session.remember_places();
    }
}

/// What the answer says of each room that was joined.
fn answer_for(
    session: &Session,
    joining: &Joining,
    (joined_rooms, held): (&[Option<JoinedMembership>], &[LockedRoom<'_>]),
    locals: &[Arc<LocalRoom>],
) -> Vec<JoinedRoom> {
    let each = joining.parts.iter().zip(joined_rooms.iter().zip(held)).zip(locals);
    let each = each.map(|((part, (member, locked)), local)| {
        let joined = member.clone().or_else(|| session.membership_in(local.room()));
        let standing = joined.map(|joined| joined.membership.current_standing());
        let offset = match (standing, part.stand) {
            // A kept live membership has been served as far as the room is, though its own record may lag.
            (Some(MemberDelivery::Live(to)), JoinedAs::Kept) => to.max(locked.served_offset()),
            (Some(MemberDelivery::Live(to) | MemberDelivery::CatchingUp(to)), _) => to,
            // The session ended meanwhile; the answer is dropped, so any offset will do.
            (Some(MemberDelivery::Left) | None, _) => locked.served_offset(),
        };
        JoinedRoom {
            room: local.room().clone(),
            size: locked.size_everywhere(),
            offset,
            complete: joining.complete(part.stand),
        }
    });
    each.collect()
}
