//! Taking the seats of several rooms, with the answer, while all of them stand still.

use std::sync::Arc;

use hallway_rooms::key::Room;
use hallway_rooms::offset::Offset;
use metrics::counter;

use super::Verdicts;
use crate::hub::{LocalRoom, Seated, Watch};
use crate::service::catch_up::{CatchUp, Seat};
use crate::service::reader::Reader;
use crate::service::reply::{self, JoinedRoom};
use crate::service::row::Row;
use crate::service::{Answer, Service};
use crate::session::{Joined, Membership, Session, Standing};

/// Rooms that have been looked at, in the order of their keys.
#[derive(Debug)]
pub(super) struct Joining {
    pub(super) parts: Vec<Part>,
    pub(super) reader: Reader,
    pub(super) row: Row,
    /// Rooms of the reader of which something is missing between two reads.
    pub(super) torn: Vec<usize>,
    /// Whether to read rooms again that have moved on, rather than to catch up in them.
    pub(super) may_wait: bool,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) watch: Watch,
    pub(super) stand: Stand,
}

/// How a member comes into a room.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stand {
    /// It keeps its place.
    Kept,
    /// It begins at the head of a room that has no history.
    Plain(Offset),
    /// It begins at the head of a room with this number in the reader. Everything that came behind `since` is told.
    New { number: usize, since: Offset },
    /// It has had everything up to a place in a room with this number in the reader.
    Back {
        number: usize,
        /// Everything that came behind this is told.
        since: Offset,
        complete: bool,
    },
}

/// What came of an attempt to take the seats.
pub(super) enum Entered {
    Seated,
    /// A room has moved on, and is to be read again.
    Moved(Box<Joining>),
    /// A room was let go, and is to be opened anew.
    Gone,
}

impl Stand {
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
    /// The rooms, which outlive the locks on them.
    fn locals(&self) -> Vec<Arc<LocalRoom>> {
        self.parts.iter().map(|part| part.watch.room().clone()).collect()
    }

