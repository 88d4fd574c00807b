//! Acknowledging: a client says what became of an event.

use hallway_rooms::event::EventId;
use metrics::counter;

use super::{Answer, Service, reply};
use crate::logs;
use crate::session::Session;

/// What became of an event at a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It has arrived.
    Received,
    /// The app has done what it asks for.
    Processed,
    /// The app could not.
    Failed,
}

/// A client's word on an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledgement {
    /// Which event.
    pub event: EventId,
    /// What became of it.
    pub status: Status,
}

impl Status {
    /// As it stands on the wire and in the metric.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Processed => "processed",
            Self::Failed => "failed",
        }
    }
}

impl Service {
    /// Takes a client's word on an event.
    pub fn acknowledge(&self, session: &Session, acknowledgement: &Acknowledgement, answer: Answer) {
        let Acknowledgement { event, status } = acknowledgement;
        counter!(crate::metrics::ACKNOWLEDGEMENTS, "status" => status.as_str()).increment(1);
        tracing::debug!(event = logs::EVENT_ACKNOWLEDGED, session = session.id(), event_id = %event, status = status.as_str(), "an event was acknowledged");
        Self::respond(session, answer, reply::DONE);
    }
}
