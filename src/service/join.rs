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
//!    ([`Hub::Hub`](crate::hub::Hub)).
//! 2. The history is read from the client's offset on. The end of what was read is `head`.
//! 3. `enter` takes the room's lock, under which the hub moves the position `at`, and there compares `head` with `at`.
//!    The member is added, the reply is queued, and the membership's offset is set before the lock is released.
//!
//! **Why it is right**, for an event at offset `e`:
//!
//! - *`e` ≤ `head`:* it is in the reply. If the hub comes to it only later, it is not newer than the membership's
//!   offset, and [`Membership::accept_news`] drops it.
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
use hallway_rooms::history::Start;
use hallway_rooms::key::Room;
use hallway_rooms::limits::PAGE_EVENTS;
use hallway_rooms::offset::Offset;
use metrics::counter;

use super::catch_up::{CatchUp, CatchUpRoom};
use super::fair_queue::QueueTurn;
use super::page::ReplyPage;
use super::reader::{MergedReader, ReadShare};
use super::wait_budget::attempt_until;
use super::{PendingReply, Service, Window, reply};
use crate::auth::action::Action;
use crate::hub::{LatestWatch, LockedRoom};
use crate::session::{MemberDelivery, Membership, Session};

impl Service {
    /// Makes a session a member of a room, and answers with the missed events if `from` is given. A join without an
    /// answer that cannot be carried out in time closes the transport, so that the client reconnects and joins again.
    pub async fn join_room(&self, session: &Arc<Session>, key: &str, from: Option<Start>, mut answer: PendingReply) {
        let tried = self.try_join(session, key, from, &mut answer).await;
        // A finished session has no reader for a refusal, and none to be closed.
        let (Err(refusal), false) = (tried, session.is_finished()) else { return };
        counter!(crate::metrics::JOINS_REFUSED, "reason" => refusal.code()).increment(1);
        if refusal == Refusal::Unavailable && !answer.is_wanted() {
            // The client has no ack callback, so a refusal would go unseen and the client would believe that it is a
            // member.
            return session.close_transport(Close::JoinUnavailable);
        }
        answer.send_answer(session, &reply::refused(refusal));
    }

    async fn try_join(
        &self,
        session: &Arc<Session>,
        key: &str,
        from: Option<Start>,
        answer: &mut PendingReply,
    ) -> Result<(), Refusal> {
        let room = self.check_admission(session, key, answer).await?;
        if from.is_some() && !self.0.classes.class_of(&room).has_history() {
            return Err(Refusal::HistoryDisabled);
        }
        // A join of a room that the session is already in takes no further slot.
        if session.membership_in(&room).is_none() && session.with_rooms(|r| r.len()) >= self.0.limits.rooms_per_socket {
            crate::metrics::limit::Limit::RoomsPerSocket.note_reached();
            return Err(Refusal::TooManyRooms);
        }
        let mut turn = None;
        // The socket first: a client that does not read must not hold a turn while its queue drains.
        if from.is_some() {
            self.room_for_more(session).await;
            turn = self.turn_to_answer(session, answer).await;
        }
        // From here on the old membership delivers nothing, so that no event is both live and in the answer.
        let paused = self.pause_rooms(session, from.iter().map(|_| &room));
        let until = self.join_deadline(answer);
        loop {
            let tried = attempt_until(until, self.read_and_enter(session, &room, from, answer, &mut turn)).await;
            if !self.tries_again(session, until, tried.err()).await {
                // Behind the answer: the turn weighs its bytes until they have gone to the socket.
                self.end_turn(session, turn);
                // A refused join leaves the session where it was: its old membership delivers again.
                self.resume_paused(session, paused);
                return tried;
            }
        }
    }

    /// Asks policy and authorizer whether a session may join. An authorizer that does not answer is reported to a
    /// client at once, since its own timeout has passed. A join without an answer retries as it does for the broker.
    pub(super) async fn check_admission(
        &self,
        session: &Session,
        key: &str,
        answer: &PendingReply,
    ) -> Result<Room, Refusal> {
        let claims = session.claims();
        if answer.is_wanted() {
            return self.admit_to_room(&claims, key, Action::Join).await;
        }
        let until = self.join_deadline(answer);
        loop {
            // The authorizer is tried again until the wait budget is spent: nothing can be reported to this client.
            let tried = attempt_until(until, self.admit_to_room(&claims, key, Action::Join)).await;
            if !self.tries_again(session, until, tried.as_ref().err().copied()).await {
                return tried;
            }
        }
    }

    async fn read_and_enter(
        &self,
        session: &Arc<Session>,
        room: &Room,
        from: Option<Start>,
        answer: &mut PendingReply,
        turn: &mut Option<QueueTurn>,
    ) -> Result<(), Refusal> {
        // Every turn of the loop opens the room again, because the last one was closed between the read and its lock.
        while !session.is_finished() {
            let local = self.0.hubs.of_session(session).open_room(room).await.map_err(|_| Refusal::Unavailable)?;
            // Before the read: `latest` events that arrive during it must not be lost.
            let watch = LatestWatch::for_room(&local);
            let (looked, _) =
                tokio::join!(self.read_head_or_page(room, from, answer.is_wanted()), self.members_elsewhere(room));
            let (head, page) = looked?;
            turn.iter_mut().zip(&page).for_each(|(turn, page)| turn.count_bytes(page.events_bytes()));
            // A head that has become old during the read is harmless: the member catches up from it.
            // The answer is large only with a page; a plain join does not wait for the compose permit.
            let compose_permit = if page.is_some() { self.0.turns.acquire_compose_permit().await } else { None };
            let entered = self.add_member(session, watch, head, page, answer);
            drop(compose_permit);
            if entered {
                counter!(crate::metrics::JOINS).increment(1);
                return Ok(());
            }
        }
        Ok(())
    }

