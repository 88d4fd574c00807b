//! The hubs of a node, one per event loop, and what they share: how many members each room has in all of them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hallway_rooms::key::Room;
use tokio_util::sync::CancellationToken;

use super::Hub;
use super::member_counts::MemberCounts;
use super::totals::{NodeRooms, RoomTotals};
use crate::broker::{Broker, Unavailable};
use crate::fleet::Fleet;
use crate::session::Session;

/// The hubs of a node. Clones share them.
#[derive(Clone)]
pub struct Hubs(Arc<HubsShared>);

struct HubsShared {
    /// By the index of their loop; at least one.
    hubs: Vec<Hub>,
    node: NodeRooms,
    /// Announces the sizes of rooms.
    counts: MemberCounts,
}

impl fmt::Debug for Hubs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Hubs").field(&self.0.hubs).finish()
    }
}

impl Hubs {
    /// Makes empty hubs, one for each of `brokers`, which are the loops' views of the node's broker. `linger` is how long a
    /// room stays subscribed after its last member of a loop left. `audit` is how often all rooms are compared with the
    /// broker; it must be well below the time for which the broker remembers a room's last offset.
    ///
    /// # Panics
    /// Without a broker.
    #[must_use]
    pub fn new(brokers: Vec<Arc<dyn Broker>>, fleet: Arc<dyn Fleet>, linger: Duration, audit: Duration) -> Self {
        assert!(!brokers.is_empty(), "a node has at least one event loop");
        let node = NodeRooms::default();
        let hub = |broker| Hub::new(broker, fleet.clone(), node.clone(), linger, audit);
        let hubs = brokers.into_iter().map(hub).collect();
        let counts = MemberCounts::new(node.clone(), fleet);
        Self(Arc::new(HubsShared { hubs, node, counts }))
    }

    /// All hubs, by the index of their loop.
    #[must_use]
    pub fn all(&self) -> &[Hub] {
        &self.0.hubs
    }

    /// The hub of the loop that a session lives in.
    #[must_use]
    pub fn of_session(&self, session: &Session) -> &Hub {
        &self.0.hubs[session.event_loop()]
    }

    /// How many sessions are in a room that is open on this node: here, and elsewhere.
    #[must_use]
    pub fn find_totals(&self, room: &Room) -> Option<Arc<RoomTotals>> {
        self.0.node.totals.find(room)
    }

    /// How many sessions of this node are in a room.
    #[must_use]
    pub fn size(&self, room: &Room) -> usize {
        self.0.node.totals.size(room)
    }

    /// How many rooms are open on this node.
    #[must_use]
    pub fn count_rooms(&self) -> usize {
        self.0.node.totals.count()
    }

    /// The number of breaks of the event channel so far, which all loops learn of.
    #[must_use]
    pub fn breaks(&self) -> u64 {
        self.0.hubs[0].breaks()
    }

    /// Announces to the other nodes how many members each room has here, until `stop`.
    pub async fn run_member_counts(&self, stop: CancellationToken) {
        self.0.counts.announce_until(|| self.breaks(), stop).await;
    }

    /// Removes this node's members from every count, for good.
    ///
    /// # Errors
    /// When the other nodes are out of reach; they then notice by the missing heartbeats.
    pub async fn withdraw_counts(&self) -> Result<(), Unavailable> {
        self.0.counts.withdraw_counts().await
    }
}
