//! Slots: a bounded number of connections, in all and per customer.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use metrics::Gauge;
use parking_lot::Mutex;

/// The bits of an IPv6 address that one customer has to itself and can change at will.
const HOST_BITS: u32 = 64;

/// Bounds on the number of connections; `None` is no bound.
#[derive(Clone, Copy, Debug, Default)]
pub struct SlotLimits {
    /// In all.
    pub all: Option<u32>,
    /// From one IP address, or one /64 of IPv6.
    pub per_ip: Option<u32>,
}

/// The cap that is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotsFull {
    /// The cap on all connections.
    All,
    /// The cap per address.
    Address,
}

/// The slots of a listener, or of several together. Clones share them.
#[derive(Clone, Debug)]
pub struct ConnectionSlots(Arc<SlotsShared>);

#[derive(Debug)]
struct SlotsShared {
    caps: SlotLimits,
    /// Shows the slots taken.
    gauge: Gauge,
    /// One lock for both counts: a slot is taken from both or from none.
    taken: Mutex<SlotCounts>,
}

/// The slots taken. The map has an entry per customer with a connection, so it is no larger than the caps allow.
#[derive(Debug, Default)]
struct SlotCounts {
    /// Slots taken in all.
    all: u32,
    /// Slots per customer; empty without a cap per address.
    by_ip: HashMap<IpAddr, u32>,
}

/// The slot of one connection; given back when it is dropped.
#[derive(Debug)]
pub struct ConnectionSlot {
    places: ConnectionSlots,
    /// The customer that it counts for.
    ip: IpAddr,
}

impl ConnectionSlots {
    /// Makes slots with these caps; `gauge` shows how many are taken.
    #[must_use]
    pub fn new(caps: SlotLimits, gauge: Gauge) -> Self {
        Self(Arc::new(SlotsShared { caps, gauge, taken: Mutex::default() }))
    }

    /// Takes a slot for a client.
    ///
    /// # Errors
    /// The cap that is reached.
    pub fn take_slot(&self, client: IpAddr) -> Result<ConnectionSlot, SlotsFull> {
        let (ip, caps) = (network_of(client), self.0.caps);
        let mut taken = self.0.taken.lock();
        let from_there = taken.by_ip.get(&ip).copied().unwrap_or_default();
        // Before the cap on all: a client that is over its own limit gets to know that, however full the node is.
        if caps.per_ip.is_some_and(|cap| from_there >= cap) {
            return Err(SlotsFull::Address);
        }
        if caps.all.is_some_and(|cap| taken.all >= cap) {
            return Err(SlotsFull::All);
        }
        taken.all += 1;
        // Without a cap per address the map would only cost memory.
        if caps.per_ip.is_some() {
            taken.by_ip.insert(ip, from_there + 1);
        }
        drop(taken);
        self.0.gauge.increment(1.0);
        Ok(ConnectionSlot { places: self.clone(), ip })
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.places.0.gauge.decrement(1.0);
        let mut taken = self.places.0.taken.lock();
        taken.all -= 1;
        if let Some(from_there) = taken.by_ip.get_mut(&self.ip) {
            *from_there -= 1;
            if *from_there == 0 {
                taken.by_ip.remove(&self.ip);
            }
        }
    }
}

/// Gives the address that all connections of one customer share: of IPv6 its /64.
pub(super) fn network_of(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> HOST_BITS << HOST_BITS)),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(all: Option<u32>, per_ip: Option<u32>) -> ConnectionSlots {
        ConnectionSlots::new(SlotLimits { all, per_ip }, Gauge::noop())
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn each_customer_has_places_of_its_own_and_gets_them_back() {
        let places = places(Some(5), Some(2));
        let take = |from: &str| places.take_slot(ip(from));
        let first = take("10.0.0.1").expect("free");
        let _mapped = take("::ffff:10.0.0.1").expect("free");
        assert_eq!(take("10.0.0.1").expect_err("full"), SlotsFull::Address);
        let _six = [take("2001:db8::1").expect("free"), take("2001:db8::2").expect("free")];
        assert_eq!(take("2001:db8:0:0:ffff::3").expect_err("the same /64"), SlotsFull::Address);
        let _fifth = take("2001:db8:0:1::1").expect("another /64");
        assert_eq!(take("10.0.0.2").expect_err("full"), SlotsFull::All);
        drop(first);
        assert_eq!(places.0.taken.lock().by_ip.len(), 3);
        let _again = take("10.0.0.1").expect("given back");
        assert_eq!(take("10.0.0.1").expect_err("full"), SlotsFull::Address);
    }

    #[test]
    fn nobody_is_remembered() {
        let places = places(None, Some(1));
        (0..1000).for_each(|i| drop(places.take_slot(IpAddr::V6(Ipv6Addr::from_bits(i << HOST_BITS)))));
        assert!(places.0.taken.lock().by_ip.is_empty());
    }
}
