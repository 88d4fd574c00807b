//! Readiness: whether a load balancer should send clients to this node.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::auth::token::{KeysHealth, Verifier};
use crate::broker::Health;
use crate::connections::Connections;
use crate::fleet::control::RevocationHealth;
use crate::ingest::{IngestHealth, IngestStatus};
use crate::service::Service;

/// The state of the node at one moment: the one answer for probes, metrics and apps.
#[derive(Clone, Debug)]
pub struct NodeStanding {
    /// Whether the broker can be used.
    pub broker: Health,
    /// Whether new connections are accepted.
    pub accepting: bool,
    /// Whether tokens can be verified.
    pub keys: KeysHealth,
    /// Whether the node has loaded the revocation list.
    pub revocations: RevocationHealth,
}

impl NodeStanding {
    /// All checks by their names in `/readyz` and metrics, that of the broker first.
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

/// The parts whose state makes the node ready.
#[derive(Clone, Debug)]
pub struct Readiness {
    /// Knows the state of the broker and of the revocation list.
    service: Service,
    /// Knows whether it has keys.
    verifier: Verifier,
    /// Reported, but no condition of readiness: another node can read the stream.
    ingest: Option<IngestStatus>,
    /// Shared by all clones; false before the listeners are bound and from the shutdown on.
    accepting: Arc<AtomicBool>,
    /// Shown by probes, for operators.
    connections: Connections,
}

impl Readiness {
    /// Makes a readiness that is false until [`mark_open`](Self::mark_open).
    #[must_use]
    pub fn new(service: Service, verifier: Verifier, ingest: Option<IngestStatus>, connections: Connections) -> Self {
        Self { service, verifier, ingest, accepting: Arc::new(AtomicBool::new(false)), connections }
    }

    /// Records that the listeners are bound.
    pub fn mark_open(&self) {
        self.accepting.store(true, Ordering::Release);
    }

    /// Records that the node is stopping.
    pub fn mark_stopping(&self) {
        self.accepting.store(false, Ordering::Release);
    }

    /// Whether new connections are welcome.
    #[must_use]
    pub fn is_accepting(&self) -> bool {
        self.accepting.load(Ordering::Acquire)
    }

    /// Gives the present state of the node.
    #[must_use]
    pub fn current_standing(&self) -> NodeStanding {
        NodeStanding {
            broker: self.service.health(),
            accepting: self.is_accepting(),
            keys: self.verifier.health(),
            revocations: self.service.revocations(),
        }
    }

    /// Gives the state of the ingest stream; none without Redis.
    #[must_use]
    pub fn ingest(&self) -> Option<IngestHealth> {
        self.ingest.as_ref().map(IngestStatus::health)
    }

    /// The number of upgraded connections.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.count()
    }
}
