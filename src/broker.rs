//! The broker: where events get their place, and from where every node hears of them.
//!
//! What an implementation promises, and `tests/broker.rs` holds both of them to:
//!
//! - **One act.** A publish checks, dedupes, assigns offsets, stores and passes on, or does nothing.
//! - **Order.** Offsets of a room only grow, and every entry names the offset before it (`prev`).
//! - **Order of a batch.** [`Broker::publish_all`] stores events in the order given, and one that fails stops no other.
//! - **Idempotence.** An event id that a publisher gave is stored once per room within `history.id_window`.
//! - **A feed that never blocks.** Entries of subscribed rooms arrive in order. What the feed cannot hold it drops
//!   and says so ([`Feed::Missed`]); every break of the connection is told too ([`Feed::Restored`]). Whoever reads the feed
//!   then reads the histories: nothing that was stored is lost to it.
//! - **Subscribe, then read.** Once [`Broker::subscribe`] returned, everything stored later arrives in the feed.
//! - **A counted fleet.** What nodes tell of their rooms and users is known to the others at once, and a dead node's word is not
//!   believed for longer than 30 s.
//! - **Honest histories.** An answer is one atomic look at the room, and `complete` is true only when it is proven.
//! - **A list that lasts.** A revocation is in this node's copy at once, reaches every node's copy in a moment, and stays
//!   there until its end, as long as one node or the broker's store remembers it: what one of them lost comes back from
//!   the others. A copy is read whole before it counts as loaded.
//! - **The newest per key.** Of `latest` events a room keeps the newest of each key. Stamps of a key only grow.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use hallway_rooms::class::Delivery;
use hallway_rooms::entry::Entry;
use hallway_rooms::event::EventId;
use hallway_rooms::history::{Facts, From};
use hallway_rooms::key::Room;
use hallway_rooms::offset::Offset;
use hallway_rooms::revocation::Mark;

pub mod control;
pub mod feed;
pub mod memory;
pub mod redis;
mod shared;

use control::{Control, Noted};
pub use shared::Shared;

/// An event on its way in, checked by whoever took it.
#[derive(Clone, Debug)]
pub struct Publication {
    /// Its rooms, in the publisher's order, without doubles.
    pub rooms: Vec<Room>,
    /// The event's JSON, a valid [`Draft`](hallway_rooms::draft::Draft).
    pub text: Vec<u8>,
    /// The id to dedupe by.
    pub id: EventId,
    /// Whether receivers are asked to acknowledge it.
    pub requires_ack: bool,
    /// How it is delivered, where the publisher wants less than its type and rooms give.
    pub delivery: Option<Delivery>,
}

/// Where an event stands in one of its rooms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The room.
    pub room: Room,
    /// Its offset there; none where nothing is kept of it.
    pub offset: Option<Offset>,
    /// Whether it had been there before.
    pub duplicate: bool,
}

/// An id for an event whose publisher gave none: a UUID v7.
///
/// # Panics
/// Never: a UUID's letters are those of an event id.
#[must_use]
pub fn event_id() -> EventId {
    uuid::Uuid::now_v7().to_string().parse().expect("a UUID is an event id")
}

/// Why an event was not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The broker refuses the event itself.
    #[error("{0}")]
    Invalid(String),
    /// Larger than `limits.event_bytes`.
    #[error("{0}")]
    TooLarge(String),
    /// It cannot be stored in one of its rooms, and trying again does not help until somebody mends that.
    #[error("{0}")]
    Failed(String),
    /// The broker is out of reach; whether it was stored is not known, so the same id must be used again.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// What became of each event of several.
pub type Outcomes = Vec<Result<Vec<Placed>, PublishError>>;

/// The broker is out of reach.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the broker is out of reach: {0}")]
pub struct Unavailable(pub String);

/// One atomic look at a room. Its entries may be shared with others that read the same.
#[derive(Clone, Debug)]
pub struct History<E = Entry> {
    /// What is known of the room.
    pub facts: Facts,
    /// The entries asked for, oldest first.
    pub entries: Vec<E>,
    /// Whether nothing from the asked place on is missing.
    pub complete: bool,
    /// Whether more follow than were asked for.
    pub has_more: bool,
}

/// A part of a room's history, which others may have been given as well.
pub type Resumed = History<Shared>;

/// A part of a room's history that a client asks for: at least one event, if there is any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Portion {
    /// From where on.
    pub from: From,
    /// At most so many events.
    pub events: usize,
    /// Of at most so many bytes of text together.
    pub bytes: usize,
}

impl<E: AsRef<Entry>> History<E> {
    /// Where its reader stands: behind the last entry returned if more follow, else at the head.
    #[must_use]
    pub fn offset(&self, room: &Room) -> Offset {
        let last = self.entries.last().and_then(|e| e.as_ref().link(room));
        match last {
            Some(link) if self.has_more => link.offset,
            _ => self.facts.head(),
        }
    }
}

/// What a node says of one user: the sockets it has here, and how many more ask to come in.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The user, by any name.
    pub user: Arc<str>,
    /// Sockets that are in.
    pub seats: usize,
    /// Sockets that ask.
    pub wants: usize,
}

