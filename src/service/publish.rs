//! Publishing for services, over HTTP or from the ingest stream.

use std::time::Instant;

use hallway_rooms::class::Delivery;
use hallway_rooms::close::Refusal;
use hallway_rooms::draft::Draft;
use hallway_rooms::event::EventId;
use hallway_rooms::form::is_id;
use hallway_rooms::key::Room;
use hallway_rooms::limits::ROOMS_PER_EVENT;
use metrics::{counter, histogram};

use super::Service;
use crate::broker::{Outcomes, Placed, Publication, PublishError, event_id};
use crate::logs;
use crate::metrics::limit::Limit;

mod body;

pub use body::{EventBody, compose};

/// The source of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishSource {
    /// `POST /v1/publish` and its like.
    Http,
    /// The ingest stream.
    Ingest,
}

impl PublishSource {
    /// The metric's label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Ingest => "ingest",
        }
    }

    /// Logs an outage of an HTTP publish. The ingest reader reports its own failures, once for each outage.
    fn log_failure(self, error: &PublishError) {
        if self == Self::Http && matches!(error, PublishError::Unavailable(_) | PublishError::Failed(_)) {
            tracing::warn!(event = logs::PUBLISH_FAILED, %error, "an event could not be published");
        }
    }
}

/// An event as a service wrote it.
#[derive(Clone, Debug)]
pub struct PublishRequest {
    /// The rooms. When empty, they are derived from type and payload.
    pub rooms: Vec<String>,
    /// The event's JSON: `type`, `payload` and the optional members.
    pub text: String,
    /// Whether receivers are asked for an acknowledgement.
    pub requires_ack: bool,
    /// The requested delivery; none leaves it to the type and the room classes.
    pub delivery: Option<Delivery>,
    /// The id to use where the event has none. The ingest reader derives it from the entry, so that a second read
    /// stores nothing.
    pub spare_id: Option<EventId>,
}

/// An event that has been stored or sent.
#[derive(Clone, Debug)]
pub struct PublishedEvent {
    /// The id: the publisher's, or a generated one.
    pub id: EventId,
    /// The event's offset in each room.
    pub placed: Vec<Placed>,
}

/// A refused event.
#[derive(Clone, Debug)]
pub struct PublishRefused {
    /// The error code.
    pub refusal: Refusal,
    /// A sentence for the publisher.
    pub message: String,
    /// The id to retry with, when the event may have been stored.
    pub id: Option<EventId>,
}

impl PublishRefused {
    /// A refusal with its message and without an id.
    #[must_use]
    pub fn new(refusal: Refusal, message: impl Into<String>) -> Self {
        Self { refusal, message: message.into(), id: None }
    }
}

impl Service {
    /// Validates an event and passes it to the broker.
    ///
    /// # Errors
    /// When the event or a room is invalid, or the broker cannot be reached.
    pub async fn publish_event(&self, request: PublishRequest) -> Result<PublishedEvent, PublishRefused> {
        let began = Instant::now();
        let publication = self.prepare_publication(request)?;
        let id = publication.id.clone();
        let placed = self
            .0
            .broker
            .publish(publication)
            .await
            .inspect_err(|error| PublishSource::Http.log_failure(error))
            .map_err(|error| to_refused(error, &id))?;
        counter!(crate::metrics::EVENTS_PUBLISHED, "source" => PublishSource::Http.label()).increment(1);
        histogram!(crate::metrics::PUBLISH_LATENCY).record(began.elapsed().as_secs_f64());
        Ok(PublishedEvent { id, placed })
    }

    /// Validates events and passes them to the broker in this order. An invalid event is refused in its position.
    /// When the broker cannot be reached every other event is refused as `unavailable`, with its id: publishing all
    /// of them again stores none twice and none out of order.
    pub async fn publish_all(
        &self,
        way: PublishSource,
        requests: Vec<Result<PublishRequest, PublishRefused>>,
    ) -> Vec<Result<PublishedEvent, PublishRefused>> {
        let began = Instant::now();
        let mut publications = Vec::with_capacity(requests.len());
        let mut take = |request| {
            let publication = self.prepare_publication(request?)?;
            let id = publication.id.clone();
            publications.push(publication);
            Ok(id)
        };
        // Invalid events are left out of the batch, and their refusals keep their position in the result.
        let ids: Vec<Result<EventId, PublishRefused>> = requests.into_iter().map(&mut take).collect();
        let outcomes = self.0.broker.publish_all(publications).await;
        // The ingest stream has its own lag metric; its batches would distort this one.
        if way == PublishSource::Http {
            histogram!(crate::metrics::PUBLISH_LATENCY).record(began.elapsed().as_secs_f64());
        }
        let outcomes = match outcomes {
            Ok(outcomes) => outcomes,
            // Which of the batch were stored is unknown. A retry with the same ids stores the rest.
            Err(outage) => {
                way.log_failure(&outage.into());
                return ids.into_iter().map(|id| Err(unavailable_event(&id?))).collect();
            }
        };
        let published = pair_outcomes(way, ids, outcomes);
        let stored = published.iter().filter(|outcome| outcome.is_ok()).count();
        counter!(crate::metrics::EVENTS_PUBLISHED, "source" => way.label()).increment(stored as u64);
        published
    }

