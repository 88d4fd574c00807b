//! The hub: which local sessions are in which room, and how far each room has been delivered.
//!
//! One task, the feed, takes what the broker sends and delivers it; it alone moves a room's position. Joins and
//! leaves touch a room's members under the room's own lock, which is never held across an `.await`.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hallway_rooms::key::Room;
use parking_lot::RwLock;

use crate::broker::Broker;
use crate::broker::Unavailable;
use crate::fleet::Fleet;

mod assure;
mod backlog;
mod cast;
mod census;
mod deliver;
mod feed;
mod heal;
mod linger;
mod newest;
mod renew;
mod room;

pub use newest::Watch;
pub use room::{LocalRoom, Seated};

/// The shortest time between two comparisons of all rooms with the broker.
const SHORTEST: Duration = Duration::from_millis(100);

/// See the module.
#[derive(Clone)]
pub struct Hub(Arc<Shared>);

struct Shared {
    broker: Arc<dyn Broker>,
    fleet: Arc<dyn Fleet>,
    rooms: RwLock<HashMap<Room, Arc<LocalRoom>>>,
    linger: Duration,
    audit: Duration,
    counts: cast::Counts,
    behind: feed::Behind,
    census: census::Census,
    /// Breaks of the feed so far: a room that was opened across one may have missed something.
    breaks: AtomicU64,
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hub({} rooms)", self.0.rooms.read().len())
    }
}

impl Hub {
    /// An empty hub. `linger`: how long a room is kept after its last local member left; `audit`: how often all rooms are
    /// compared with the broker, well within the time for which that remembers a room's last offset.
    #[must_use]
    pub fn new(broker: Arc<dyn Broker>, fleet: Arc<dyn Fleet>, linger: Duration, audit: Duration) -> Self {
        let counts = cast::Counts::new();
        let behind = feed::Behind::default();
        Self(Arc::new(Shared {
            broker,
            fleet,
            rooms: RwLock::default(),
            linger,
            audit: audit.max(SHORTEST),
            counts,
            behind,
            census: census::Census::default(),
            breaks: AtomicU64::new(0),
        }))
    }

    /// The room if somebody here is in it, or was a moment ago.
    #[must_use]
    pub fn find(&self, room: &Room) -> Option<Arc<LocalRoom>> {
        self.0.rooms.read().get(room).cloned()
    }

    /// The room, live: subscribed, and its position known.
    ///
    /// # Errors
    /// When the broker is out of reach.
    pub async fn open(&self, room: &Room) -> Result<Arc<LocalRoom>, Unavailable> {
        loop {
            let local = self.local(room);
            if local.is_open() {
                return Ok(local);
            }
            if local.is_resting() {
                return Err(Unavailable("the room could not be read a moment ago".to_owned()));
            }
            let mut turn = local.opening().await;
            if *turn == room::Turn::Gone {
                continue;
            }
            if !local.is_open() {
                let breaks = self.breaks();
                self.0.broker.subscribe(room).await?;
                let facts = self.0.broker.facts_of(room).await?;
                *turn = room::Turn::Open;
                if local.start(&facts) || self.breaks() != breaks {
                    self.0.behind.push(local.clone());
                }
            }
            return Ok(local.clone());
        }
    }

    /// How many local sessions are in a room.
    #[must_use]
    pub fn size(&self, room: &Room) -> usize {
        self.find(room).map_or(0, |local| local.size())
    }

    /// How many rooms are open here.
    #[must_use]
    pub fn rooms(&self) -> usize {
        self.0.rooms.read().len()
    }

    /// How often the feed had a break so far.
    #[must_use]
    pub fn breaks(&self) -> u64 {
        self.0.breaks.load(Ordering::SeqCst)
    }

    fn local(&self, room: &Room) -> Arc<LocalRoom> {
        if let Some(local) = self.find(room) {
            return local;
        }
        let mut rooms = self.0.rooms.write();
        rooms.entry(room.clone()).or_insert_with(|| Arc::new(LocalRoom::new(room.clone()))).clone()
    }

    fn all(&self) -> Vec<Arc<LocalRoom>> {
        self.0.rooms.read().values().cloned().collect()
    }
}
