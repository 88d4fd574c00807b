//! A session: one signed-in client of one door, its outgoing lane, and its standing in each of its rooms.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use hallway_rooms::close::Close;
use hallway_rooms::entry::RoomPlace;
use hallway_rooms::envelope::Envelope;
use hallway_rooms::key::Room;
use hallway_rooms::offset::Offset;
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

use crate::auth::claims::Claims;
use crate::clock::now_ms;
use crate::rate::{Rate, TokenBucket};
use crate::wire::{Lane, PushOutcome};

pub mod copies;
mod membership;
mod room_table;

use copies::Copies;
pub use membership::{MemberDelivery, Membership};
pub use room_table::RoomTable;

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// How a door writes an event on its wire. Sessions that share one share its frames.
pub trait Dialect: Send + Sync + fmt::Debug {
    /// The complete frame of an event for a receiver that is in `places`' rooms; a notice is of none.
    fn event_frame(&self, envelope: &Envelope, places: &[&RoomPlace]) -> Bytes;

    /// The complete frame that tells a client that it was kicked, and is not to come back by itself.
    fn kick_frame(&self) -> Bytes;
}

/// One signed-in client.
pub struct Session {
    id: u64,
    /// Replaced when its client shows a newer token.
    claims: RwLock<Arc<Claims>>,
    lane: Lane,
    dialect: Arc<dyn Dialect>,
    /// Its side of the membership, so that it can be asked and ended without a walk over all rooms.
    rooms: Mutex<RoomTable>,
    /// Set once, so that only the first of several ends is carried out.
    closed: AtomicBool,
    /// Wakes what is done for it when it ends.
    ended: Notify,
    /// Nothing is sent behind the close notice.
    kicked: AtomicBool,
    /// Its rate of location reports.
    locations: Mutex<TokenBucket>,
    /// What it keeps to get each event once.
    copies: Copies,
    /// Held by the one room that is being read to it.
    reading: tokio::sync::Mutex<()>,
}

/// A session's place among a room's members.
#[derive(Clone, Debug)]
pub struct JoinedMembership {
    /// Its standing.
    pub membership: Arc<Membership>,
    /// Where the hub keeps it.
    pub slot: usize,
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
            copies: Copies::default(),
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
    pub fn replace_claims(&self, claims: Arc<Claims>) {
        *self.claims.write() = claims;
    }

    /// Whether it may report a location that came at `at`; if so, that counts.
    #[must_use]
    pub fn may_locate(&self, rate: Rate, at: Instant) -> bool {
        self.locations.lock().take_token(rate, at)
    }

    /// Its way out.
    #[must_use]
    pub fn lane(&self) -> &Lane {
        &self.lane
    }

    /// The event loop that its transport lives in, an index among those of the node.
    #[must_use]
    pub fn event_loop(&self) -> usize {
        self.lane.wire().event_loop()
    }

    /// How its door writes events.
    #[must_use]
    pub fn dialect(&self) -> &Arc<dyn Dialect> {
        &self.dialect
    }

    /// Closes its transport, so that the client comes back by itself.
    pub fn close_transport(&self, why: Close) {
        self.lane.wire().close_at_once(why.code());
    }

    /// Ends it for good: its client is told not to come back, and nothing more is done for it. True the first time. Its
    /// transport is left to [`close_after_kick`](Self::close_after_kick), because others of the same client may have to be told first.
    pub fn kick_client(&self) -> bool {
        // A session that has ended has no client to tell.
        if self.is_finished() || self.kicked.swap(true, Ordering::AcqRel) {
            return false;
        }
        self.lane.push(self.dialect.kick_frame());
        true
    }

    /// Closes the transport of a session that was kicked, once it has its last bytes.
    pub fn close_after_kick(&self) {
        self.lane.wire().close_after_flush(Close::Kicked.code());
    }

    /// Whether it was kicked.
    #[must_use]
    pub fn is_kicked(&self) -> bool {
        self.kicked.load(Ordering::Acquire)
    }

    /// Sends a frame that must not be lost; over the bound the transport is closed. Nothing is sent behind the frame of a kick.
    pub fn send_frame(&self, frame: Bytes) -> PushOutcome {
        self.lane.push_if(|| (!self.is_kicked()).then_some(frame))
    }

    /// Sends a notice of the gateway itself, such as `room.revoked`; lost with the transport, as it is of no history.
    pub fn send_notice(&self, name: &'static str, payload: &serde_json::Value) -> PushOutcome {
        let id = uuid::Uuid::now_v7().to_string();
        let notice = Envelope::for_notice(name, &id, now_ms(), payload);
        self.send_frame(self.dialect.event_frame(&notice, &[]))
    }

    /// The rooms it is in, with its standing.
    pub fn with_rooms<T>(&self, look: impl FnOnce(&mut RoomTable) -> T) -> T {
        look(&mut self.rooms.lock())
    }

    /// Its place in one room.
    #[must_use]
    pub fn membership_in(&self, room: &Room) -> Option<JoinedMembership> {
        self.rooms.lock().get(room).cloned()
    }

    /// Takes a place in a room, and ends the one before it. `since`: it is told everything that came behind that, by an answer
    /// that goes out in this moment; what the place before had counts too, where the two touch.
    pub fn set_membership(&self, room: &Room, joined: JoinedMembership, since: Option<Offset>) {
        let mut rooms = self.rooms.lock();
        let membership = joined.membership.clone();
        let before = rooms.insert(room, joined);
        // What the membership before had is lost with it, so it is taken over first.
        let had = |since| before.as_ref().map_or(since, |before| before.membership.complete_since(since));
        since.into_iter().for_each(|since| membership.note_sent_since(had(since)));
        before.into_iter().for_each(|before| before.membership.change_standing(MemberDelivery::Left));
    }

    /// Replaces the membership in a room by a successor in its slot: see [`Membership::end_for_successor`]. Gives both.
    #[must_use]
    pub fn replace_membership(&self, room: &Room) -> Option<(JoinedMembership, Arc<Membership>)> {
        let mut rooms = self.rooms.lock();
        let joined = rooms.get_mut(room)?;
        let next = joined.membership.end_for_successor()?;
        let before = joined.clone();
        joined.membership = next.clone();
        Some((before, next))
    }

    /// Removes it from a room: it receives nothing more of it. The offsets that it had are remembered for a while.
    pub fn give_up(&self, room: &Room) -> Option<JoinedMembership> {
        let mut rooms = self.rooms.lock();
        let joined = rooms.remove(room)?;
        if let Some(had) = joined.membership.end_for_good() {
            self.copies.note_left(room, had);
        }
        Some(joined)
    }

    /// Marks it as gone; true the first time.
    pub fn mark_finished(&self) -> bool {
        let first = !self.closed.swap(true, Ordering::AcqRel);
        self.ended.notify_waiters();
        first
    }

    /// Waits until it is gone.
    pub async fn wait_until_ended(&self) {
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
    pub async fn lock_reading(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.reading.lock().await
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Session({})", self.id)
    }
}
