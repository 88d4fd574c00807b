//! A session: one signed-in client of one door, its outgoing lane, and its standing in each of its rooms.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use hallway_rooms::close::Close;
use hallway_rooms::entry::{Entry, Place};
use hallway_rooms::envelope::Envelope;
use hallway_rooms::event::EventId;
use hallway_rooms::key::Room;
use hallway_rooms::offset::Offset;
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

use crate::auth::claims::Claims;
use crate::clock::now_ms;
use crate::rate::{Bucket, Rate};
use crate::wire::{Lane, Push};

mod membership;

pub use membership::{Membership, Standing};

/// Ids of events in several rooms that a session which caught up remembers, to get each once.
const REMEMBERED_IDS: usize = 256;

/// Rooms that a session has left and remembers for the same reason: those around one moment.
const REMEMBERED_STAYS: usize = 16;

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// How a door writes an event on its wire. Sessions that share one share its frames.
pub trait Dialect: Send + Sync + fmt::Debug {
    /// The complete frame of an event for a receiver that is in `places`' rooms; a notice is of none.
    fn frame(&self, envelope: &Envelope, places: &[&Place]) -> Bytes;

    /// The complete frame that tells a client that it was kicked, and is not to come back by itself.
    fn farewell(&self) -> Bytes;
}

/// One signed-in client.
pub struct Session {
    id: u64,
    claims: RwLock<Arc<Claims>>,
    lane: Lane,
    dialect: Arc<dyn Dialect>,
    rooms: Mutex<HashMap<Room, Joined>>,
    closed: AtomicBool,
    /// Wakes what is done for it when it ends.
    ended: Notify,
    kicked: AtomicBool,
    locations: Mutex<Bucket>,
    /// Made when a room first had to be caught up.
    once: Mutex<Option<VecDeque<u64>>>,
    remembers: AtomicBool,
    left: Mutex<VecDeque<Stay>>,
    /// Held by the one room that is being read to it.
    reading: tokio::sync::Mutex<()>,
}

/// A room that was left, and between which offsets everything came.
#[derive(Debug)]
struct Stay {
    room: Room,
    since: Offset,
    to: Offset,
}

/// A session's place among a room's members.
#[derive(Clone, Debug)]
pub struct Joined {
    /// Its standing.
    pub membership: Arc<Membership>,
    /// Where the hub keeps it.
    pub seat: usize,
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
            ended: Notify::new(),
            kicked: AtomicBool::new(false),
            locations: Mutex::default(),
            once: Mutex::default(),
            remembers: AtomicBool::new(false),
            left: Mutex::default(),
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

    /// Ends it for good: its client is told not to come back, and nothing more is done for it. True the first time. Its
    /// transport is left to [`part`](Self::part), because others of the same client may have to be told first.
    pub fn kick(&self) -> bool {
        if self.is_finished() || self.kicked.swap(true, Ordering::AcqRel) {
            return false;
        }
        self.lane.push(self.dialect.farewell());
        true
    }

    /// Closes the transport of a session that was kicked, once it has its last bytes.
    pub fn part(&self) {
        self.lane.wire().close_after_flush(Close::Kicked.code());
    }

    /// Whether it was kicked.
    #[must_use]
    pub fn is_kicked(&self) -> bool {
        self.kicked.load(Ordering::Acquire)
    }

    /// Sends what must not be lost; over the bound the transport is closed. Behind the farewell nothing is sent.
    pub fn send(&self, frame: Bytes) -> Push {
        self.lane.push_if(|| (!self.is_kicked()).then_some(frame))
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

    /// Takes a place in a room, and ends the one before it. `since`: it is told everything that came behind that, by an answer
    /// that goes out in this moment; what the place before had counts too, where the two touch.
    pub fn take(&self, room: &Room, joined: Joined, since: Option<Offset>) {
        let mut rooms = self.rooms.lock();
        let membership = joined.membership.clone();
        let before = rooms.insert(room.clone(), joined);
        let had = |since| before.as_ref().map_or(since, |before| before.membership.since(since));
        since.into_iter().for_each(|since| membership.tell(had(since)));
        before.into_iter().for_each(|before| before.membership.set(Standing::Left));
    }

    /// Has another membership follow the one in a room, in its seat: see [`Membership::succeed`]. Gives both.
    #[must_use]
    pub fn succeed(&self, room: &Room) -> Option<(Joined, Arc<Membership>)> {
        let mut rooms = self.rooms.lock();
        let joined = rooms.get_mut(room)?;
        let next = joined.membership.succeed()?;
        let before = joined.clone();
        joined.membership = next.clone();
        Some((before, next))
    }

    /// Takes it out of a room: from here on it hears nothing of it, and what it had is remembered for a while.
    pub fn give_up(&self, room: &Room) -> Option<Joined> {
        let mut rooms = self.rooms.lock();
        let joined = rooms.remove(room)?;
        if let Some((since, to)) = joined.membership.leave() {
            let mut left = self.left.lock();
            left.truncate(REMEMBERED_STAYS - 1);
            left.push_front(Stay { room: room.clone(), since, to });
        }
        Some(joined)
    }

    /// Marks it as gone; true the first time.
    pub fn finish(&self) -> bool {
        let first = !self.closed.swap(true, Ordering::AcqRel);
        self.ended.notify_waiters();
        first
    }

    /// Waits until it is gone.
    pub async fn ended(&self) {
        let mut ended = std::pin::pin!(self.ended.notified());
        // Listens before it looks, so that an end between the two is not missed.
        ended.as_mut().enable();
        if !self.is_finished() {
            ended.await;
        }
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

    /// From now on remembers ids of events in several rooms, since two ways may bring them. A room that was left before has
    /// nothing to do with it: who joins another one from an offset on asks for what came by the first one too.
    pub fn remember_ids(&self) {
        self.once.lock().get_or_insert_default();
        self.remember_places();
    }

    /// From now on an event is news only if no other of its rooms has brought it: what was told from a history may come
    /// live by a room that it was not told of.
    pub fn remember_places(&self) {
        self.left.lock().clear();
        self.remembers.store(true, Ordering::Release);
    }

    /// Whether an event in several rooms, which now comes by those of `mask` (a bit per place), has not come another way:
    /// by another of its rooms, whose position tells, also if it has just left it, or by one that the last ids tell.
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

    /// Whether an event in several rooms, which now comes by those of `mask`, has come by another of them: its position tells,
    /// also if the room has just been left.
    #[must_use]
    pub fn came_by_another(&self, entry: &Entry, mask: u64) -> bool {
        let rooms = self.rooms.lock();
        let left = self.left.lock();
        let had = |room: &Room, at: Offset| {
            rooms.get(room).is_some_and(|joined| joined.membership.has_had(at))
                || left.iter().any(|stay| stay.room == *room && stay.since < at && at <= stay.to)
        };
        let others = entry.places.iter().enumerate().filter(|(i, _)| mask & (1 << i) == 0);
        others.filter_map(|(_, place)| Some((&place.room, place.link()?.offset))).any(|(room, at)| had(room, at))
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
