//! Joining a room: subscribe, read, and enter, so that nothing falls between and nothing comes twice.
//!
//! **The problem.** A client comes back with the last offset it has. It is to be given what it missed, then all that is
//! new, each event once and in order. But the history is read in one moment and live events flow in all others: an
//! event may be stored before the read and arrive behind it, or be stored right behind the read, or overtake the reply
//! on its way out.
//!
//! **The rule**, in three steps:
//!
//! 1. The room is opened: its channel is subscribed and confirmed, then its position is set
//!    ([`Hub::open`](crate::hub::Hub)).
//! 2. The history is read from the client's offset on. The end of what was read is `head`.
//! 3. `enter` takes the room's lock, under which the hub moves the position `at`, and there compares `head` with `at`.
//!    The member is added, the reply is queued, and the membership's offset is set before the lock is released.
//!
//! **Why it is right**, for an event at offset `e`:
//!
//! - *`e` ≤ `head`:* it is in the reply. If the hub comes to it only later, it is not newer than the membership's
//!   offset, and [`Membership::hear`] drops it.
//! - *`e` > `head`, and `at` ≤ `head`:* the hub has not moved to `e` yet. It does so under the same lock, after
//!   `enter`, and finds the member. The reply is queued by then, so the event follows it.
//! - *`e` > `head`, and `at` ≥ `e`:* the hub has moved on, and may have passed the list of members. The member is added
//!   as one that catches up, receives nothing live, and reads on from `head` (`catch_up.rs`).
//!
//! A join without an offset has no past to be given: it begins at the later of `head` and `at`. Events of several rooms
//! may come by another room of the session too: what of the answer counts as told, and from when, is in
//! `session/copies.rs`.
//!
//! **Example.** The client has 5-0 and the read brings 6-0 to 9-0. If the position is 9-0 or less, the member is live
//! from 9-0 on: a live 9-0 is dropped, 10-0 is delivered. If it is 11-0, the member catches up from 9-0 with 10-0 and
//! 11-0.
//!
//! **Faults.** If the room was unsubscribed between steps 1 and 3, it has no position and all is done again. If the
//! broker is out of reach, the join is tried until its wait budget is spent; a client that cannot be told loses its
//! transport and comes back with the same offset. A session that ends meanwhile is found behind `take` and its
//! membership removed.

use std::sync::Arc;

use hallway_rooms::close::{Close, Refusal};
use hallway_rooms::history::From;
use hallway_rooms::key::Room;
use hallway_rooms::limits::PAGE_EVENTS;
use hallway_rooms::offset::Offset;
use metrics::counter;

use super::catch_up::{CatchUp, Seat};
use super::page::Page;
use super::patience::attempt;
use super::reader::{Reader, Share};
use super::turns::Turn;
use super::{Answer, Service, Window, reply};
use crate::auth::policy::Action;
use crate::hub::{Seated, Watch};
use crate::session::{Membership, Session, Standing};

impl Service {
    /// Lets a session into a room, with what it missed when it says from where on. A join without an answer that
    /// cannot be carried out in time costs the transport, so that the client comes back and joins again.
    pub async fn join(&self, session: &Arc<Session>, key: &str, from: Option<From>, mut answer: Answer) {
        let tried = self.try_join(session, key, from, &mut answer).await;
        let (Err(refusal), false) = (tried, session.is_finished()) else { return };
        counter!(crate::metrics::JOINS_REFUSED, "why" => refusal.code()).increment(1);
        if refusal == Refusal::Unavailable && !answer.is_wanted() {
            return session.close(Close::JoinUnavailable);
        }
        answer.give(session, &reply::refused(refusal));
    }

    async fn try_join(
        &self,
        session: &Arc<Session>,
        key: &str,
        from: Option<From>,
        answer: &mut Answer,
    ) -> Result<(), Refusal> {
        let room = self.admitted(session, key, answer).await?;
        if from.is_some() && !self.0.classes.of(&room).has_history() {
            return Err(Refusal::HistoryDisabled);
        }
        if session.joined(&room).is_none() && session.with_rooms(|r| r.len()) >= self.0.limits.rooms_per_socket {
            crate::metrics::limit::Limit::RoomsPerSocket.reached();
            return Err(Refusal::TooManyRooms);
        }
        let mut turn = None;
        if from.is_some() {
            self.room_for_more(session).await;
            turn = self.turn_to_answer(session, answer).await;
        }
        let parked = self.park(session, from.iter().map(|_| &room));
        let until = self.patience(answer);
        loop {
            let tried = attempt(until, self.look_and_enter(session, &room, from, answer, &mut turn)).await;
            if !self.tries_again(session, until, tried.err()).await {
                self.end_turn(session, turn);
                self.resume_parked(session, parked);
                return tried;
            }
        }
    }

