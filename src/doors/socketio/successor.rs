//! What reads for this door behind the hand-over: packets of Engine.IO and Socket.IO, judged as the library judges them.
//!
//! The packets themselves are parsed by the library's own parser, so that both take the same ones for valid. What
//! follows from each is written down here; the differential test (`tests/hand_over/`) compares the two.

use std::sync::Arc;

use socketioxide_core::packet::{Packet, PacketData};
use socketioxide_core::parser::{Parse, ParseConfig, ParseError};
use socketioxide_core::{Str, Value};
use socketioxide_parser_common::CommonParser;

use super::arrival::Arrival;
use super::encode::Namespace;
use super::transport::Transport;
use super::{Door, ROOT};
use crate::wire::{Heir, HeirVerdict, Wire};

/// What follows the type of an Engine.IO ping or pong that belongs to an upgrade from long polling.
const PROBE: &[u8] = b"probe";

/// The successor of the library for one transport.
#[derive(Debug)]
pub(super) struct Successor {
    pub(super) door: Arc<Door>,
    pub(super) transport: Arc<Transport>,
    pub(super) wire: Wire,
}

impl Heir for Successor {
    fn take_text(&self, text: &str) -> HeirVerdict {
        match text.as_bytes() {
            [b'4', ..] => self.take_message(&text[1..]),
            [b'2' | b'3', rest @ ..] if rest != PROBE => HeirVerdict::Beat,
            // A close packet, and what a client may not send over a `WebSocket`: no packet, an upgrade, base64.
            _ => HeirVerdict::Ends,
        }
    }

    fn take_binary(&self, bytes: &[u8]) -> HeirVerdict {
        // Without an announcement it is no attachment.
        let Some(partial) = self.transport.take_partial() else { return HeirVerdict::GivenUp };
        let decoded = CommonParser.decode_bin(&self.door.parsing, &partial, bytes.to_vec().into());
        if matches!(decoded, Err(ParseError::NeedsMoreBinaryData)) {
            self.transport.keep_partial(partial);
            return HeirVerdict::GoesOn;
        }
        self.take_decoded(decoded)
    }
}

impl Successor {
    fn take_message(&self, text: &str) -> HeirVerdict {
        // What waits for its attachments may be followed by nothing else; the parser says so.
        let state = self.transport.take_partial().unwrap_or_default();
        let decoded = CommonParser.decode_str(&self.door.parsing, &state, Str::copy_from_slice(text));
        if matches!(decoded, Err(ParseError::NeedsMoreBinaryData)) {
            self.transport.keep_partial(state);
            return HeirVerdict::GoesOn;
        }
        self.take_decoded(decoded)
    }

    fn take_decoded(&self, decoded: Result<Packet, ParseError>) -> HeirVerdict {
        let Ok(Packet { inner, ns }) = decoded else { return HeirVerdict::GivenUp };
        if let PacketData::Connect(auth) = inner {
            self.take_connect(&ns, auth);
            return HeirVerdict::GoesOn;
        }
        // A packet for a namespace that is not served is passed over, one for a namespace that was not joined is not.
        if !self.door.knows_namespace(&ns) {
            return HeirVerdict::GoesOn;
        }
        let Some(socket) = self.transport.socket_in(&ns) else { return HeirVerdict::GivenUp };
        match inner {
            PacketData::Event(data, ack) | PacketData::BinaryEvent(data, ack) => {
                if CommonParser.read_event(&data).is_err() {
                    return HeirVerdict::GivenUp;
                }
                // What is attached means nothing to a command.
                if let Value::Str(text, _) = data {
                    socket.take_command(&text, ack);
                }
            }
            PacketData::Disconnect => self.door.leave_namespace(&self.transport, &socket),
            // The gateway asks for no acks, and only a server refuses a CONNECT.
            PacketData::EventAck(..)
            | PacketData::BinaryAck(..)
            | PacketData::Connect(_)
            | PacketData::ConnectError(_) => {}
        }
        HeirVerdict::GoesOn
    }

    /// Handles a CONNECT: it is answered by a task, as the check of a token may wait for keys.
    fn take_connect(&self, path: &str, auth: Option<Value>) {
        let Some(namespace) = self.door.namespace(path) else {
            let unknown = Namespace::new(path, self.door.memory.clone());
            self.wire.add_lane("").push(unknown.connect_error("Invalid namespace"));
            return;
        };
        // As with the library, a second CONNECT is passed over.
        if !self.transport.begin_connect(path) {
            return;
        }
        let arrival = Arrival {
            wire: self.wire.clone(),
            transport: self.transport.clone(),
            payload: auth.as_ref().and_then(Value::as_str).map(|text| text.to_string()),
            namespace: namespace.clone(),
        };
        self.door.tasks.spawn(answer_connect(self.door.clone(), arrival));
    }
}

async fn answer_connect(door: Arc<Door>, arrival: Arrival) {
    let (wire, transport, namespace) = (arrival.wire.clone(), arrival.transport.clone(), arrival.namespace.clone());
    match door.admit_client(arrival).await {
        // The session's lane opens with this reply, and what it holds follows.
        Ok(_) => {
            let reply = namespace.connect_reply(&transport.id());
            wire.send_opening(namespace.packet_frame(&reply), &reply);
        }
        Err(refusal) => {
            transport.end_connect(namespace.path());
            wire.add_lane("").push(namespace.connect_error(&refusal.to_string()));
        }
    }
}

/// The bounds of the library's parser.
pub(super) fn parsing_bounds(settings: &super::SocketIoSettings) -> ParseConfig {
    ParseConfig {
        max_incoming_binaries: super::MAX_BINARIES,
        max_incoming_binary_buf_size: settings.frame_bytes,
        packet_completion_timeout: settings.ping_timeout,
    }
}

impl Door {
    /// A namespace that is served.
    fn namespace(&self, path: &str) -> Option<&Arc<Namespace>> {
        self.namespaces.iter().find(|namespace| namespace.path() == path)
    }

    /// Whether an event to a namespace is one before CONNECT, and not one to nowhere. The root always counts.
    fn knows_namespace(&self, path: &str) -> bool {
        path == ROOT || self.namespace(path).is_some()
    }
}
