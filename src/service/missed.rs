//! Missed events: reading a room's history without joining it.

use std::sync::Arc;

use bytes::Bytes;
use hallway_rooms::close::Refusal;
use hallway_rooms::history::Start;
use hallway_rooms::key::Room;
use tokio::time::Instant;

use super::page::{self, ReplyPage};
use super::wait_budget::attempt_until;
use super::{PendingReply, Service, reply};
use crate::auth::action::Action;
use crate::broker::HistoryRequest;
use crate::session::Session;

/// The requested part of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Where to begin.
    pub from: Start,
    /// The most events to return, 1 to 1000.
    pub limit: usize,
}

impl Service {
    /// Answers with the events that a session missed in a room. The policy is asked as it is for a join.
    pub async fn answer_missed(&self, session: &Arc<Session>, key: &str, window: Window, answer: PendingReply) {
        // Before the queue: a client that does not read its socket must not hold a turn.
        self.room_for_more(session).await;
        let mut turn = self.turn_to_answer(session, &answer).await;
        let page = match self.admit_to_room(&session.claims(), key, Action::Missed).await {
            Ok(room) => self.page_in_time(session, &room, window, self.answer_by(&answer)).await,
            Err(refusal) => Err(refusal),
        };
        turn.iter_mut().zip(&page).for_each(|(turn, page)| turn.count_bytes(page.events_bytes()));
        // The permit covers composing and framing, the part that uses a core.
        let compose_permit = self.0.turns.acquire_compose_permit().await;
        let body = page.map_or_else(reply::refused, |page| reply::missed(&page));
        Self::respond_to(session, answer, &body);
        drop(compose_permit);
        self.end_turn(session, turn);
    }

    /// A part of a room's history as JSON: `{"room","events","offset","complete","hasMore"}`. It counts for the API
    /// key of this name in the fair queue.
    ///
    /// # Errors
    /// `history-disabled` or `unavailable`.
    pub async fn events(&self, key: &str, room: &Room, window: Window) -> Result<Bytes, Refusal> {
        let mut turn = self.turn_of_key(key).await;
        let page = self.page(room, window).await?;
        // Weighed as soon as the size is known, so that the queue's byte bound holds while the body is composed.
        turn.iter_mut().for_each(|turn| turn.count_bytes(page.events_bytes()));
        let compose_permit = self.0.turns.acquire_compose_permit().await;
        let ReplyPage { offset, complete, has_more, .. } = &page;
        let mut body = format!(r#"{{"room":"{room}","events":"#);
        page.write(&mut body);
        body += &format!(r#","offset":"{offset}","complete":{complete},"hasMore":{has_more}}}"#);
        drop(compose_permit);
        Ok(self.hand_over(body, turn))
    }

    /// A room's head.
    ///
    /// # Errors
    /// `unavailable`.
    pub async fn head(&self, room: &Room) -> Result<hallway_rooms::offset::Offset, Refusal> {
        self.0.broker.facts_of(room).await.map(|facts| facts.head()).map_err(|_| Refusal::Unavailable)
    }

    async fn page_in_time(
        &self,
        session: &Session,
        room: &Room,
        window: Window,
        until: Instant,
    ) -> Result<ReplyPage, Refusal> {
        loop {
            let tried = attempt_until(until, self.page(room, window)).await;
            if !self.tries_again(session, until, tried.as_ref().err().copied()).await {
                return tried;
            }
        }
    }

    async fn page(&self, room: &Room, window: Window) -> Result<ReplyPage, Refusal> {
        if !self.0.classes.class_of(room).has_history() {
            return Err(Refusal::HistoryDisabled);
        }
        self.read_page(room, window).await
    }

    /// A part of a history, followed by the current `latest` events.
    pub(super) async fn read_page(&self, room: &Room, window: Window) -> Result<ReplyPage, Refusal> {
        let broker = &self.0.broker;
        let bytes = self.0.limits.page_bytes;
        let portion = HistoryRequest { from: window.from, events: window.limit, bytes };
        // Both at once: one round trip, and a failure of either refuses the answer, since half of it would look
        // complete.
        let read = tokio::try_join!(broker.read_for_client(room, portion), broker.latest(room));
        let (mut history, latest) = read.map_err(|_| Refusal::Unavailable)?;
        page::forget_the_future(&mut history, window.from);
        Ok(ReplyPage::from_history(history, &latest, room, window.from, bytes))
    }
}
