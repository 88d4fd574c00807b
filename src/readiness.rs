//! Readiness: whether this node should be sent clients.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::auth::token::{KeysHealth, Verifier};
use crate::broker::Health;
use crate::broker::control::RevocationHealth;
use crate::connections::Connections;
use crate::ingest::{Ingest, IngestHealth};
use crate::service::Service;

/// What readiness is made of.
#[derive(Clone, Debug)]
pub struct Readiness {
    service: Service,
    verifier: Verifier,
    ingest: Option<Ingest>,
    accepting: Arc<AtomicBool>,
    connections: Connections,
}

impl Readiness {
    /// Not ready until [`open`](Self::open).
    #[must_use]
    pub fn new(service: Service, verifier: Verifier, ingest: Option<Ingest>, connections: Connections) -> Self {
        Self { service, verifier, ingest, accepting: Arc::new(AtomicBool::new(false)), connections }
    }

    /// The listeners are bound.
    pub fn open(&self) {
        self.accepting.store(true, Ordering::Release);
    }

    /// The node is on its way out.
    pub fn shut(&self) {
        self.accepting.store(false, Ordering::Release);
    }

    /// Whether new connections are welcome.
    #[must_use]
    pub fn accepting(&self) -> bool {
        self.accepting.load(Ordering::Acquire)
    }

    /// How the broker is.
    #[must_use]
    pub fn broker(&self) -> Health {
        self.service.health()
    }

    /// Whether the node knows what is revoked.
    #[must_use]
    pub fn revocations(&self) -> RevocationHealth {
        self.service.revocations()
    }

    /// Whether tokens can be verified.
    #[must_use]
    pub fn keys(&self) -> KeysHealth {
        self.verifier.health()
    }

    /// How the ingest stream is, where there is one.
    #[must_use]
    pub fn ingest(&self) -> Option<IngestHealth> {
        self.ingest.as_ref().map(Ingest::health)
    }

    /// Open connections.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.count()
    }
}
