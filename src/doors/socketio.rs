//! The Socket.IO door (nomor). socketioxide does the handshake, CONNECT and heartbeats; what a client commands is
//! read here, in order, and everything it is sent afterwards leaves by the wire.

use std::sync::Arc;
use std::time::Duration;

use socketioxide::layer::SocketIoLayer;
use socketioxide::{ParserConfig, SocketIo, TransportType};
use tokio_util::task::TaskTracker;

use crate::auth::token::Verifier;
use crate::logs::{self, Hints};
use crate::memory::Memory;
use crate::rate::Rate;
use crate::service::Service;

mod command;
mod connect;
mod encode;
mod expiry;
#[cfg(fuzzing)]
pub mod fuzzing;
pub mod head;
mod inbox;
mod pace;
mod perform;
mod refresh;

pub use expiry::Expiry;

use pace::Allowed;

/// Attachments a binary packet may announce: no command has any use for one.
const MAX_BINARIES: usize = 4;
/// Packets of socketioxide that may wait for one peer: pings and replies to CONNECT. Such a reply repeats the name of an
/// unknown namespace, which may be as long as a frame, to a client that has shown no token and need not read.
const WAITING_PACKETS: usize = 16;

/// Where packets go that name no namespace.
const ROOT: &str = "/";

/// What the door needs to know.
#[derive(Clone, Debug)]
pub struct SocketIoSettings {
    /// The namespaces that are served, the main one first.
    pub namespaces: Vec<String>,
    /// Between two pings.
    pub ping_interval: Duration,
    /// How long a pong may take.
    pub ping_timeout: Duration,
    /// A transport on which no namespace was joined by then is closed.
    pub connect_timeout: Duration,
    /// Bytes of a frame from a client.
    pub frame_bytes: usize,
    /// Commands of one socket that may wait before it is no longer read from.
    pub pending_commands: usize,
    /// Commands of one transport that are carried out.
    pub commands: Rate,
    /// Commands of one transport in a minute that close it.
    pub most_commands: u32,
    /// Where frames count.
    pub memory: Memory,
    /// What a developer is told.
    pub hints: Hints,
}

/// What connections share.
#[derive(Debug)]
pub struct Door {
    service: Service,
    verifier: Verifier,
    expiry: Expiry,
    tasks: TaskTracker,
    pending_commands: usize,
    connect_timeout: Duration,
    pace: Allowed,
    memory: Memory,
    hints: Hints,
}

impl Door {
    /// A door to `service`.
    #[must_use]
    pub fn new(
        service: Service,
        verifier: Verifier,
        expiry: Expiry,
        tasks: TaskTracker,
        settings: &SocketIoSettings,
    ) -> Arc<Self> {
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
            hints: settings.hints.clone(),
        })
    }

    /// Tells a developer why a token was refused.
    fn hint(&self, reason: &'static str, what: &str) {
        if self.hints.is_due(reason) {
            tracing::info!(event = logs::DEV_TOKEN_REFUSED, reason, "a token was refused: {what}");
        }
    }

    /// The layer that serves `/socket.io/`.
    #[must_use]
    pub fn layer(self: &Arc<Self>, settings: &SocketIoSettings) -> SocketIoLayer {
        let binaries = ParserConfig::common()
            .max_incoming_binaries(MAX_BINARIES)
            .max_incoming_binary_buf_size(settings.frame_bytes)
            .packet_completion_timeout(settings.ping_timeout);
        let (layer, io) = SocketIo::builder()
            .transports([TransportType::Websocket])
            .ping_interval(settings.ping_interval)
            .ping_timeout(settings.ping_timeout)
            .connect_timeout(settings.connect_timeout)
            .max_buffer_size(WAITING_PACKETS)
            .max_payload(settings.frame_bytes as u64)
            .ws_max_message_size(settings.frame_bytes)
            .ws_max_frame_size(settings.frame_bytes)
            .ws_read_buffer_size(1024)
            .with_parser(binaries)
            .build_layer();
        for namespace in &settings.namespaces {
            self.clone().serve(&io, namespace);
        }
        if !settings.namespaces.iter().any(|namespace| namespace == ROOT) {
            self.clone().turn_away(&io, ROOT);
        }
        layer
    }
}