    /// Has rooms begin where they stand that the member has no place in. Gives the rooms that have moved on beyond what was
    /// read of them.
    fn level(&mut self, held: &[Seated<'_>]) -> Vec<usize> {
        let mut behind = Vec::new();
        for (part, seated) in self.parts.iter_mut().zip(held) {
            let (Some(number), Some(at)) = (part.stand.number(), seated.at()) else { continue };
            // Of one that something was told of already nothing is passed over: what is told of a room has no holes.
            if let Stand::New { since, .. } = &mut part.stand
                && self.reader.merge.told(number) == *since
                && self.reader.merge.pass_over(number, at)
            {
                *since = at;
            }
            if at > self.reader.merge.told(number) {
                behind.push(number);
            }
        }
        behind
    }

    /// Takes in the `latest` events that came while the rooms were read.
    fn update_current(&mut self, held: &[Seated<'_>], told: bool) {
        for (part, seated) in self.parts.iter().zip(held).filter(|(part, _)| part.stand.is_back()) {
            self.row.current.update(&seated.came(), part.watch.room().room());
        }
        if told && !self.row.has_more {
            let merge = &self.reader.merge;
            self.row.current.told_by(|id| merge.has_gone(id));
            self.row.fit_current();
        }
    }

    /// How the member stands in a room from now on; none where it keeps its place.
    fn membership(&self, stand: Stand, at: Offset, behind: bool) -> Option<Arc<Membership>> {
        match stand {
            Stand::Kept => None,
            Stand::Plain(head) => Some(Membership::live(head.max(at))),
            Stand::New { number, .. } | Stand::Back { number, .. } => {
                let told = self.reader.merge.told(number);
                Some(if behind { Membership::behind(told) } else { Membership::live(told) })
            }
        }
    }

    /// From where on the answer tells everything of a room; nothing where something is missing between two reads of it.
    fn since(&self, stand: Stand) -> Option<Offset> {
        match stand {
            Stand::Kept | Stand::Plain(_) => None,
            Stand::New { number, since } | Stand::Back { number, since, .. } => {
                (!self.torn.contains(&number)).then_some(since)
            }
        }
    }

    /// Whether nothing is missing in a room that was asked for from a place on.
    fn complete(&self, stand: Stand) -> Option<bool> {
        match stand {
            Stand::Kept | Stand::Plain(_) | Stand::New { .. } => None,
            Stand::Back { number, complete, .. } => Some(complete && !self.torn.contains(&number)),
        }
    }
}

impl Service {
    /// Seats the session and answers while all rooms stand still.
    pub(super) fn enter_all(
        &self,
        session: &Arc<Session>,
        mut joining: Box<Joining>,
        verdicts: &Verdicts,
        answer: &mut Answer,
    ) -> Entered {
        let locals = joining.locals();
        let mut held: Vec<Seated<'_>> = locals.iter().map(|local| local.hold()).collect();
        if held.iter().any(|seated| seated.at().is_none()) {
            return Entered::Gone;
        }
        let (told, lag) = (answer.is_wanted(), joining.level(&held));
        if told && joining.may_wait && !joining.row.has_more && !lag.is_empty() {
            lag.into_iter().for_each(|number| joining.reader.merge.reopen(number));
            return Entered::Moved(joining);
        }
        joining.update_current(&held, told);
        let untold = !told && joining.parts.iter().any(|part| part.stand.is_back());
        let behind = joining.row.has_more || !lag.is_empty() || untold;
        remember(session, &locals, &joining, behind);
        let seats = self.seat_all(session, &joining, &mut held, behind);
        let rooms = answer_for(session, &joining, (&seats, &held), &locals);
        let (mut is_taken, reply) = (false, || reply::joined_all(verdicts, &rooms, &joining.row));
        answer.give_as(session, reply, || {
            let taken = joining.parts.iter().zip(&seats).zip(&locals);
            for ((part, joined), local) in taken.filter_map(|((part, joined), l)| Some(((part, joined.as_ref()?), l))) {
                session.take(local.room(), joined.clone(), joining.since(part.stand).filter(|_| told));
            }
            is_taken = true;
        });
        if !is_taken || session.is_finished() {
            // Whoever ended it may have looked before it had these rooms.
            let given = seats.iter().zip(&mut held);
            given.for_each(|(seat, seated)| seat.iter().for_each(|joined| seated.leave(joined)));
            return Entered::Seated;
        }
        counter!(crate::metrics::JOINS).increment(locals.len() as u64);
        if told && !joining.row.has_more {
            joining.row.current.told();
        }
        if behind {
            drop(held);
            self.catch_up_in_all(session, *joining, seats);
        } else {
            let seated = seats.iter().zip(&held).zip(&locals);
            for ((seat, seated), local) in seated.filter_map(|((s, h), l)| Some(((s.as_ref()?, h), l))) {
                let stamps = joining.row.current.stamps(local.room());
                seat.membership.set_ahead(stamps.filter(|stamp| seated.is_to_come(*stamp)));
            }
        }
        Entered::Seated
    }

    /// Gives the session its seats, which it has yet to take; none where it keeps the one it has.
    fn seat_all(
        &self,
        session: &Arc<Session>,
        joining: &Joining,
        held: &mut [Seated<'_>],
        behind: bool,
    ) -> Vec<Option<Joined>> {
        let mut seats = Vec::with_capacity(held.len());
        for (part, seated) in joining.parts.iter().zip(held) {
            let room = part.watch.room().room();
            let membership = joining.membership(part.stand, seated.at().unwrap_or_default(), behind);
            seats.push(membership.and_then(|membership| {
                session.joined(room).iter().for_each(|before| seated.leave(before));
                let joined = seated.enter(session.clone(), membership);
                self.0.hub.recount(room);
                joined
            }));
        }
        seats
    }

    fn catch_up_in_all(&self, session: &Arc<Session>, joining: Joining, seats: Vec<Option<Joined>>) {
        let read = joining.parts.into_iter().zip(seats).filter(|(part, _)| part.stand.number().is_some());
        let seats = read.filter_map(|(part, joined)| Some(Seat { watch: part.watch, membership: joined?.membership }));
        let seats = seats.collect();
        let task = CatchUp { seats, reader: joining.reader, current: joining.row.current };
        self.spawn_catch_up(session.clone(), task);
    }
}

/// Has a session tell second copies where two ways may bring one: what it catches up with, and rooms of earlier commands.
fn remember(session: &Session, locals: &[Arc<LocalRoom>], joining: &Joining, behind: bool) {
    if behind {
        return session.remember_ids();
    }
    let comes = |room: &Room| {
        let at = locals.binary_search_by(|local| local.room().cmp(room));
        at.is_ok_and(|at| !matches!(joining.parts[at].stand, Stand::Kept))
    };
    let is_told = joining.parts.iter().any(|part| part.stand.is_back());
    if is_told && session.with_rooms(|rooms| rooms.keys().any(|room| !comes(room))) {
        session.remember_places();
    }
}

/// What is said of each room that was joined.
fn answer_for(
    session: &Session,
    joining: &Joining,
    (seats, held): (&[Option<Joined>], &[Seated<'_>]),
    locals: &[Arc<LocalRoom>],
) -> Vec<JoinedRoom> {
    let each = joining.parts.iter().zip(seats.iter().zip(held)).zip(locals);
    let each = each.map(|((part, (seat, seated)), local)| {
        let joined = seat.clone().or_else(|| session.joined(local.room()));
        let standing = joined.map(|joined| joined.membership.standing());
        let offset = match (standing, part.stand) {
            (Some(Standing::Live(to)), Stand::Kept) => to.max(seated.served()),
            (Some(Standing::Live(to) | Standing::CatchingUp(to)), _) => to,
            (Some(Standing::Left) | None, _) => seated.served(),
        };
        JoinedRoom {
            room: local.room().clone(),
            size: seated.size_everywhere(),
            offset,
            complete: joining.complete(part.stand),
        }
    });
    each.collect()
}