/// What arrives from the broker.
#[derive(Clone, Debug)]
pub enum Feed {
    /// An entry of one or more rooms; may come more than once.
    Entry(Entry),
    /// Entries of these rooms were dropped: read their histories.
    Missed(Vec<Room>),
    /// The feed had a break: read every history.
    Restored,
}

/// How many sessions were kicked on other nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kicked {
    /// As those nodes say that answered in time.
    pub sockets: usize,
    /// Whether every node did.
    pub complete: bool,
}

/// How the broker is, for readiness and people.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Health {
    /// Whether publishes, joins and live delivery work.
    pub ready: bool,
    /// `embedded` or `redis`.
    pub kind: &'static str,
    /// What is wrong and what to do, when it is not ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// See the module's own words.
#[async_trait]
pub trait Broker: Send + Sync + fmt::Debug {
    /// Stores an event in its rooms and passes it on.
    async fn publish(&self, event: Publication) -> Result<Vec<Placed>, PublishError>;

    /// Publishes events in this order: none is stored before all earlier ones were tried. What is wrong with one of them
    /// stops none of the others. When the broker is out of reach it is not known what was stored, but it is the
    /// beginning, so publishing all of them again under the same ids keeps the order.
    async fn publish_all(&self, events: Vec<Publication>) -> Result<Outcomes, Unavailable> {
        let mut outcomes = Vec::with_capacity(events.len());
        for event in events {
            match self.publish(event).await {
                Err(PublishError::Unavailable(outage)) => return Err(outage),
                outcome => outcomes.push(outcome),
            }
        }
        Ok(outcomes)
    }

    /// Has a room's entries sent to the feed from now on. Subscribing twice is once.
    async fn subscribe(&self, room: &Room) -> Result<(), Unavailable>;

    /// Lets a room go, behind all earlier requests. False when it has to be asked again later.
    fn unsubscribe(&self, room: &Room) -> bool;

    /// Reads a room from a place on: at most `limit` entries. For live delivery, which waits for it.
    async fn history(&self, room: &Room, from: From, limit: usize) -> Result<History, Unavailable>;

    /// Reads a room for a client. Whoever asks for the same room at the same time is given parts of one read, each begun
    /// behind its asking, and none of them holds up live delivery.
    async fn resume(&self, room: &Room, portion: Portion) -> Result<Resumed, Unavailable> {
        let history = self.history(room, portion.from, portion.events).await?;
        Ok(history.cut(portion.bytes).share())
    }

    /// The newest event of each key that a room keeps beside its history, none older than the class's `ttl`, in the order
    /// of their stamps. Beside no promise of the history: it is another look at the room.
    async fn latest(&self, room: &Room) -> Result<Vec<Entry>, Unavailable>;

    /// What is known of a room, without its entries.
    async fn facts(&self, room: &Room) -> Result<Facts, Unavailable>;

    /// What is known of each of these rooms, in one round trip. Of one that cannot be read no last offset is known: a read of
    /// it says why.
    async fn facts_of(&self, rooms: &[Room]) -> Result<Vec<Facts>, Unavailable>;

    /// Tells the other nodes how many sessions of this one are in each of these rooms, in place of what it told before.
    async fn tell_sizes(&self, sizes: &[(Room, usize)]) -> Result<(), Unavailable>;

    /// How often the broker has forgotten what this node told of its rooms, which must then be told again.
    fn forgotten(&self) -> u64;

    /// How many sessions of the other nodes are in a room, as far as they have told. Fails at once while the broker is
    /// known to be out of reach.
    async fn others(&self, room: &Room) -> Result<usize, Unavailable>;

    /// This node's copy of what is revoked, and what other nodes ask of it.
    fn control(&self) -> &Control;

    /// Tells every node of what was noted in this one's copy ([`Control::note`]). What cannot be told is told later.
    async fn revoke(&self, noted: &Noted) -> Result<(), Unavailable>;

    /// Asks the other nodes to kick a user's sessions, and waits a moment for their answers.
    async fn kick(&self, user: Mark) -> Result<Kicked, Unavailable>;

    /// Answers what came as a [`Kick`](control::Kick).
    async fn answer(&self, ticket: &str, sockets: usize) -> Result<(), Unavailable>;

    /// Tells the other nodes how many sockets this one has of each of these users, in place of what it told before, and
    /// asks for more of them. The answer is how many it may have: `seats`, and as many of `wants` as `cap` leaves beside
    /// those of the other nodes. Count and answer are one act, so that nodes that ask at once are never given more
    /// together. Nothing where the broker cannot say for one user.
    async fn seat(&self, asks: &[Ask], cap: usize) -> Result<Vec<Option<usize>>, Unavailable>;

    /// Takes this node out of the fleet for good: nothing it told counts any more.
    async fn resign(&self) -> Result<(), Unavailable>;

    /// Whether histories can be read at all, by the way that [`history`](Self::history) goes: then a room that cannot be has
    /// trouble of its own.
    async fn reads(&self) -> bool {
        true
    }

    /// How it is.
    fn health(&self) -> Health;

    /// Waits while it is known to be out of reach. Whoever was refused waits for this before the next try.
    async fn reachable(&self) {}
}
