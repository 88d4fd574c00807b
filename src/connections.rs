//! The connections of this node: how many there may be, and those that are upgraded right now, so that a node on its way
//! out can close them.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use metrics::gauge;
use parking_lot::Mutex;
use slab::Slab;

use crate::metrics::{CONNECTIONS, CONNECTIONS_LIMIT, limit::Limit};
use crate::wire::Wire;

/// CONNECTs that one transport may try: a client needs one per namespace, and one more per token that failed.
const CONNECTS_PER_TRANSPORT: usize = 64;

/// The part of an IPv6 address that one customer has to itself and can change at will.
const HOST_BITS: u32 = 64;

/// How many connections there may be; none is no bound.
#[derive(Clone, Copy, Debug, Default)]
pub struct Caps {
    /// On this node.
    pub all: Option<u32>,
    /// From one IP address, or one /64 of IPv6.
    pub per_ip: Option<u32>,
}

/// Every open wire of the node, and the places they take.
#[derive(Clone, Debug, Default)]
pub struct Connections(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    caps: Caps,
    wires: Mutex<Slab<Wire>>,
    taken: Mutex<Taken>,
}

/// No more entries than places are taken.
#[derive(Debug, Default)]
struct Taken {
    all: u32,
    by_ip: HashMap<IpAddr, u32>,
}

/// The place of one connection, from the beginning of its handshake; given back when this is dropped.
#[derive(Debug)]
pub struct Place {
    connections: Connections,
    ip: IpAddr,
}

impl Connections {
    /// None yet, and at most so many.
    #[must_use]
    pub fn new(caps: Caps) -> Self {
        if let Some(all) = caps.all {
            gauge!(CONNECTIONS_LIMIT).set(f64::from(all));
        }
        Self(Arc::new(Shared { caps, ..Shared::default() }))
    }

    /// Takes a place for a client.
    ///
    /// # Errors
    /// The limit that leaves none.
    pub fn place(&self, client: IpAddr) -> Result<Place, Limit> {
        let ip = customer(client);
        let mut taken = self.0.taken.lock();
        let from_there = taken.by_ip.get(&ip).copied().unwrap_or_default();
        if self.0.caps.per_ip.is_some_and(|cap| from_there >= cap) {
            return Err(Limit::ConnectionsPerIp);
        }
        if self.0.caps.all.is_some_and(|cap| taken.all >= cap) {
            return Err(Limit::Connections);
        }
        taken.all += 1;
        if self.0.caps.per_ip.is_some() {
            taken.by_ip.insert(ip, from_there + 1);
        }
        drop(taken);
        gauge!(CONNECTIONS).increment(1.0);
        Ok(Place { connections: self.clone(), ip })
    }

    /// Counts a wire in until it closes, and then gives its place back.
    pub fn add(&self, wire: &Wire, place: Place) {
        let seat = self.0.wires.lock().insert(wire.clone());
        wire.on_close(move |_| {
            let gone = place.connections.0.wires.lock().try_remove(seat);
            drop((gone, place));
        });
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.wires.lock().len()
    }

    /// Closes them all, so that their clients go to another node.
    pub fn close(&self, reason: &'static str) {
        let wires: Vec<Wire> = self.0.wires.lock().iter().map(|(_, wire)| wire.clone()).collect();
        wires.iter().for_each(|wire| wire.close_after_flush(reason));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        gauge!(CONNECTIONS).decrement(1.0);
        let mut taken = self.connections.0.taken.lock();
        taken.all -= 1;
        if let Some(from_there) = taken.by_ip.get_mut(&self.ip) {
            *from_there -= 1;
            if *from_there == 0 {
                taken.by_ip.remove(&self.ip);
            }
        }
    }
}

/// The address that all connections of one customer share.
fn customer(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> HOST_BITS << HOST_BITS)),
        v4 @ IpAddr::V4(_) => v4,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn each_customer_has_places_of_its_own_and_gets_them_back() {
        let connections = Connections::new(Caps { all: Some(5), per_ip: Some(2) });
        let take = |from: &str| connections.place(ip(from));
        let first = take("10.0.0.1").expect("free");
        let _mapped = take("::ffff:10.0.0.1").expect("free");
        assert_eq!(take("10.0.0.1").expect_err("full"), Limit::ConnectionsPerIp);
        let _six = [take("2001:db8::1").expect("free"), take("2001:db8::2").expect("free")];
        assert_eq!(take("2001:db8:0:0:ffff::3").expect_err("the same /64"), Limit::ConnectionsPerIp);
        let _fifth = take("2001:db8:0:1::1").expect("another /64");
        assert_eq!(take("10.0.0.2").expect_err("full"), Limit::Connections);
        drop(first);
        assert_eq!(connections.0.taken.lock().by_ip.len(), 3);
        let _again = take("10.0.0.1").expect("given back");
        assert_eq!(take("10.0.0.1").expect_err("full"), Limit::ConnectionsPerIp);
    }

    #[test]
    fn nobody_is_remembered() {
        let connections = Connections::new(Caps { all: None, per_ip: Some(1) });
        (0..1000).for_each(|i| drop(connections.place(IpAddr::V6(Ipv6Addr::from_bits(i << HOST_BITS)))));
        assert!(connections.0.taken.lock().by_ip.is_empty());
    }
}
