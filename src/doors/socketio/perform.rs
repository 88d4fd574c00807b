//! Performs commands: each verb of the wire is one verb of the service.

use super::command::{Command, Verb};
use super::inbox::Connection;
use crate::service::{Answer, Frame, Service, reply};

impl Connection {
    pub(super) async fn perform(&self, command: Command) {
        // The reply is bound to its ack id before the verb is moved out.
        let answer = self.answer(&command);
        let service = &self.door.service;
        match command.verb {
            Ok(Verb::Join { room, from }) => service.join(&self.session, &room, from, answer).await,
            Ok(Verb::JoinAll(wanted)) => service.join_rooms(&self.session, wanted, answer).await,
            Ok(Verb::Leave { room }) => service.leave(&self.session, &room, answer).await,
            Ok(Verb::Missed { room, window }) => service.missed(&self.session, &room, window, answer).await,
            Ok(Verb::Locate(location)) => service.locate(&self.session, location, answer).await,
            Ok(Verb::Acknowledge(acknowledgement)) => service.acknowledge(&self.session, &acknowledgement, answer),
            // The only verb that the door does itself: verifying tokens is its business, and the service sees claims
            // only.
            Ok(Verb::Refresh(token)) => {
                let outcome = self.refresh(&token).await;
                self.respond(answer, &outcome.map_or_else(reply::refused, reply::renewed));
            }
            Err(refusal) => self.respond(answer, &reply::refused(refusal)),
        }
    }

    fn respond(&self, answer: Answer, body: &str) {
        Service::respond(&self.session, answer, body);
    }

    fn answer(&self, command: &Command) -> Answer {
        let namespace = self.namespace.clone();
        let frame = command.ack.map(|id| -> Frame { Box::new(move |body| namespace.ack(id, body)) });
        Answer::new(frame, command.at)
    }
}
