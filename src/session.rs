//! A session: one signed-in client of one door, its outgoing lane, and its standing in each of its rooms.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use hallway_rooms::close::Close;
use hallway_rooms::entry::{Entry, Keep, Place, Stamp};
use hallway_rooms::envelope::Envelope;
use hallway_rooms::event::EventId;
use hallway_rooms::key::Room;
use hallway_rooms::offset::Offset;
use parking_lot::{Mutex, RwLock};

use crate::auth::claims::Claims;
use crate::clock::now_ms;
use crate::rate::{Bucket, Rate};
use crate::wire::{Lane, Push};

/// Ids of events in several rooms that a session which caught up remembers, to get each once.
const REMEMBERED_IDS: usize = 256;

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// How a door writes an event on its wire. Sessions that share one share its frames.
pub trait Dialect: Send + Sync + fmt::Debug {
    /// The complete frame of an event for a receiver that is in `places`' rooms; a notice is of none.
    fn frame(&self, envelope: &Envelope, places: &[&Place]) -> Bytes;
}

/// One signed-in client.
pub struct Session {
    id: u64,
    claims: RwLock<Arc<Claims>>,
    lane: Lane,
    dialect: Arc<dyn Dialect>,
    rooms: Mutex<HashMap<Room, Joined>>,
    closed: AtomicBool,
    locations: Mutex<Bucket>,
    /// Made when a room first had to be caught up.
    once: Mutex<Option<VecDeque<u64>>>,
    remembers: AtomicBool,
    /// Held by the one room that is being read to it.
    reading: tokio::sync::Mutex<()>,
}

/// A session's place among a room's members.
#[derive(Clone, Debug)]
pub struct Joined {
    /// Its standing.
    pub membership: Arc<Membership>,
    /// Where the hub keeps it.
    pub seat: usize,
}

/// What a member gets of a room's live events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is being read to from the history, up to here so far: nothing live.
    CatchingUp(Offset),
    /// It has had everything up to here, and gets what is newer.
    Live(Offset),
    /// Nothing any more.
    Left,
}

/// A session's standing in one room.
#[derive(Debug)]
pub struct Membership {
    since: Offset,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    standing: Standing,
    /// By key, `latest` events that it was told before they came by the feed; made on first use.
    #[expect(clippy::box_collection, reason = "a node has many memberships, and few of them have any")]
    ahead: Option<Box<HashMap<u64, Offset>>>,
}

impl Membership {
    fn begin(since: Offset, standing: Standing) -> Arc<Self> {
        Arc::new(Self { since, state: Mutex::new(State { standing, ahead: None }) })
    }

    /// Begins at the offset that the client is told.
    #[must_use]
    pub fn catching_up(since: Offset) -> Arc<Self> {
        Self::begin(since, Standing::CatchingUp(since))
    }

    /// Begins at the offset that the client is told, with nothing missing.
    #[must_use]
    pub fn live(since: Offset) -> Arc<Self> {
        Self::begin(since, Standing::Live(since))
    }

    /// Its standing right now.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.state.lock().standing
    }

    /// Changes the standing, unless the room was left: that is for good.
    pub fn set(&self, to: Standing) {
        let mut state = self.state.lock();
        if state.standing != Standing::Left {
            state.standing = to;
        }
    }

    /// Notes `latest` events that it has been told and the feed has yet to bring, older ones of their keys included.
    pub fn set_ahead(&self, stamps: impl Iterator<Item = Stamp>) {
        let ahead: HashMap<u64, Offset> = stamps.map(|stamp| (stamp.key, stamp.at)).collect();
        self.state.lock().ahead = (!ahead.is_empty()).then(|| Box::new(ahead));
    }

    /// Whether an event that the room keeps so is news to it.
    #[must_use]
    pub fn hears(&self, keep: Keep) -> bool {
        let state = self.state.lock();
        match (state.standing, keep) {
            (Standing::Live(from), Keep::Stored(link)) => link.offset > from,
            (Standing::Live(_), Keep::Newest(stamp)) => !state.is_behind(stamp),
            (Standing::Live(_), Keep::Nothing) => true,
            (Standing::CatchingUp(_) | Standing::Left, _) => false,
        }
    }

    /// Whether an event is news to it; if so, it is no longer.
    #[must_use]
    pub fn hear(&self, keep: Keep) -> bool {
        let mut state = self.state.lock();
        match (&mut state.standing, keep) {
            (Standing::Live(to), Keep::Stored(link)) if link.offset > *to => {
                *to = link.offset;
                true
            }
            (Standing::Live(_), Keep::Newest(stamp)) => state.reaches(stamp),
            (Standing::Live(_), Keep::Stored(_) | Keep::Nothing) => keep == Keep::Nothing,
            (Standing::CatchingUp(_) | Standing::Left, _) => false,
        }
    }

    /// Whether what is at `offset` came since it joined, live or from the history.
    fn has_had(&self, offset: Offset) -> bool {
        match self.standing() {
            Standing::CatchingUp(to) | Standing::Live(to) => self.since < offset && offset <= to,
            Standing::Left => false,
        }
    }
}

impl State {
    /// Whether it was told this one, or a newer one of its key.
    fn is_behind(&self, stamp: Stamp) -> bool {
        self.ahead.as_ref().and_then(|ahead| ahead.get(&stamp.key)).is_some_and(|told| stamp.at <= *told)
    }

