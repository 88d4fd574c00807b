//! Those that are measured side by side: Hallway, Socket.IO on Node with `ws` and with uWebSockets, socketioxide alone, and the
//! bare `send`.

use std::path::Path;

use clap::ValueEnum;

use crate::Outcome;
use crate::server::{Redis, Server};

/// Where the others hear of events.
pub(crate) const CHANNEL: &str = "bench";

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Peer {
    /// The gateway.
    Hallway,
    /// Socket.IO on Node, with `ws`.
    Ws,
    /// Socket.IO on Node, with uWebSockets.
    Uws,
    /// A server on socketioxide, without tokens.
    Socketioxide,
    /// A loop that writes ready frames to sockets.
    Send,
}

impl Peer {
    /// As it stands in results.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Hallway => "hallway",
            Self::Ws => "node-ws",
            Self::Uws => "node-uws",
            Self::Socketioxide => "socketioxide",
            Self::Send => "send",
        }
    }

    /// Its server on the server's core. The settings are Hallway's.
    pub(crate) async fn start(self, binary: &Path, redis: &Redis, settings: &[(&str, String)]) -> Outcome<Server> {
        match self {
            Self::Hallway => {
                let mut all = vec![("HALLWAY_LIMITS__HANDSHAKES_PER_SECOND", "100000".to_owned())];
                all.extend_from_slice(settings);
                Server::hallway_with(binary, redis, &all).await
            }
            Self::Ws => Server::node(redis, CHANNEL, ["ws", "none"]).await,
            Self::Uws => Server::node(redis, CHANNEL, ["uws", "none"]).await,
            Self::Socketioxide => Server::own(redis, CHANNEL, "serve-socketioxide").await,
            Self::Send => Server::own(redis, CHANNEL, "serve-send").await,
        }
    }
}