    fn prepare_publication(&self, request: PublishRequest) -> Result<Publication, PublishRefused> {
        if request.text.len() > self.0.limits.event_bytes {
            Limit::EventBytes.note_reached();
            let message = format!("an event has at most {} bytes (limits.event_bytes)", self.0.limits.event_bytes);
            return Err(PublishRefused::new(Refusal::EventTooLarge, message));
        }
        let invalid = |message: String| PublishRefused::new(Refusal::InvalidEvent, message);
        let draft = Draft::parse(request.text.as_bytes()).map_err(|e| invalid(e.to_its_publisher()))?;
        let keys = if request.rooms.is_empty() { derived_rooms(&draft)? } else { request.rooms };
        let rooms = self.rooms(&keys)?;
        // The publisher's id wins, so that its own retries are recognized.
        let id = draft.id.clone().or(request.spare_id).unwrap_or_else(event_id);
        let delivery = self.narrow_delivery(request.delivery, &draft, &rooms)?;
        let text = request.text.into_bytes();
        Ok(Publication { rooms, text, id, requires_ack: request.requires_ack, delivery })
    }

    fn rooms(&self, keys: &[String]) -> Result<Vec<Room>, PublishRefused> {
        if keys.is_empty() || keys.len() > ROOMS_PER_EVENT {
            let message = format!("name 1 to {ROOMS_PER_EVENT} rooms, in `rooms` or `room`");
            return Err(PublishRefused::new(Refusal::InvalidRoom, message));
        }
        let mut rooms: Vec<Room> = Vec::with_capacity(keys.len());
        for key in keys {
            let room =
                self.0.classes.find_room(key).map_err(|e| PublishRefused::new(Refusal::InvalidRoom, e.to_string()))?;
            if !rooms.contains(&room) {
                rooms.push(room);
            }
        }
        Ok(rooms)
    }

    /// Checks a requested delivery. A publisher may lower it to `ephemeral`, and may repeat what is configured
    /// anyway.
    fn narrow_delivery(
        &self,
        asked: Option<Delivery>,
        draft: &Draft<'_>,
        rooms: &[Room],
    ) -> Result<Option<Delivery>, PublishRefused> {
        let Some(asked) = asked.filter(|asked| *asked != Delivery::Ephemeral) else { return Ok(asked) };
        let as_configured = |room: &Room| self.0.classes.delivery_of(&draft.kind, room) == asked;
        if rooms.iter().all(as_configured) {
            return Ok(None);
        }
        let message = "`delivery` can only be lowered to \"ephemeral\"; the rest is said by the room class or the type";
        Err(PublishRefused::new(Refusal::InvalidEvent, message))
    }
}

/// Puts the broker's outcomes back among the refused events, in the order of the request.
fn pair_outcomes(
    way: PublishSource,
    ids: Vec<Result<EventId, PublishRefused>>,
    outcomes: Outcomes,
) -> Vec<Result<PublishedEvent, PublishRefused>> {
    let mut outcomes = outcomes.into_iter();
    // A missing outcome is taken for an outage: the publisher retries with the same id.
    let mut next = |id: &EventId| outcomes.next().ok_or_else(|| unavailable_event(id));
    let settled = ids.into_iter().map(|id| {
        let id = id?;
        let placed = next(&id)?.inspect_err(|error| way.log_failure(error)).map_err(|error| to_refused(error, &id))?;
        Ok(PublishedEvent { id, placed })
    });
    settled.collect()
}

fn to_refused(error: PublishError, id: &EventId) -> PublishRefused {
    match error {
        PublishError::Invalid(message) => PublishRefused::new(Refusal::InvalidEvent, message),
        PublishError::TooLarge(message) => {
            Limit::EventBytes.note_reached();
            PublishRefused::new(Refusal::EventTooLarge, message)
        }
        PublishError::Failed(message) => {
            PublishRefused { id: Some(id.clone()), ..PublishRefused::new(Refusal::NotStored, message) }
        }
        PublishError::Unavailable(_) => unavailable_event(id),
    }
}

fn unavailable_event(id: &EventId) -> PublishRefused {
    // The id goes back with the refusal, as the event may have been stored before the connection broke.
    let message = "the broker is out of reach; try again with this id, and it is stored once";
    PublishRefused { id: Some(id.clone()), ..PublishRefused::new(Refusal::Unavailable, message) }
}

/// The rooms of the four built-in event types, derived from the ids in their payload: strings or whole numbers.
///
/// # Errors
/// When a string is not a valid id. An id with a colon would name a room of another class.
fn derived_rooms(draft: &Draft<'_>) -> Result<Vec<String>, PublishRefused> {
    let templates: &[(&str, &str, &str)] = match draft.kind.as_str() {
        "order.status_changed" => &[
            ("order:", "orderId", ""),
            ("user:", "customerId", ""),
            ("store:", "storeId", ""),
            ("agent:", "agentId", ""),
        ],
        "inventory.stock_updated" => &[("store:", "storeId", ""), ("product:", "productId", "")],
        "delivery.assigned" => &[("order:", "orderId", ""), ("agent:", "agentId", "")],
        "agent.location_updated" => &[("agent:", "agentId", ""), ("zone:", "zoneId", ":agents")],
        _ => &[],
    };
    let payload = draft.payload_members();
    let mut rooms = Vec::new();
    for (before, field, behind) in templates {
        let Some(id) = payload.get(*field).and_then(|raw| id_of(raw.get())) else { continue };
        // Refused rather than skipped: the publisher would believe that the room got the event.
        if !is_id(&id) {
            let message = format!("`{field}` of the payload is no id of a room: name the rooms, in `rooms` or `room`");
            return Err(PublishRefused::new(Refusal::InvalidRoom, message));
        }
        rooms.push(format!("{before}{id}{behind}"));
    }
    Ok(rooms)
}

/// The value of a JSON string, or the digits of a whole number.
fn id_of(raw: &str) -> Option<String> {
    if raw.bytes().all(|byte| byte.is_ascii_digit()) { Some(raw.to_owned()) } else { serde_json::from_str(raw).ok() }
}
