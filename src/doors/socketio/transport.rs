//! One transport as this door knows it, with and without the library: what came with its request, and its sessions.

use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use socketioxide::socket::Sid;
use socketioxide_core::parser::ParserState;

use super::inbox::SignedInSocket;
use super::rates::TransportRates;
use crate::connections::Tries;

/// Tokens in a request's head, as opposed to the CONNECT packet.
#[derive(Clone, Default)]
pub struct HeadTokens {
    /// From `?token=`.
    pub query: Option<String>,
    /// From the `Authorization` header.
    pub header: Option<String>,
}

impl std::fmt::Debug for HeadTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HeadTokens(query: {}, header: {})", self.query.is_some(), self.header.is_some())
    }
}

/// One transport; all its namespaces share it.
#[derive(Debug, Default)]
pub struct Transport {
    /// Tokens of the request.
    pub tokens: HeadTokens,
    /// Its CONNECTs.
    pub(super) tries: Tries,
    /// Its commands.
    pub(super) rates: TransportRates,
    /// The id that the library gave it, and that each reply to CONNECT repeats.
    sid: OnceLock<Sid>,
    state: Mutex<TransportState>,
}

/// What changes.
#[derive(Debug, Default)]
struct TransportState {
    /// The sessions, at most one for each namespace. A list: there are a few at most.
    sockets: Vec<Arc<SignedInSocket>>,
    /// The namespaces to which a CONNECT is under way that the library knows nothing of.
    connecting: Vec<String>,
    /// A packet whose attachments have not all come, of a transport without the library.
    partial: Option<Box<ParserState>>,
}

impl Transport {
    /// A transport whose request had these tokens.
    #[must_use]
    pub(super) fn new(tokens: HeadTokens) -> Self {
        Self { tokens, ..Self::default() }
    }

    /// Notes the id that the library gave it.
    pub(super) fn note_id(&self, sid: Sid) {
        self.sid.set(sid).ok();
    }

    /// The id that the library gave it.
    pub(super) fn id(&self) -> String {
        self.sid.get().map(ToString::to_string).unwrap_or_default()
    }

    /// Adds a session; the CONNECT to its namespace is not under way any more.
    pub(super) fn add_socket(&self, socket: Arc<SignedInSocket>) {
        let mut state = self.state.lock();
        state.connecting.retain(|path| path != socket.namespace.path());
        state.sockets.push(socket);
    }

    /// Removes a session.
    pub(super) fn remove_socket(&self, gone: &SignedInSocket) {
        let mut state = self.state.lock();
        let place = state.sockets.iter().position(|socket| std::ptr::eq(&**socket, gone));
        let removed = place.map(|place| state.sockets.swap_remove(place));
        drop(state);
        // The last reference may go here, and a lane with it, which takes the lock of the wire.
        drop(removed);
    }

    /// The session in a namespace.
    pub(super) fn socket_in(&self, path: &str) -> Option<Arc<SignedInSocket>> {
        self.state.lock().sockets.iter().find(|socket| socket.namespace.path() == path).cloned()
    }

    /// Begins a CONNECT to a namespace; false if one is under way there, or was successful.
    pub(super) fn begin_connect(&self, path: &str) -> bool {
        let mut state = self.state.lock();
        let is_known = state.sockets.iter().any(|socket| socket.namespace.path() == path)
            || state.connecting.iter().any(|connecting| connecting == path);
        if !is_known {
            state.connecting.push(path.to_owned());
        }
        !is_known
    }

    /// Ends a CONNECT that was refused.
    pub(super) fn end_connect(&self, path: &str) {
        self.state.lock().connecting.retain(|connecting| connecting != path);
    }

    /// Takes the packet whose attachments have not all come.
    pub(super) fn take_partial(&self) -> Option<Box<ParserState>> {
        self.state.lock().partial.take()
    }

    /// Keeps a packet whose attachments have not all come.
    pub(super) fn keep_partial(&self, partial: Box<ParserState>) {
        self.state.lock().partial = Some(partial);
    }
}