    /// Judges who asks to come in. An authorizer that gives no answer is told to a client at once, as it has waited for it;
    /// who can be told nothing waits for it as for the broker.
    pub(super) async fn admitted(&self, session: &Session, key: &str, answer: &Answer) -> Result<Room, Refusal> {
        let claims = session.claims();
        if answer.is_wanted() {
            return self.entrance(&claims, key, Action::Join).await;
        }
        let until = self.patience(answer);
        loop {
            let tried = attempt(until, self.entrance(&claims, key, Action::Join)).await;
            if !self.tries_again(session, until, tried.as_ref().err().copied()).await {
                return tried;
            }
        }
    }

    async fn look_and_enter(
        &self,
        session: &Arc<Session>,
        room: &Room,
        from: Option<From>,
        answer: &mut Answer,
        turn: &mut Option<Turn>,
    ) -> Result<(), Refusal> {
        while !session.is_finished() {
            let local = self.0.hub.open(room).await.map_err(|_| Refusal::Unavailable)?;
            let watch = Watch::over(&local);
            let (looked, _) = tokio::join!(self.look(room, from, answer.is_wanted()), self.others(room));
            let (head, page) = looked?;
            turn.iter_mut().zip(&page).for_each(|(turn, page)| turn.count(page.size()));
            // The head of a room that has moved on meanwhile is caught up with.
            let desk = if page.is_some() { self.0.turns.desk().await } else { None };
            let entered = self.enter(session, watch, head, page, answer);
            drop(desk);
            if entered {
                counter!(crate::metrics::JOINS).increment(1);
                return Ok(());
            }
        }
        Ok(())
    }

    /// The head, or the page that was asked for and its end. Who can be told nothing gets what it missed as events.
    async fn look(&self, room: &Room, from: Option<From>, told: bool) -> Result<(Offset, Option<Page>), Refusal> {
        let Some(from) = from else {
            let facts = self.0.broker.facts(room).await.map_err(|_| Refusal::Unavailable)?;
            return Ok((facts.head(), None));
        };
        let mut page = self.read(room, Window { from, limit: PAGE_EVENTS }).await?;
        // A time is no offset, so nothing can be read behind it: who missed nothing goes on from the head.
        if !told && page.complete && !page.is_empty() {
            page.has_more = true;
            return Ok((from.exclusive(), Some(page)));
        }
        Ok((page.offset, Some(page)))
    }

    /// Seats the session and answers while the room stands still. False when the room was let go meanwhile.
    fn enter(
        &self,
        session: &Arc<Session>,
        watch: Watch,
        head: Offset,
        mut page: Option<Page>,
        answer: &mut Answer,
    ) -> bool {
        let local = watch.room();
        let mut seated = local.hold();
        let Some(at) = seated.at() else { return false };
        if page.is_none() && Self::reassure(session, local.room(), &seated, answer) {
            return true;
        }
        if let Some(page) = &mut page {
            page.update(&seated.came(), local.room());
        }
        let behind = page.as_ref().is_some_and(|page| page.has_more || at > head);
        let offset = if behind { head } else { head.max(at) };
        let since = page.as_ref().filter(|_| answer.is_wanted()).map(|page| page.since.min(offset));
        let membership = if behind { Membership::behind(offset) } else { Membership::live(offset) };
        if behind {
            session.remember_ids();
        } else if since.is_some() && session.with_rooms(|rooms| rooms.keys().any(|other| other != local.room())) {
            session.remember_places();
        }
        session.joined(local.room()).iter().for_each(|before| seated.leave(before));
        let Some(joined) = seated.enter(session.clone(), membership.clone()) else { return false };
        self.0.hub.recount(local.room());
        let (mut is_taken, is_wanted) = (false, answer.is_wanted());
        let reply = || reply::joined(local.room(), seated.size_everywhere(), offset, page.as_ref());
        answer.give_as(session, reply, || {
            session.take(local.room(), joined.clone(), since);
            is_taken = true;
        });
        // Whoever ended it may have looked before it had this room.
        if !is_taken || session.is_finished() {
            seated.leave(&joined);
            return true;
        }
        page.iter_mut().filter(|page| is_wanted && !page.has_more).for_each(|page| page.current.told());
        let mut current = page.map(|page| page.current).unwrap_or_default();
        if !behind {
            current.send(session);
            membership.set_ahead(current.stamps(local.room()).filter(|stamp| seated.is_to_come(*stamp)));
        }
        drop(seated);
        if behind {
            let mut reader = Reader::new(Share::of(1, self.0.limits.page_bytes));
            reader.add(watch.room().room().clone(), offset);
            let seats = vec![Seat { watch, membership }];
            self.spawn_catch_up(session.clone(), CatchUp { seats, reader, current });
        }
        true
    }

    /// A member that joins again without asking for anything keeps its place, and is told how far it has been served.
    fn reassure(session: &Session, room: &Room, seated: &Seated<'_>, answer: &mut Answer) -> bool {
        let Some(joined) = session.joined(room) else { return false };
        let offset = match joined.membership.standing() {
            Standing::CatchingUp(offset) => offset,
            Standing::Live(to) => to.max(seated.served()),
            Standing::Left => return false,
        };
        answer.give(session, &reply::joined(room, seated.size_everywhere(), offset, None));
        true
    }
}
