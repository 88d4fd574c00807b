//! The broker: it stores events in order, and passes them on to every node. What nodes tell each other besides events goes
//! through the fleet ([`fleet`](crate::fleet)).
//!
//! The contract, which `tests/broker.rs` checks for both implementations:
//!
//! - **One act.** A publish checks, dedupes, assigns offsets, stores and passes on, or does nothing.
//! - **Order.** Offsets of a room only grow, and every entry names the offset before it (`prev`).
//! - **Order of a batch.** [`Broker::publish_all`] stores events in the order given, and one that fails stops no other.
//! - **Idempotence.** An event id that a publisher gave is stored once per room within `history.id_window`.
//! - **An event channel that never blocks.** Entries of subscribed rooms arrive in order. The channel drops what it cannot
//!   hold and names the rooms ([`ChannelEvent::Missed`]); it also reports each new connection ([`ChannelEvent::Restored`]). Its reader
//!   then reads the histories, so it loses nothing that was stored.
//! - **Subscribe, then read.** Once [`Broker::subscribe`] returned, everything stored later arrives in the event channel.
//! - **Honest histories.** An answer is one atomic read of the room, and `complete` is true only when it is proven.
//! - **The newest per key.** Of `latest` events a room keeps the newest of each key. Stamps of a key only grow.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use hallway_rooms::class::Delivery;
use hallway_rooms::entry::Entry;
use hallway_rooms::event::EventId;
use hallway_rooms::history::{RoomFacts, Start};
use hallway_rooms::key::Room;
use hallway_rooms::offset::Offset;
use tokio::sync::watch;

pub mod event_channel;
mod event_router;
mod loop_broker;
pub mod memory;
pub mod redis;
mod shared;

pub use crate::link::Unavailable;
pub use event_router::EventRouter;
pub use loop_broker::LoopBroker;
pub use shared::SharedEntry;

/// An event on its way in, checked where it was accepted.
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
    /// How it is delivered, if the publisher wants less than its type and rooms give.
    pub delivery: Option<Delivery>,
}

/// Where an event stands in one of its rooms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The room.
    pub room: Room,
    /// Its offset there; none for an event that the room does not store.
    pub offset: Option<Offset>,
    /// Whether the room had it already.
    pub duplicate: bool,
}

/// An id for an event that came without one: a UUID v7.
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
    /// It cannot be stored in one of its rooms. A retry does not help until an operator repairs that.
    #[error("{0}")]
    Failed(String),
    /// The broker is out of reach. The event may have been stored, so a retry must use the same id.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// The result of each event of a batch.
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

/// One atomic read of a room. Its entries may be shared with other readers of the same room.
#[derive(Clone, Debug)]
pub struct History<E = Entry> {
    /// The state of the room at that moment.
    pub facts: RoomFacts,
    /// The entries asked for, oldest first.
    pub entries: Vec<E>,
    /// Whether no event from the requested offset on is missing.
    pub complete: bool,
    /// Whether more follow than were requested.
    pub has_more: bool,
}

/// A part of a room's history, possibly shared with other readers.
pub type Resumed = History<SharedEntry>;

/// The part of a room's history that a client asks for. The answer has at least one event, if there is any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryRequest {
    /// From where on.
    pub from: Start,
    /// At most so many events.
    pub events: usize,
    /// Of at most so many bytes of text together.
    pub bytes: usize,
}

impl<E: AsRef<Entry>> History<E> {
    /// The offset to go on from: that of the last entry if more follow, else the head.
    #[must_use]
    pub fn reader_offset(&self, room: &Room) -> Offset {
        let last = self.entries.last().and_then(|e| e.as_ref().link_in(room));
        match last {
            // The head lies behind entries that this page does not have.
            Some(link) if self.has_more => link.offset,
            _ => self.facts.head(),
        }
    }
}

