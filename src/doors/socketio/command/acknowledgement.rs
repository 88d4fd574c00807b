//! Parses acknowledgements of events.

use hallway_rooms::close::Refusal;
use hallway_rooms::limits::EVENT_NAME_CHARS;
use serde_json::{Map, Value};

use super::{present_member, text_member};
use crate::service::{AckStatus, Acknowledgement};

pub(super) fn parse_acknowledgement(argument: &Map<String, Value>) -> Result<Acknowledgement, Refusal> {
    let event = text_member(argument, "eventId", EVENT_NAME_CHARS)?.parse().map_err(|_| Refusal::InvalidPayload)?;
    // The text of the error is not used, but its type is part of the contract.
    if present_member(argument, "error").is_some_and(|error| !error.is_string()) {
        return Err(Refusal::InvalidPayload);
    }
    Ok(Acknowledgement { event, status: parse_status(present_member(argument, "status"))? })
}

fn parse_status(given: Option<&Value>) -> Result<AckStatus, Refusal> {
    // The status is optional: an acknowledgement by itself says that the event was received.
    let Some(status) = given else { return Ok(AckStatus::Received) };
    match status.as_str() {
        Some("received") => Ok(AckStatus::Received),
        Some("processed") => Ok(AckStatus::Processed),
        Some("failed") => Ok(AckStatus::Failed),
        _ => Err(Refusal::InvalidPayload),
    }
}
