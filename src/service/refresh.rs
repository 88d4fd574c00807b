//! Refreshing claims: a session goes on with new ones, and leaves the rooms that they do not open.

use std::sync::Arc;

use hallway_rooms::close::Refusal;
use hallway_rooms::key::Room;
use metrics::counter;
use serde_json::json;

use super::Service;
use crate::auth::claims::Claims;
use crate::session::Session;

impl Service {
    /// Puts new claims of the same user in the place of the old ones and judges the session's rooms again.
    ///
    /// # Errors
    /// `forbidden` when they are somebody else's, `unauthorized` when their token has been revoked. One that is revoked at
    /// this moment costs the session.
    pub fn refresh(&self, session: &Session, claims: Arc<Claims>) -> Result<(), Refusal> {
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
        rooms.retain(|room| !self.0.policy.allows(&claims, room, &self.0.classes));
        rooms.sort();
        for room in &rooms {
            self.expel(session, room);
        }
        Ok(())
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
