//! The connections of this node: the limit on them, and a list of the upgraded ones, so that a node that stops can
//! close them.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use metrics::gauge;
use parking_lot::Mutex;
use slab::Slab;

use crate::metrics::{CONNECTIONS, CONNECTIONS_LIMIT, limit::Limit};
use crate::wire::Wire;

mod shares;
mod slots;

pub use shares::{AddressShares, ShareRefused};
pub use slots::{ConnectionSlot, ConnectionSlots, SlotLimits, SlotsFull};

/// Most CONNECTs of one transport: a client needs one per namespace, and one more per token that failed.
const CONNECTS_PER_TRANSPORT: usize = 64;

/// All open wires of the node, and their slots.
#[derive(Clone, Debug)]
pub struct Connections {
    places: ConnectionSlots,
    /// The upgraded connections.
    wires: Arc<Mutex<Slab<Wire>>>,
}

impl Connections {
    /// Makes an empty list with these caps.
    #[must_use]
    pub fn new(caps: SlotLimits) -> Self {
        if let Some(all) = caps.all {
            gauge!(CONNECTIONS_LIMIT).set(f64::from(all));
        }
        Self { places: ConnectionSlots::new(caps, gauge!(CONNECTIONS)), wires: Arc::default() }
    }

    /// Takes a slot for a client, at the beginning of its handshake.
    ///
    /// # Errors
    /// The limit that is reached.
    pub fn take_slot(&self, client: IpAddr) -> Result<ConnectionSlot, Limit> {
        self.places.take_slot(client).map_err(|full| match full {
            SlotsFull::All => Limit::Connections,
            SlotsFull::Address => Limit::ConnectionsPerIp,
        })
    }

    /// Lists a wire until it closes, and then gives its slot back.
    pub fn add(&self, wire: &Wire, place: ConnectionSlot) {
        let (wires, seat) = (self.wires.clone(), self.wires.lock().insert(wire.clone()));
        wire.on_close(move |_| {
            let gone = wires.lock().try_remove(seat);
            // Both are dropped behind the statement that holds the lock: the wire may be the last handle.
            drop((gone, place));
        });
    }

    /// The number of upgraded connections.
    #[must_use]
    pub fn count(&self) -> usize {
        self.wires.lock().len()
    }

    /// Closes all connections behind their last bytes, so that their clients go to another node.
    pub fn close_all(&self, reason: &'static str) {
        // Copied out first: no wire is touched under the lock that a closing wire takes to remove itself.
        let wires: Vec<Wire> = self.wires.lock().iter().map(|(_, wire)| wire.clone()).collect();
        wires.iter().for_each(|wire| wire.close_after_flush(reason));
    }
}

/// The CONNECTs of one transport: each leaves something behind in the library, which must not add up.
#[derive(Clone, Debug, Default)]
pub struct Tries(Arc<AtomicUsize>);

impl Tries {
    /// Counts one more; false when there were too many.
    #[must_use]
    pub fn count_attempt(&self) -> bool {
        self.0.fetch_add(1, Ordering::Relaxed) < CONNECTS_PER_TRANSPORT
    }
}
