//! The words of an event: type, id and priority (nomor: "Event Envelope", "Event Types").

use std::fmt;
use std::hash::{Hash as _, Hasher as _};
use std::str::FromStr;

use crate::limits::EVENT_NAME_CHARS;

/// Names that Socket.IO clients use themselves, and the gateway's notices. No publisher may use them.
pub const RESERVED: [&str; 21] = [
    "connect",
    "connect_error",
    "connect_timeout",
    "connecting",
    "disconnect",
    "disconnecting",
    "error",
    "newListener",
    "removeListener",
    "ping",
    "pong",
    "reconnect",
    "reconnect_attempt",
    "reconnecting",
    "reconnect_error",
    "reconnect_failed",
    "auth.expiring",
    "room.revoked",
    "server.draining",
    "presence.joined",
    "presence.left",
];

/// A type or an id breaks its rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// Not `[A-Za-z0-9_.:-]{1,128}`.
    #[error("an event's {0} is 1 to 128 characters of A-Z a-z 0-9 _ . : -")]
    Characters(&'static str),
    /// A name that clients or the gateway use themselves.
    #[error("the event type {0:?} is reserved")]
    Reserved(String),
}

/// An event's type, such as `order.status_changed`; it is the Socket.IO event name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EventType(String);

/// The id of one event, the same in its live copies and in every history.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EventId(String);

fn is_name(text: &str) -> bool {
    (1..=EVENT_NAME_CHARS).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.:-".contains(&b))
}

fn is_reserved(text: &str) -> bool {
    RESERVED.contains(&text)
}

impl EventType {
    /// The type as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The priority of an event without one (nomor: "Event Types").
    #[must_use]
    pub fn default_priority(&self) -> Priority {
        match self.0.as_str() {
            "delivery.assigned" | "agent.location_updated" => Priority::High,
            _ => Priority::Normal,
        }
    }

    /// The type of a gateway notice, exempt from the reserved names.
    #[must_use]
    pub fn for_notice(name: &'static str) -> Self {
        Self(name.to_owned())
    }
}

impl FromStr for EventType {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        if !is_name(text) {
            return Err(InvalidName::Characters("type"));
        }
        // A client would take the event for its own library's, or for a notice of the gateway.
        if is_reserved(text) {
            return Err(InvalidName::Reserved(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl EventId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A hash to remember the id by, the same for equal ids within one process. A publisher could make two ids with the
    /// same hash, so it serves only to recognise second copies.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let mut hasher = std::hash::DefaultHasher::new();
        self.0.hash(&mut hasher);
        hasher.finish()
    }
}

impl FromStr for EventId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        is_name(text).then(|| Self(text.to_owned())).ok_or(InvalidName::Characters("id"))
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How urgent an event is for its receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Priority {
    /// Can wait.
    Low,
    /// Status changes and the like.
    Normal,
    /// Assignments, dispatch, locations.
    High,
    /// Failures that need an action.
    Critical,
}

impl Priority {
    /// From the least urgent on.
    pub const ALL: [Self; 4] = [Self::Low, Self::Normal, Self::High, Self::Critical];

    /// The spelling in the envelope.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Low => "LOW",
            Self::Normal => "NORMAL",
            Self::High => "HIGH",
            Self::Critical => "CRITICAL",
        }
    }
}
