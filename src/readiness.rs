//! Readiness: whether this node should be sent clients.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::auth::token::{KeysHealth, Verifier};
use crate::broker::Health;
use crate::connections::Connections;
use crate::fleet::control::RevocationHealth;
use crate::ingest::{Ingest, IngestHealth};
use crate::service::Service;

/// How the node is at one moment: the one answer for probes, metrics and apps.
#[derive(Clone, Debug)]
pub struct Standing {
    /// How the broker is.
    pub broker: Health,
    /// Whether new connections are welcome.
    pub accepting: bool,
    /// Whether tokens can be verified.
    pub keys: KeysHealth,
    /// Whether the node knows what is revoked.
    pub revocations: RevocationHealth,
}

impl Standing {
    /// Every check by the name that `/readyz` and metrics have for it, that of the broker first.
    #[must_use]
    pub fn checks(&self) -> [(&'static str, bool); 4] {
        [
            ("broker", self.broker.ready),
            ("listeners", self.accepting),
            ("keys", self.keys.ready),
            ("revocations", self.revocations.ready),
        ]
    }

    /// Whether the node should be sent clients.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.checks().iter().all(|(_, ready)| *ready)
    }
}

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

    /// How the node is now.
    #[must_use]
    pub fn standing(&self) -> Standing {
        Standing {
            broker: self.service.health(),
            accepting: self.accepting(),
            keys: self.verifier.health(),
            revocations: self.service.revocations(),
        }
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
