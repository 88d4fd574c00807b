//! What the fuzz targets need of this door: the parsing of a command, in types that they can inspect.

use hallway_rooms::close::Refusal;

use super::command::{Command, Verb};

/// The outcome of parsing a packet.
#[derive(Debug, PartialEq, Eq)]
pub enum PacketOutcome {
    /// No valid packet: the transport is closed.
    Malformed,
    /// Answered with an error.
    Refused(Refusal),
    /// Carried out.
    Command {
        /// The verb as a log would show it.
        shown: String,
        /// The rooms it names.
        rooms: Vec<String>,
        /// The token it brings, if it brings one.
        token: Option<String>,
    },
}

/// Parses the array of an EVENT packet.
#[must_use]
pub fn read(packet: &str) -> PacketOutcome {
    let Ok(command) = Command::parse(packet, None) else { return PacketOutcome::Malformed };
    let verb = match command.verb {
        Ok(verb) => verb,
        Err(refusal) => return PacketOutcome::Refused(refusal),
    };
    let shown = format!("{verb:?}");
    let (rooms, token) = match verb {
        Verb::Join { room, .. } | Verb::Leave { room } | Verb::Missed { room, .. } => (vec![room], None),
        Verb::JoinAll(wanted) => (wanted.into_iter().map(|one| one.room).collect(), None),
        Verb::Refresh(token) => (Vec::new(), Some(token.0)),
        Verb::Locate(_) | Verb::Acknowledge(_) => (Vec::new(), None),
    };
    PacketOutcome::Command { shown, rooms, token }
}
