//! Acknowledgements: a client reports what its app did with an event.

use hallway_rooms::event::EventId;
use metrics::counter;

use super::{PendingReply, Service, reply};
use crate::logs;
use crate::session::Session;

/// The outcome of an event at a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckStatus {
    /// The event has arrived.
    Received,
    /// The app has finished the work that the event asks for.
    Processed,
    /// The app could not do that work.
    Failed,
}

/// A client's report about one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledgement {
    /// The id of the event.
    pub event: EventId,
    /// The outcome.
    pub status: AckStatus,
}

impl AckStatus {
    /// The spelling on the wire and in the metric's label.
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
    /// Counts a client's acknowledgement. The gateway keeps no state for it and publishes nothing.
    pub fn acknowledge(&self, session: &Session, acknowledgement: &Acknowledgement, answer: PendingReply) {
        let Acknowledgement { event, status } = acknowledgement;
        counter!(crate::metrics::ACKNOWLEDGEMENTS, "status" => status.as_str()).increment(1);
        tracing::debug!(event = logs::EVENT_ACKNOWLEDGED, session = session.id(), event_id = %event, status = status.as_str(), "an event was acknowledged");
        Self::respond_to(session, answer, reply::DONE);
    }
}
