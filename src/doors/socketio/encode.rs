//! Packets as they stand on the wire: complete WebSocket text frames, encoded once.

use bytes::Bytes;
use hallway_rooms::entry::Place;
use hallway_rooms::envelope::Envelope;

use crate::session::Dialect;
use crate::wire::text_frame;

/// The packets of one namespace.
#[derive(Clone, Debug)]
pub(super) struct Namespace {
    /// `/realtime,`; empty for the root namespace.
    address: String,
}

impl Namespace {
    pub(super) fn new(path: &str) -> Self {
        let address = if path == "/" { String::new() } else { format!("{path},") };
        Self { address }
    }

    /// How the CONNECT reply begins, behind which packets of ours may follow.
    pub(super) fn connected(&self) -> String {
        format!("40{}{{", self.address)
    }

    /// The reply to a command.
    pub(super) fn ack(&self, id: i64, body: &str) -> Bytes {
        text_frame(format!("43{}{id}[{body}]", self.address).as_bytes())
    }
}

impl Dialect for Namespace {
    fn frame(&self, envelope: &Envelope, places: &[&Place]) -> Bytes {
        let mut packet = format!("42{}[\"{}\",", self.address, envelope.kind());
        envelope.write_argument(places, &mut packet);
        packet.push(']');
        text_frame(packet.as_bytes())
    }

    fn farewell(&self) -> Bytes {
        text_frame(format!("41{}", self.address).as_bytes())
    }
}
