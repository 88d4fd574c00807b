//! Leaving one room, or all of them when the session ends.

use std::sync::Arc;

use hallway_rooms::key::Room;

use super::{PendingReply, Service, reply};
use crate::session::{JoinedMembership, MemberDelivery, Session};

impl Service {
    /// Removes a session from a room and answers. No event of the room follows the answer. Leaving a room that the
    /// session is not in succeeds.
    pub async fn leave_room(&self, session: &Arc<Session>, key: &str, answer: PendingReply) {
        let room = match self.find_room(key) {
            Ok(room) => room,
            Err(refusal) => return Self::respond_to(session, answer, &reply::refused(refusal)),
        };
        // First at the session: from then on no event of the room is framed for it. The room's table follows.
        let joined = session.give_up(&room);
        if let Some(joined) = &joined {
            self.remove_member(session, &room, joined);
        }
        if answer.is_wanted() {
            // How many are in a room is not for a client that was not in it, and perhaps may not be.
            let size = if joined.is_some() { self.room_size(&room).await } else { 0 };
            Self::respond_to(session, answer, &reply::left(&room, size));
        }
    }

    /// Ends a session: it leaves all rooms at once. True for the first call.
    pub fn finish_session(&self, session: &Session) -> bool {
        // Close and shutdown may race; the quota must be given back once.
        if !session.mark_finished() {
            return false;
        }
        self.0.sessions.remove(session);
        self.0.quota.give_back(&session.claims().subject);
        let rooms = session.with_rooms(std::mem::take);
        for (room, joined) in rooms {
            self.remove_member(session, &room, &joined);
        }
        true
    }

    pub(super) fn remove_member(&self, session: &Session, room: &Room, joined: &JoinedMembership) {
        // A catch-up that is under way sees the standing and stops delivering.
        joined.membership.change_standing(MemberDelivery::Left);
        // The room is gone when its last member left: there is nothing to update.
        let hub = self.0.hubs.of_session(session);
        if let Some(local) = hub.find(room) {
            local.lock_room().remove_member(joined);
            hub.mark_size_changed(room);
        }
    }
}
