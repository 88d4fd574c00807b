//! A CONNECT on its way to a session, with the library or without it.

use std::sync::Arc;

use super::encode::Namespace;
use super::transport::Transport;
use crate::wire::Wire;

/// A CONNECT to a namespace that is served.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) wire: Wire,
    pub(super) transport: Arc<Transport>,
    /// The payload of the packet.
    pub(super) payload: Option<String>,
    pub(super) namespace: Arc<Namespace>,
}
