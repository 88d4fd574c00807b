//! What the fuzz targets need of this door: how a command is read, in words that they can look at.

use hallway_rooms::close::Refusal;

use super::command::{Command, Verb};

/// What became of a packet.
#[derive(Debug, PartialEq, Eq)]
pub enum Read {
    /// No valid packet: the transport is closed.
    Malformed,
    /// Answered with an error.
    Refused(Refusal),
    /// Carried out.
    Command {
        /// The verb as a log would show it.
        shown: String,
        /// The room it names, if it is of a room.
        room: Option<String>,
        /// The token it brings, if it brings one.
        token: Option<String>,
    },
}

/// Reads the array of an EVENT packet.
#[must_use]
pub fn read(packet: &str) -> Read {
    let Ok(command) = Command::parse(packet, None) else { return Read::Malformed };
    let verb = match command.verb {
        Ok(verb) => verb,
        Err(refusal) => return Read::Refused(refusal),
    };
    let shown = format!("{verb:?}");
    let (room, token) = match verb {
        Verb::Join { room, .. } | Verb::Leave { room } | Verb::Missed { room, .. } => (Some(room), None),
        Verb::Refresh(token) => (None, Some(token.0)),
        Verb::JoinAll(_) | Verb::Locate(_) | Verb::Acknowledge(_) => (None, None),
    };
    Read::Command { shown, room, token }
}
