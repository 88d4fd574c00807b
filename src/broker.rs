//! The broker: where events get their place, and from where every node hears of them.
//!
//! What nodes tell each other beside events is the fleet's ([`fleet`](crate::fleet)). What an implementation promises, and `tests/broker.rs` holds both of them to:
//!
//! - **One act.** A publish checks, dedupes, assigns offsets, stores and passes on, or does nothing.
//! - **Order.** Offsets of a room only grow, and every entry names the offset before it (`prev`).
//! - **Order of a batch.** [`Broker::publish_all`] stores events in the order given, and one that fails stops no other.
//! - **Idempotence.** An event id that a publisher gave is stored once per room within `history.id_window`.
//! - **A feed that never blocks.** Entries of subscribed rooms arrive in order. What the feed cannot hold it drops
//!   and says so ([`Feed::Missed`]); every break of the connection is told too ([`Feed::Restored`]). The reader of the feed
//!   then reads the histories: nothing that was stored is lost to it.
//! - **Subscribe, then read.** Once [`Broker::subscribe`] returned, everything stored later arrives in the feed.
//! - **Honest histories.** An answer is one atomic look at the room, and `complete` is true only when it is proven.
//! - **The newest per key.** Of `latest` events a room keeps the newest of each key. Stamps of a key only grow.

use std::fmt;

use async_trait::async_trait;
use hallway_rooms::class::Delivery;
use hallway_rooms::entry::Entry;
use hallway_rooms::event::EventId;
use hallway_rooms::history::{Facts, From};
use hallway_rooms::key::Room;
use hallway_rooms::offset::Offset;
use tokio::sync::watch;

pub mod feed;
pub mod memory;
pub mod redis;
mod shared;

pub use crate::link::Unavailable;
pub use shared::Shared;

/// An event on its way in, checked by its receiver.
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
    /// It cannot be stored in one of its rooms, and trying again does not help until an operator mends that.
    #[error("{0}")]
    Failed(String),
    /// The broker is out of reach; whether it was stored is not known, so the same id must be used again.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// What became of each event of several.
pub type Outcomes = Vec<Result<Vec<Placed>, PublishError>>;

/// Why a room's history was not read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadError {
    /// The broker is out of reach, or the way to its histories is.
    #[error(transparent)]
    Unavailable(Unavailable),
    /// Other rooms can be read by the same way: this one has trouble of its own.
    #[error(transparent)]
    Room(Unavailable),
}

impl std::convert::From<ReadError> for Unavailable {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Unavailable(failure) | ReadError::Room(failure) => failure,
        }
    }
}

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
    /// Whether it is ready, as it changes; none where it always is.
    #[serde(skip)]
    pub recovery: Option<watch::Receiver<bool>>,
}

impl Health {
    /// Waits while the broker is known to be out of reach. A refused caller waits for this before its next try.
    pub async fn recovered(self) {
        if let Some(mut recovery) = self.recovery {
            // Where the sender is gone, so is the broker, and there is nothing to wait for.
            recovery.wait_for(|ready| *ready).await.ok();
        }
    }
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
    async fn history(&self, room: &Room, from: From, limit: usize) -> Result<History, ReadError>;

    /// Reads a room for a client. Callers that ask for the same room at the same time share one read, each begun
    /// behind its asking, and none of them holds up live delivery.
    async fn resume(&self, room: &Room, portion: Portion) -> Result<Resumed, Unavailable> {
        let history = self.history(room, portion.from, portion.events).await?;
        Ok(history.cut(portion.bytes).share())
    }

    /// The newest event of each key that a room keeps beside its history, none older than the class's `ttl`, in the order
    /// of their stamps. Beside no promise of the history: it is another look at the room.
    async fn latest(&self, room: &Room) -> Result<Vec<Entry>, Unavailable>;

    /// What is known of each of these rooms, without their entries, in one round trip. Fails for one room that cannot be
    /// read. Of several, one that cannot be read has no last offset: a read of it says why.
    async fn facts(&self, rooms: &[Room]) -> Result<Vec<Facts>, Unavailable>;

    /// How it is.
    fn health(&self) -> Health;
}

impl dyn Broker {
    /// The [facts](Self::facts) of one room.
    ///
    /// # Errors
    /// When the broker is out of reach, or this room cannot be read.
    pub async fn facts_of(&self, room: &Room) -> Result<Facts, Unavailable> {
        let facts = self.facts(std::slice::from_ref(room)).await?;
        facts.into_iter().next().ok_or_else(|| Unavailable("it said nothing of the room".to_owned()))
    }
}
