//! Leaving a room, or all of them at the end.

use std::sync::Arc;

use hallway_rooms::key::Room;

use super::{Answer, Service, reply};
use crate::session::{Joined, Session, Standing};

impl Service {
    /// Takes a session out of a room at once, and answers; behind the answer nothing of the room arrives. Not being in it
    /// is fine.
    pub async fn leave(&self, session: &Arc<Session>, key: &str, answer: Answer) {
        let room = match self.room(key) {
            Ok(room) => room,
            Err(refusal) => return Self::respond(session, answer, &reply::refused(refusal)),
        };
        let joined = session.give_up(&room);
        if let Some(joined) = &joined {
            self.unseat(&room, joined);
        }
        if answer.is_wanted() {
            // How many are in a room is not for a client that was not in it, and perhaps may not be.
            let size = if joined.is_some() { self.room_size(&room).await } else { 0 };
            Self::respond(session, answer, &reply::left(&room, size));
        }
    }

    /// Ends a session: it leaves all rooms at once. True the first time.
    pub fn finish(&self, session: &Session) -> bool {
        if !session.finish() {
            return false;
        }
        self.0.sessions.remove(session);
        self.0.seats.give_back(&session.claims().subject);
        let rooms = session.with_rooms(std::mem::take);
        for (room, joined) in &rooms {
            self.unseat(room, joined);
        }
        true
    }

    pub(super) fn unseat(&self, room: &Room, joined: &Joined) {
        joined.membership.set(Standing::Left);
        if let Some(local) = self.0.hub.find(room) {
            local.hold().leave(joined);
            self.0.hub.recount(room);
        }
    }
}
