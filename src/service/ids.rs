//! Ids that the gateway makes.

use hallway_rooms::event::EventId;

/// A new UUID v7.
///
/// # Panics
/// Never: a UUID's letters are those of an event id.
#[must_use]
pub fn event_id() -> EventId {
    uuid::Uuid::now_v7().to_string().parse().expect("a UUID is an event id")
}
