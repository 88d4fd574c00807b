//! The connections of this node: how many there may be, and those that are upgraded right now, so that a node on its way
//! out can close them.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use metrics::gauge;
use parking_lot::Mutex;
use slab::Slab;

use crate::metrics::{CONNECTIONS, CONNECTIONS_LIMIT, limit::Limit};
use crate::wire::Wire;

mod places;
mod shares;

pub use places::{Caps, Full, Place, Places};
pub use shares::{Scarce, Shares};

/// CONNECTs that one transport may try: a client needs one per namespace, and one more per token that failed.
const CONNECTS_PER_TRANSPORT: usize = 64;

/// Every open wire of the node, and the places they take.
#[derive(Clone, Debug)]
pub struct Connections {
    places: Places,
    wires: Arc<Mutex<Slab<Wire>>>,
}

impl Connections {
    /// None yet, and at most so many.
    #[must_use]
    pub fn new(caps: Caps) -> Self {
        if let Some(all) = caps.all {
            gauge!(CONNECTIONS_LIMIT).set(f64::from(all));
        }
        Self { places: Places::new(caps, gauge!(CONNECTIONS)), wires: Arc::default() }
    }

    /// Takes a place for a client, from the beginning of its handshake.
    ///
    /// # Errors
    /// The limit that leaves none.
    pub fn place(&self, client: IpAddr) -> Result<Place, Limit> {
        self.places.take(client).map_err(|full| match full {
            Full::All => Limit::Connections,
            Full::Address => Limit::ConnectionsPerIp,
        })
    }

    /// Counts a wire in until it closes, and then gives its place back.
    pub fn add(&self, wire: &Wire, place: Place) {
        let (wires, seat) = (self.wires.clone(), self.wires.lock().insert(wire.clone()));
        wire.on_close(move |_| {
            let gone = wires.lock().try_remove(seat);
            drop((gone, place));
        });
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.wires.lock().len()
    }

    /// Closes them all, so that their clients go to another node.
    pub fn close(&self, reason: &'static str) {
        let wires: Vec<Wire> = self.wires.lock().iter().map(|(_, wire)| wire.clone()).collect();
        wires.iter().for_each(|wire| wire.close_after_flush(reason));
    }
}

/// How often one transport has tried to CONNECT: what every try leaves behind must not add up.
#[derive(Clone, Debug, Default)]
pub struct Tries(Arc<AtomicUsize>);

impl Tries {
    /// Notes one; false when there were too many.
    #[must_use]
    pub fn another(&self) -> bool {
        self.0.fetch_add(1, Ordering::Relaxed) < CONNECTS_PER_TRANSPORT
    }
}
