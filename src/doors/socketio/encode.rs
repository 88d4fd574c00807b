//! Encodes Socket.IO packets as complete `WebSocket` text frames, once for all receivers.

use bytes::Bytes;
use hallway_rooms::entry::RoomPlace;
use hallway_rooms::envelope::Envelope;
use serde_json::json;

use crate::memory::NodeMemory;
use crate::session::Dialect;
use crate::wire::text_frame;

/// The packet encoder of one namespace; also the dialect of its sessions.
#[derive(Clone, Debug)]
pub(super) struct Namespace {
    /// Its name, such as `/realtime`.
    path: String,
    /// Prefix that addresses the namespace, such as `/realtime,`; empty for the root.
    address: String,
    /// The memory that encoded frames count against until the last socket has sent them.
    memory: NodeMemory,
}

impl Namespace {
    /// Makes the encoder of the namespace `path`, whose frames count against `memory`.
    pub(super) fn new(path: &str, memory: NodeMemory) -> Self {
        let address = if path == "/" { String::new() } else { format!("{path},") };
        Self { path: path.to_owned(), address, memory }
    }

    /// Its name.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// The start of the CONNECT reply; frames of Hallway may follow only behind that reply.
    pub(super) fn connect_reply_start(&self) -> String {
        format!("40{}{{", self.address)
    }

    /// The packet that replies to a CONNECT which is admitted.
    pub(super) fn connect_reply(&self, sid: &str) -> String {
        format!("{}\"sid\":\"{sid}\"}}", self.connect_reply_start())
    }

    /// Encodes the reply to a CONNECT which is refused.
    pub(super) fn connect_error(&self, message: &str) -> Bytes {
        self.packet_frame(&format!("44{}{}", self.address, json!({ "message": message })))
    }

    /// Encodes the reply to a command.
    pub(super) fn ack(&self, id: i64, body: &str) -> Bytes {
        self.packet_frame(&format!("43{}{id}[{body}]", self.address))
    }

    /// Encodes a packet.
    pub(super) fn packet_frame(&self, packet: &str) -> Bytes {
        self.memory.counted_frame(text_frame(packet.as_bytes()))
    }
}

impl Dialect for Namespace {
    fn event_frame(&self, envelope: &Envelope, places: &[&RoomPlace]) -> Bytes {
        let mut packet = format!("42{}[\"{}\",", self.address, envelope.event_type());
        // The payload goes in byte for byte as it was published: encoding it again could change numbers or the order of
        // keys.
        envelope.write_argument(places, &mut packet);
        packet.push(']');
        self.packet_frame(&packet)
    }

    fn kick_frame(&self) -> Bytes {
        self.packet_frame(&format!("41{}", self.address))
    }
}
