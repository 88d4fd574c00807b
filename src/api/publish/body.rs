//! The bodies of publishing, for the OpenAPI document. Requests are not parsed into these types, so that a payload
//! passes byte for byte.
#![expect(dead_code, reason = "they describe what `Request::parse` reads, and are never made")]

use serde_json::Value;
use utoipa::ToSchema;

/// An event with its rooms.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(super) struct EventBody {
    /// The room, if it is a single one: words and ids, joined by colons. An id is 1 to 128 letters, digits and
    /// `_ . ~ - | @ + = % , ! $ & ' ( ) * ; /`.
    #[schema(example = "order:ord_123")]
    room: Option<String>,
    /// The rooms. Without any, some types derive them from the payload.
    rooms: Option<Vec<String>>,
    /// The event's type: 1 to 128 letters, digits and `_ . : -`.
    #[schema(example = "order.status_changed", pattern = "^[A-Za-z0-9_.:-]{1,128}$")]
    r#type: String,
    /// Any JSON; it passes byte for byte. A number has at most 100 characters.
    #[schema(example = json!({"orderId": "ord_123", "status": "ready"}))]
    payload: Value,
    /// The event's id: publishing it again stores it once.
    #[schema(pattern = "^[A-Za-z0-9_.:-]{1,128}$")]
    id: Option<String>,
    /// How urgent the event is.
    priority: Option<Priority>,
    /// When it happened, in epoch milliseconds; a later time becomes the broker's.
    timestamp: Option<u64>,
    /// An object that is passed on.
    #[schema(value_type = Option<Object>)]
    meta: Option<Value>,
    /// Whether receivers are asked to acknowledge it.
    requires_ack: Option<bool>,
    /// Its delivery, if not that of its type and rooms.
    delivery: Option<Delivery>,
}

/// Events to publish in this order.
#[derive(ToSchema)]
pub(super) struct BatchBody {
    /// At most `api.batch_events` of the configuration.
    events: Vec<EventBody>,
}

/// How urgent an event is.
#[derive(ToSchema)]
#[schema(rename_all = "UPPERCASE")]
enum Priority {
    Low,
    Normal,
    High,
    Critical,
}

/// The delivery of an event: kept and never skipped, only the last one per key kept, or not kept.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
enum Delivery {
    Durable,
    Latest,
    Ephemeral,
}
