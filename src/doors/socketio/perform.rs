//! Carrying out commands: each verb of the wire is one verb of the service.

use super::command::{Command, Verb};
use super::inbox::Connection;
use crate::service::{Answer, reply};

impl Connection {
    pub(super) async fn perform(&self, command: Command) {
        let answer = self.answer(command.ack);
        let service = &self.door.service;
        match command.verb {
            Ok(Verb::Join { room, from }) => service.join(&self.session, &room, from, answer).await,
            Ok(Verb::Leave { room }) => service.leave(&self.session, &room, answer).await,
            Ok(Verb::Missed { room, window }) => service.missed(&self.session, &room, window, answer).await,
            Err(refusal) => {
                if let Some(frame) = answer {
                    self.session.send(frame(&reply::refused(refusal)));
                }
            }
        }
    }

    fn answer(&self, ack: Option<i64>) -> Answer {
        let (id, namespace) = (ack?, self.namespace.clone());
        Some(Box::new(move |body| namespace.ack(id, body)))
    }
}
