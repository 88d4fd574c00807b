//! Packets as they stand on the wire: complete WebSocket text frames, encoded once.

use bytes::Bytes;
use hallway_rooms::entry::Place;
use hallway_rooms::envelope::Envelope;

use crate::memory::Memory;
use crate::session::Dialect;
use crate::wire::text_frame;

/// The packets of one namespace.
#[derive(Clone, Debug)]
pub(super) struct Namespace {
    /// `/realtime,`; empty for the root namespace.
    address: String,
    memory: Memory,
}

impl Namespace {
    /// Of a node whose frames count there.
    pub(super) fn new(path: &str, memory: Memory) -> Self {
        let address = if path == "/" { String::new() } else { format!("{path},") };
        Self { address, memory }
    }

    /// How the CONNECT reply begins, behind which packets of ours may follow.
    pub(super) fn connected(&self) -> String {
        format!("40{}{{", self.address)
    }

    /// The reply to a command.
    pub(super) fn ack(&self, id: i64, body: &str) -> Bytes {
        self.text(&format!("43{}{id}[{body}]", self.address))
    }

    fn text(&self, packet: &str) -> Bytes {
        self.memory.frame(text_frame(packet.as_bytes()))
    }
}

impl Dialect for Namespace {
    fn frame(&self, envelope: &Envelope, places: &[&Place]) -> Bytes {
        let mut packet = format!("42{}[\"{}\",", self.address, envelope.kind());
        envelope.write_argument(places, &mut packet);
        packet.push(']');
        self.text(&packet)
    }

    fn farewell(&self) -> Bytes {
        self.text(&format!("41{}", self.address))
    }
}
