//! The Socket.IO door. The library, socketioxide, does the handshake, CONNECT and heartbeats; a client's commands are
//! read here, in order, and every reply and event leaves by the wire.

use std::sync::Arc;
use std::time::Duration;

use socketioxide::layer::SocketIoLayer;
use socketioxide::{ParserConfig, SocketIo, TransportType};
use socketioxide_core::parser::ParseConfig;
use tokio_util::task::TaskTracker;

use crate::auth::token::Verifier;
use crate::logs::{self, Hints};
use crate::memory::NodeMemory;
use crate::rate::Rate;
use crate::service::Service;

mod arrival;
mod attachments;
mod command;
mod connect;
mod encode;
mod expiry;
#[cfg(fuzzing)]
pub mod fuzzing;
pub mod head;
mod inbox;
mod packets;
mod perform;
mod rates;
mod refresh;
mod successor;
mod transport;

pub use attachments::announced_attachments;
pub use expiry::Expiry;
pub use packets::hand_over;
pub use transport::Transport;

use encode::Namespace;
use rates::Allowed;
use successor::parsing_bounds;

/// Most attachments that a binary packet may announce; no command takes one.
const MAX_BINARIES: usize = 4;
/// Packets of socketioxide that may wait for one peer: pings and replies to CONNECT. A small bound, because such a
/// reply repeats the name of an unknown namespace, which may be as long as a frame, to a client without a token that
/// need not read.
const WAITING_PACKETS: usize = 16;

/// The namespace of packets that name none.
const ROOT: &str = "/";

/// Settings of the door.
#[derive(Clone, Debug)]
pub struct SocketIoSettings {
    /// The namespaces that are served, the main one first.
    pub namespaces: Vec<String>,
    /// Time between two pings to a client.
    pub ping_interval: Duration,
    /// How long a pong, or the attachments of a packet, may take before the transport is closed.
    pub ping_timeout: Duration,
    /// A transport on which no namespace was joined within this time is closed; so is a CONNECT that waits that long
    /// for the revocation list.
    pub connect_timeout: Duration,
    /// Most bytes of a frame from a client.
    pub frame_bytes: usize,
    /// Commands of one socket that may wait before reading from it is paused.
    pub pending_commands: usize,
    /// Rate of commands of one transport that are performed; commands above it are refused.
    pub commands: Rate,
    /// Commands of one transport in a minute above which the transport is closed.
    pub most_commands: u32,
    /// The memory that outgoing frames and waiting commands count against.
    pub memory: NodeMemory,
    /// Log lines for developers in dev mode; silent in production.
    pub hints: Hints,
}

/// The Socket.IO door: what its connections share.
#[derive(Debug)]
pub struct Door {
    service: Service,
    verifier: Verifier,
    expiry: Expiry,
    /// Where each socket's worker runs, so that a shutdown can wait for it.
    tasks: TaskTracker,
    /// See [`SocketIoSettings::pending_commands`].
    pending_commands: usize,
    /// How long a CONNECT may wait for the revocation list.
    connect_timeout: Duration,
    /// Bounds on the rate of commands.
    pace: Allowed,
    /// See [`SocketIoSettings::memory`].
    memory: NodeMemory,
    /// The namespaces that are served.
    namespaces: Vec<Arc<Namespace>>,
    /// Bounds of packets that the door parses itself.
    parsing: ParseConfig,
    hints: Hints,
}

impl Door {
    /// Makes a door to `service`.
    #[must_use]
    pub fn new(
        service: Service,
        verifier: Verifier,
        expiry: Expiry,
        tasks: TaskTracker,
        settings: &SocketIoSettings,
    ) -> Arc<Self> {
        // The settings themselves are not kept: they hold lists that only building the layer needs.
        let namespaces = settings.namespaces.iter().map(|path| Arc::new(Namespace::new(path, settings.memory.clone())));
        let pace = Allowed { rate: settings.commands, most: settings.most_commands };
        Arc::new(Self {
            service,
            verifier,
            expiry,
            tasks,
            pending_commands: settings.pending_commands,
            connect_timeout: settings.connect_timeout,
            pace,
            memory: settings.memory.clone(),
            namespaces: namespaces.collect(),
            parsing: parsing_bounds(settings),
            hints: settings.hints.clone(),
        })
    }

    /// Logs for a developer why a token was refused.
    fn hint_developer(&self, reason: &'static str, what: &str) {
        if self.hints.is_due(reason) {
            tracing::info!(event = logs::DEV_TOKEN_REFUSED, reason, "a token was refused: {what}");
        }
    }

    /// Builds the layer that serves `/socket.io/`.
    #[must_use]
    pub fn socketio_layer(self: &Arc<Self>, settings: &SocketIoSettings) -> SocketIoLayer {
        // No command takes an attachment, but the library buffers them before a handler could refuse the packet. So
        // they are bounded in number, size and time.
        let binaries = ParserConfig::common()
            .max_incoming_binaries(MAX_BINARIES)
            .max_incoming_binary_buf_size(settings.frame_bytes)
            .packet_completion_timeout(settings.ping_timeout);
        let (layer, io) = SocketIo::builder()
            // Long polling is not served: it would need sticky sessions, and the wire's frames need a `WebSocket`
            // stream.
            .transports([TransportType::Websocket])
            .ping_interval(settings.ping_interval)
            .ping_timeout(settings.ping_timeout)
            .connect_timeout(settings.connect_timeout)
            .max_buffer_size(WAITING_PACKETS)
            .max_payload(settings.frame_bytes as u64)
            .ws_max_message_size(settings.frame_bytes)
            .ws_max_frame_size(settings.frame_bytes)
            // Each idle connection keeps this buffer, and commands are short: the library's default is four times as
            // large.
            .ws_read_buffer_size(1024)
            .with_parser(binaries)
            .build_layer();
        for namespace in &self.namespaces {
            self.clone().serve_namespace(&io, namespace.clone());
        }
        // An event before any CONNECT closes the transport. The library applies that to the root namespace only if it
        // is registered, so it is registered here, to refuse every CONNECT.
        if !settings.namespaces.iter().any(|namespace| namespace == ROOT) {
            self.clone().turn_away(&io, ROOT);
        }
        layer
    }
}