    /// Whether this one is news; from the one that was told on, all of its key are.
    fn reaches(&mut self, stamp: Stamp) -> bool {
        let behind = self.is_behind(stamp);
        if let Some(ahead) = &mut self.ahead
            && ahead.get(&stamp.key).is_some_and(|told| stamp.at >= *told)
        {
            ahead.remove(&stamp.key);
            if ahead.is_empty() {
                self.ahead = None;
            }
        }
        !behind
    }
}

impl Session {
    /// A session in no room.
    #[must_use]
    pub fn new(claims: Arc<Claims>, lane: Lane, dialect: Arc<dyn Dialect>) -> Arc<Self> {
        Arc::new(Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            claims: RwLock::new(claims),
            lane,
            dialect,
            rooms: Mutex::default(),
            closed: AtomicBool::new(false),
            locations: Mutex::default(),
            once: Mutex::default(),
            remembers: AtomicBool::new(false),
            reading: tokio::sync::Mutex::default(),
        })
    }

    /// Unique on this node, for logs.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Who it is, by the newest token that it has shown.
    #[must_use]
    pub fn claims(&self) -> Arc<Claims> {
        self.claims.read().clone()
    }

    /// Puts a new token's claims in the place of the old ones.
    pub fn renew(&self, claims: Arc<Claims>) {
        *self.claims.write() = claims;
    }

    /// Whether it may report a location that came at `at`; if so, that counts.
    #[must_use]
    pub fn may_locate(&self, rate: Rate, at: Instant) -> bool {
        self.locations.lock().take(rate, at)
    }

    /// Its way out.
    #[must_use]
    pub fn lane(&self) -> &Lane {
        &self.lane
    }

    /// How its door writes events.
    #[must_use]
    pub fn dialect(&self) -> &Arc<dyn Dialect> {
        &self.dialect
    }

    /// Closes its transport, so that the client comes back by itself.
    pub fn close(&self, why: Close) {
        self.lane.wire().kill(why.code());
    }

    /// Sends what must not be lost; over the bound the transport is closed.
    pub fn send(&self, frame: Bytes) -> Push {
        self.lane.push(frame)
    }

    /// Sends a notice of the gateway itself, such as `room.revoked`; lost with the transport, as it is of no history.
    pub fn notify(&self, name: &'static str, payload: &serde_json::Value) -> Push {
        let id = uuid::Uuid::now_v7().to_string();
        let notice = Envelope::notice(name, &id, now_ms(), payload);
        self.send(self.dialect.frame(&notice, &[]))
    }

    /// The rooms it is in, with its standing.
    pub fn with_rooms<T>(&self, look: impl FnOnce(&mut HashMap<Room, Joined>) -> T) -> T {
        look(&mut self.rooms.lock())
    }

    /// Its place in one room.
    #[must_use]
    pub fn joined(&self, room: &Room) -> Option<Joined> {
        self.rooms.lock().get(room).cloned()
    }

    /// Marks it as gone; true the first time.
    pub fn finish(&self) -> bool {
        !self.closed.swap(true, Ordering::AcqRel)
    }

    /// Whether it is gone.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Waits until no other of its rooms is being read to it.
    pub async fn reading(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.reading.lock().await
    }

    /// From now on remembers ids of events in several rooms, since two ways may bring them.
    pub fn remember_ids(&self) {
        self.once.lock().get_or_insert_default();
        self.remembers.store(true, Ordering::Release);
    }

    /// Whether an event in several rooms, which now comes by those of `mask` (a bit per place), has not come another way:
    /// by another of its rooms, whose position tells, or by one that it has left, which the last ids tell.
    #[must_use]
    pub fn first_copy(&self, entry: &Entry, mask: u64) -> bool {
        if !entry.earlier.is_empty() && self.came_earlier(entry) {
            return false;
        }
        if entry.places.iter().all(|place| place.link().is_none()) {
            return true;
        }
        !self.remembers.load(Ordering::Acquire) || !self.came_by_another(entry, mask) && self.first_time(&entry.id)
    }

    fn came_earlier(&self, entry: &Entry) -> bool {
        let rooms = self.rooms.lock();
        let had = |(room, offset): &(Room, Offset)| rooms.get(room).is_some_and(|j| j.membership.has_had(*offset));
        entry.earlier.iter().any(had)
    }

    fn came_by_another(&self, entry: &Entry, mask: u64) -> bool {
        let rooms = self.rooms.lock();
        entry.places.iter().enumerate().any(|(i, place)| {
            let joined = if mask & (1 << i) == 0 { rooms.get(&place.room) } else { None };
            joined.zip(place.link()).is_some_and(|(joined, link)| joined.membership.has_had(link.offset))
        })
    }

    fn first_time(&self, id: &EventId) -> bool {
        let digest = digest(id);
        let mut once = self.once.lock();
        let Some(ids) = once.as_mut() else { return true };
        if ids.contains(&digest) {
            return false;
        }
        if ids.len() == REMEMBERED_IDS {
            ids.pop_front();
        }
        ids.push_back(digest);
        true
    }
}

fn digest(id: &EventId) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    id.hash(&mut hasher);
    hasher.finish()
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Session({})", self.id)
    }
}