    /// The room's head, or the requested page and its end. Without an answer the missed events are sent as event
    /// frames.
    async fn read_head_or_page(
        &self,
        room: &Room,
        from: Option<Start>,
        sent: bool,
    ) -> Result<(Offset, Option<ReplyPage>), Refusal> {
        let Some(from) = from else {
            // Without `from` the facts alone are read: no history travels.
            let facts = self.0.broker.facts_of(room).await.map_err(|_| Refusal::Unavailable)?;
            return Ok((facts.head(), None));
        };
        let mut page = self.read_page(room, Window { from, limit: PAGE_EVENTS }).await?;
        // A timestamp is not an offset, so reading on behind it is impossible: a client that missed nothing starts at
        // the head.
        // The page is not sent but read again by the catch-up, as there is no reply to put it in.
        if !sent && page.complete && !page.is_empty() {
            page.has_more = true;
            return Ok((from.exclusive_offset(), Some(page)));
        }
        Ok((page.offset, Some(page)))
    }

    /// Adds the member and answers while the room's lock is held. False when the room was closed meanwhile.
    fn add_member(
        &self,
        session: &Arc<Session>,
        watch: LatestWatch,
        head: Offset,
        mut page: Option<ReplyPage>,
        answer: &mut PendingReply,
    ) -> bool {
        let local = watch.room();
        let mut locked = local.lock_room();
        let Some(at) = locked.delivered_offset() else { return false };
        if page.is_none() && Self::confirm_member(session, local.room(), &locked, answer) {
            return true;
        }
        if let Some(page) = &mut page {
            page.update_current(&locked.latest_while_watched(), local.room());
        }
        // More than a page was missed, or the room moved on during the read: the rest follows by the catch-up.
        let behind = page.as_ref().is_some_and(|page| page.has_more || at > head);
        let offset = if behind { head } else { head.max(at) };
        let since = page.as_ref().filter(|_| answer.is_wanted()).map(|page| page.since.min(offset));
        let membership = if behind { Membership::catching_up_from(offset) } else { Membership::receiving_from(offset) };
        if behind {
            // History and live delivery may both bring an event that is in several rooms.
            session.remember_ids();
        } else if since.is_some() && session.with_rooms(|rooms| rooms.keys().any(|other| other != local.room())) {
            // Another room of the session may have brought an event of this page, or may bring it later.
            session.remember_places();
        }
        // A second join replaces the first membership; two would deliver everything twice.
        session.membership_in(local.room()).iter().for_each(|before| locked.remove_member(before));
        let Some(joined) = locked.add_member(session.clone(), membership.clone()) else { return false };
        self.0.hubs.of_session(session).mark_size_changed(local.room());
        let (mut is_taken, is_wanted) = (false, answer.is_wanted());
        let reply = || reply::joined(local.room(), locked.size_everywhere(), offset, page.as_ref());
        answer.give_as(session, reply, || {
            session.set_membership(local.room(), joined.clone(), since);
            is_taken = true;
        });
        // The code that ended the session may have run before the session had this room, and would never remove it.
        if !is_taken || session.is_finished() {
            locked.remove_member(&joined);
            return true;
        }
        // The page holds the current events already. With more pages to come they follow the last one instead.
        page.iter_mut().filter(|page| is_wanted && !page.has_more).for_each(|page| page.current.mark_all_delivered());
        let mut current = page.map(|page| page.current).unwrap_or_default();
        if !behind {
            // Without a page in an answer they are sent as frames, before the lock lets the first live event in.
            current.send_undelivered(session);
            membership.set_ahead(current.stamps_in(local.room()).filter(|stamp| locked.is_to_come(*stamp)));
        }
        drop(locked);
        if behind {
            let mut reader = MergedReader::new(ReadShare::for_rooms(1, self.0.limits.page_bytes));
            reader.add(watch.room().room().clone(), offset);
            let members = vec![CatchUpRoom { watch, membership }];
            self.spawn_catch_up(session.clone(), CatchUp { members, reader, current });
        }
        true
    }

    /// A repeated join without `from` keeps the membership, and reports the offset up to which it has been served.
    fn confirm_member(session: &Session, room: &Room, locked: &LockedRoom<'_>, answer: &mut PendingReply) -> bool {
        let Some(joined) = session.membership_in(room) else { return false };
        // A live member has been served at least as far as the room as a whole, and perhaps further by its own
        // answer.
        let offset = match joined.membership.current_standing() {
            MemberDelivery::CatchingUp(offset) => offset,
            MemberDelivery::Live(to) => to.max(locked.served_offset()),
            MemberDelivery::Left => return false,
        };
        answer.send_answer(session, &reply::joined(room, locked.size_everywhere(), offset, None));
        true
    }
}
