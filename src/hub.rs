//! The hub of an event loop: which of its sessions are in which room, and how far each room has been delivered. A node has
//! one per loop ([`Hubs`]); they share nothing on the way of an event.
//!
//! One task, the dispatch in `dispatch.rs`, takes the broker's messages and delivers them; it alone moves a room's
//! position. Joins and leaves change a room's members under the room's own lock, which is never held across an
//! `.await`.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hallway_rooms::key::Room;
use parking_lot::RwLock;

use crate::broker::{Broker, Unavailable};
use crate::fleet::Fleet;

mod backlog;
mod batch;
mod deliver;
mod dispatch;
mod fan_out;
mod hubs;
mod latest;
mod member_counts;
mod outgoing;
mod room;
mod rounds;
mod totals;
mod unsubscribe;
mod watch;

use totals::NodeRooms;

pub use hubs::Hubs;
pub use room::{LocalRoom, LockedRoom};
pub use totals::RoomTotals;
pub use watch::LatestWatch;

/// The shortest interval of the audit.
const SHORTEST: Duration = Duration::from_millis(100);

/// The rooms of an event loop; see the module. Clones share them.
#[derive(Clone)]
pub struct Hub(Arc<HubShared>);

struct HubShared {
    /// Subscriptions and histories.
    broker: Arc<dyn Broker>,
    /// Knows the broker's clock.
    fleet: Arc<dyn Fleet>,
    /// What the loops of the node share of their rooms.
    node: NodeRooms,
    /// The rooms that are open here, or being opened.
    rooms: RwLock<HashMap<Room, Arc<LocalRoom>>>,
    /// How long a room stays subscribed after its last local member left.
    linger: Duration,
    /// How often all rooms are compared with the broker.
    audit: Duration,
    /// Metrics, looked up once.
    counts: outgoing::DeliveryCounters,
    /// Rooms that `open` hands to the dispatch for a read.
    behind: dispatch::OpenedBehind,
    /// Breaks of the event channel so far: a room that was opened across one may have missed an event.
    breaks: AtomicU64,
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hub({} rooms)", self.0.rooms.read().len())
    }
}

impl Hub {
    fn new(broker: Arc<dyn Broker>, fleet: Arc<dyn Fleet>, node: NodeRooms, linger: Duration, audit: Duration) -> Self {
        let counts = outgoing::DeliveryCounters::new();
        let behind = dispatch::OpenedBehind::default();
        Self(Arc::new(HubShared {
            broker,
            fleet,
            node,
            rooms: RwLock::default(),
            linger,
            audit: audit.max(SHORTEST),
            counts,
            behind,
            breaks: AtomicU64::new(0),
        }))
    }

    /// Gives a room that has members in this loop, or had some a moment ago.
    #[must_use]
    pub fn find(&self, room: &Room) -> Option<Arc<LocalRoom>> {
        self.0.rooms.read().get(room).cloned()
    }

    /// Gives a room that is live: subscribed, and with a known position. It opens the room if necessary.
    ///
    /// # Errors
    /// When the broker cannot be reached, or the room could not be read a moment ago.
    pub async fn open_room(&self, room: &Room) -> Result<Arc<LocalRoom>, Unavailable> {
        loop {
            let local = self.get_or_add_room(room);
            if local.is_open() {
                return Ok(local);
            }
            // The last attempt failed by the room's own fault; another one so soon would hold up the others.
            if local.is_resting() {
                return Err(Unavailable("the room could not be read a moment ago".to_owned()));
            }
            // One caller opens the room; the others wait here and find it open.
            let mut turn = local.lock_opening().await;
            // The room was unsubscribed and removed while this call waited: only a fresh entry can be opened.
            if *turn == room::RoomAccess::Gone {
                continue;
            }
            if !local.is_open() {
                // Taken before the subscription: a break from here on may have swallowed a message of this room.
                let breaks = self.breaks();
                self.0.broker.subscribe(room).await?;
                // Only behind the confirmed subscription: an event between a read and a later subscription would reach
                // neither.
                let facts = self.0.broker.facts_of(room).await?;
                // Not set if one of the two failed: the next caller then tries again, and subscribing twice does no
                // harm.
                *turn = room::RoomAccess::Open;
                // A message came between subscription and facts, or may have been lost in a break: the dispatch reads
                // the history.
                if local.start_at_head(&facts) || self.breaks() != breaks {
                    self.0.behind.push(local.clone());
                }
            }
            return Ok(local.clone());
        }
    }

    /// Notes that the number of a room's members has changed.
    pub fn mark_size_changed(&self, room: &Room) {
        self.0.node.mark_size_changed(room);
    }

    /// The number of breaks of the event channel so far.
    #[must_use]
    pub fn breaks(&self) -> u64 {
        self.0.breaks.load(Ordering::SeqCst)
    }

    fn get_or_add_room(&self, room: &Room) -> Arc<LocalRoom> {
        if let Some(local) = self.find(room) {
            return local;
        }
        // `entry`, because another caller may have inserted the room since the read lock was released.
        let mut rooms = self.0.rooms.write();
        let open = || Arc::new(LocalRoom::new(room.clone(), self.0.node.totals.open_room(room)));
        rooms.entry(room.clone()).or_insert_with(open).clone()
    }

    fn all_rooms(&self) -> Vec<Arc<LocalRoom>> {
        self.0.rooms.read().values().cloned().collect()
    }
}
