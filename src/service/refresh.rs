//! Refreshing claims: a session continues with the claims of another token, and leaves the rooms that they do not
//! open.

use std::sync::Arc;

use futures_util::future::join_all;
use hallway_rooms::close::Refusal;
use hallway_rooms::key::Room;
use metrics::counter;
use serde_json::json;

use super::Service;
use crate::auth::action::Action;
use crate::auth::claims::Claims;
use crate::session::Session;

/// Rooms of one session that the authorizer is asked about at once: few enough that other sockets are not held up.
const AT_ONCE: usize = 8;

impl Service {
    /// Replaces a session's claims by others of the same user, and checks its rooms again. A room about which the
    /// authorizer gives no answer is left as well: the session was admitted on the strength of other claims.
    ///
    /// # Errors
    /// `forbidden` for claims of another user, `unauthorized` when their token has been revoked. A token that is
    /// revoked at this very moment closes the session.
    pub async fn refresh(&self, session: &Session, claims: Arc<Claims>) -> Result<(), Refusal> {
        // The quota and the index count sessions by user, so a session cannot change hands.
        if claims.subject != session.claims().subject {
            return Err(Refusal::Forbidden);
        }
        if self.is_revoked(&claims) {
            return Err(count_revoked());
        }
        session.replace_claims(claims.clone());
        // Listed first, checked second: a revocation that comes in between finds the session.
        self.0.sessions.reindex_session(session);
        if self.kick_if_revoked(session) {
            return Err(count_revoked());
        }
        let mut rooms: Vec<Room> = session.with_rooms(|rooms| rooms.keys().cloned().collect());
        rooms.sort();
        let policy = &self.0.policy;
        let (mut open, closed): (Vec<Room>, Vec<Room>) =
            rooms.into_iter().partition(|room| policy.rule_allows(&claims, room));
        // What the local policy refuses needs no question to the authorizer.
        closed.iter().for_each(|room| self.expel_from_room(session, room));
        open.retain(|room| policy.is_guarded(room));
        self.ask_again(session, &claims, &open).await;
        Ok(())
    }

    /// Asks the authorizer about rooms again. When one batch gets no answer at all, the other rooms are left without
    /// asking, so that a session stays in them no longer than one timeout.
    async fn ask_again(&self, session: &Session, claims: &Claims, rooms: &[Room]) {
        let mut is_down = false;
        for some in rooms.chunks(AT_ONCE) {
            let asking = some.iter().filter(|_| !is_down);
            let asking = asking.map(|room| self.0.policy.ask_authorizer(claims, room, Action::Join));
            let answers = join_all(asking).await;
            is_down = is_down || answers.iter().all(|answer| *answer == Err(Refusal::Unavailable));
            // Rooms that were not asked about count as unanswered.
            let answers = answers.into_iter().chain(std::iter::repeat(Err(Refusal::Unavailable)));
            let closed = some.iter().zip(answers).filter(|(_, answer)| answer.is_err());
            closed.for_each(|(room, _)| self.expel_from_room(session, room));
        }
    }

    /// Removes a session from a room and notifies it. No event of the room follows the notice.
    fn expel_from_room(&self, session: &Session, room: &Room) {
        if let Some(joined) = session.give_up(room) {
            self.remove_member(session, room, &joined);
            session.send_notice("room.revoked", &json!({ "room": room.key() }));
            counter!(crate::metrics::ROOMS_REVOKED).increment(1);
        }
    }
}

fn count_revoked() -> Refusal {
    counter!(crate::metrics::REFRESHES_REVOKED).increment(1);
    Refusal::Unauthorized
}