/// A message of the event channel.
#[derive(Clone, Debug)]
pub enum ChannelEvent {
    /// An entry of one or more rooms; may come more than once. Shared by the event loops that get it.
    Entry(Arc<Entry>),
    /// Entries of these rooms were dropped; the reader must read their histories.
    Missed(Vec<Room>),
    /// The connection was replaced; the reader must read every history.
    Restored,
}

/// The state of the broker, for readiness and for people.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Health {
    /// Whether publishes, joins and live delivery work.
    pub ready: bool,
    /// `embedded` or `redis`.
    pub kind: &'static str,
    /// The failure and its remedy, while it is not ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Follows `ready` as it changes; none for a broker that is always ready.
    #[serde(skip)]
    pub recovery: Option<watch::Receiver<bool>>,
}

impl Health {
    /// Waits while the broker is known to be out of reach. A caller that got [`Unavailable`] waits for this before a retry.
    pub async fn recovered(self) {
        if let Some(mut recovery) = self.recovery {
            // An error means that the broker is gone, so there is nothing left to wait for.
            recovery.wait_for(|ready| *ready).await.ok();
        }
    }
}

/// The contract stands at the top of this module.
#[async_trait]
pub trait Broker: Send + Sync + fmt::Debug {
    /// Stores an event in its rooms and passes it on.
    async fn publish(&self, event: Publication) -> Result<Vec<Placed>, PublishError>;

    /// Publishes events in this order: none is stored before all earlier ones were tried. An invalid event does not stop the
    /// others. When the broker is out of reach, some events at the beginning may have been stored; a retry of all of them
    /// with the same ids keeps the order.
    async fn publish_all(&self, events: Vec<Publication>) -> Result<Outcomes, Unavailable> {
        let mut outcomes = Vec::with_capacity(events.len());
        for event in events {
            match self.publish(event).await {
                // The events behind this one must not be stored before it.
                Err(PublishError::Unavailable(outage)) => return Err(outage),
                outcome => outcomes.push(outcome),
            }
        }
        Ok(outcomes)
    }

    /// Sends a room's entries to the event channel from now on. A second call changes nothing.
    async fn subscribe(&self, room: &Room) -> Result<(), Unavailable>;

    /// Unsubscribes from a room, after all earlier requests. False when the queue is full and the caller must retry later.
    fn unsubscribe(&self, room: &Room) -> bool;

    /// Reads at most `limit` entries of a room, from an offset or a time on. For live delivery, which waits for the result.
    async fn history(&self, room: &Room, from: Start, limit: usize) -> Result<History, ReadError>;

    /// Reads a room for a client. Clients that ask for the same room at the same time share one read, which begins after
    /// each of them asked. Such reads do not delay live delivery.
    async fn read_for_client(&self, room: &Room, portion: HistoryRequest) -> Result<Resumed, Unavailable> {
        let history = self.history(room, portion.from, portion.events).await?;
        Ok(history.cut_to_bytes(portion.bytes).into_shared())
    }

    /// The newest event of each key that a room keeps beside its history, none older than the class's `ttl`, in the order
    /// of their stamps. It is a read of its own, so it need not agree with a history read at the same time.
    async fn latest(&self, room: &Room) -> Result<Vec<Entry>, Unavailable>;

    /// The state of each of these rooms, without their entries, in one round trip. With a single room, a room that cannot be
    /// read is an error. With several, it has no last offset, and a read of its history gives the reason.
    async fn facts(&self, rooms: &[Room]) -> Result<Vec<RoomFacts>, Unavailable>;

    /// The state of the broker, without a round trip.
    fn health(&self) -> Health;
}

impl dyn Broker {
    /// The [facts](Broker::facts) of one room.
    ///
    /// # Errors
    /// When the broker is out of reach, or this room cannot be read.
    pub async fn facts_of(&self, room: &Room) -> Result<RoomFacts, Unavailable> {
        let facts = self.facts(std::slice::from_ref(room)).await?;
        facts.into_iter().next().ok_or_else(|| Unavailable("it said nothing of the room".to_owned()))
    }
}
