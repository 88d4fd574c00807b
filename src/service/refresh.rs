//! Refreshing claims: a session goes on with new ones, and leaves the rooms that they do not open.

use std::sync::Arc;

use futures_util::future::join_all;
use hallway_rooms::close::Refusal;
use hallway_rooms::key::Room;
use metrics::counter;
use serde_json::json;

use super::Service;
use crate::auth::claims::Claims;
use crate::auth::policy::Action;
use crate::session::Session;

/// Rooms of one session that the authorizer is asked about at once: not so many that it holds up other sockets.
const AT_ONCE: usize = 8;

impl Service {
    /// Puts new claims of the same user in the place of the old ones and judges the session's rooms again. A room that
    /// the authorizer gives no answer about is left, too: what let the session in were other claims.
    ///
    /// # Errors
    /// `forbidden` when they are somebody else's, `unauthorized` when their token has been revoked. One that is revoked at
    /// this moment costs the session.
    pub async fn refresh(&self, session: &Session, claims: Arc<Claims>) -> Result<(), Refusal> {
        if claims.subject != session.claims().subject {
            return Err(Refusal::Forbidden);
        }
        if self.is_revoked(&claims) {
            return Err(revoked());
        }
        session.renew(claims.clone());
        self.0.sessions.relist(session);
        if self.kick_if_revoked(session) {
            return Err(revoked());
        }
        let mut rooms: Vec<Room> = session.with_rooms(|rooms| rooms.keys().cloned().collect());
        rooms.sort();
        let policy = &self.0.policy;
        let (mut open, closed): (Vec<Room>, Vec<Room>) =
            rooms.into_iter().partition(|room| policy.allows(&claims, room));
        closed.iter().for_each(|room| self.expel(session, room));
        open.retain(|room| policy.is_guarded(room));
        self.ask_again(session, &claims, &open).await;
        Ok(())
    }

    /// Has the authorizer judge rooms again. When it gives no answer at all, it is not asked about the others, so that a
    /// session is not in them any longer than that takes.
    async fn ask_again(&self, session: &Session, claims: &Claims, rooms: &[Room]) {
        let mut is_down = false;
        for some in rooms.chunks(AT_ONCE) {
            let asking = some.iter().filter(|_| !is_down);
            let asking = asking.map(|room| self.0.policy.confirms(claims, room, Action::Join));
            let answers = join_all(asking).await;
            is_down = is_down || answers.iter().all(|answer| *answer == Err(Refusal::Unavailable));
            let answers = answers.into_iter().chain(std::iter::repeat(Err(Refusal::Unavailable)));
            let closed = some.iter().zip(answers).filter(|(_, answer)| answer.is_err());
            closed.for_each(|(room, _)| self.expel(session, room));
        }
    }

    /// Takes a session out of a room and says so; nothing of the room arrives behind the notice.
    fn expel(&self, session: &Session, room: &Room) {
        if let Some(joined) = session.give_up(room) {
            self.unseat(room, &joined);
            session.notify("room.revoked", &json!({ "room": room.key() }));
            counter!(crate::metrics::ROOMS_REVOKED).increment(1);
        }
    }
}

fn revoked() -> Refusal {
    counter!(crate::metrics::REFRESHES_REVOKED).increment(1);
    Refusal::Unauthorized
}
