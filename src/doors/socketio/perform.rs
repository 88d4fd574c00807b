//! Performs commands: each verb of the wire is one verb of the service.

use super::command::{Command, Verb};
use super::inbox::SignedInSocket;
use crate::service::{PendingReply, ReplyFramer, Service, reply};

impl SignedInSocket {
    pub(super) async fn perform_command(&self, command: Command) {
        // The reply is bound to its ack id before the verb is moved out.
        let answer = self.reply_for(&command);
        let service = &self.door.service;
        match command.verb {
            Ok(Verb::Join { room, from }) => service.join_room(&self.session, &room, from, answer).await,
            Ok(Verb::JoinAll(wanted)) => service.join_rooms(&self.session, wanted, answer).await,
            Ok(Verb::Leave { room }) => service.leave_room(&self.session, &room, answer).await,
            Ok(Verb::Missed { room, window }) => service.answer_missed(&self.session, &room, window, answer).await,
            Ok(Verb::Locate(location)) => service.report_location(&self.session, location, answer).await,
            Ok(Verb::Acknowledge(acknowledgement)) => service.acknowledge(&self.session, &acknowledgement, answer),
            // The only verb that the door does itself: verifying tokens is its business, and the service sees claims
            // only.
            Ok(Verb::Refresh(token)) => {
                let outcome = self.refresh_token(&token).await;
                self.send_reply(answer, &outcome.map_or_else(reply::refused, reply::renewed));
            }
            Err(refusal) => self.send_reply(answer, &reply::refused(refusal)),
        }
    }

    fn send_reply(&self, answer: PendingReply, body: &str) {
        Service::respond_to(&self.session, answer, body);
    }

    fn reply_for(&self, command: &Command) -> PendingReply {
        let namespace = self.namespace.clone();
        let frame = command.ack.map(|id| -> ReplyFramer { Box::new(move |body| namespace.ack(id, body)) });
        PendingReply::new(frame, command.at)
    }
}
