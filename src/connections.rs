//! The connections that are upgraded right now, so that a node on its way out can close them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use slab::Slab;

use crate::wire::Wire;

/// CONNECTs that one transport may try: a client needs one per namespace, and one more per token that failed.
const CONNECTS_PER_TRANSPORT: usize = 64;

/// Every open wire of the node.
#[derive(Clone, Debug, Default)]
pub struct Connections(Arc<Mutex<Slab<Wire>>>);

impl Connections {
    /// Counts a wire in until it closes.
    pub fn add(&self, wire: &Wire) {
        let seat = self.0.lock().insert(wire.clone());
        let connections = self.clone();
        wire.on_close(move |_| {
            connections.0.lock().try_remove(seat);
        });
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.lock().len()
    }

    /// Closes them all, so that their clients go to another node.
    pub fn close(&self, reason: &'static str) {
        let wires: Vec<Wire> = self.0.lock().iter().map(|(_, wire)| wire.clone()).collect();
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
