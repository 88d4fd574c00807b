//! The JSON in which services name an event together with its rooms: the body of `POST /v1/publish`.

use std::borrow::Cow;

use hallway_rooms::class::Delivery;
use hallway_rooms::close::Refusal;
use hallway_rooms::event::Priority;
use hallway_rooms::json;
use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::{PublishRefused, PublishRequest};

/// An event with its rooms.
// The event's own members stay raw, because a payload passes byte for byte; `Draft` checks them. What `OpenAPI` says of them
// stands beside them.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EventBody<'a> {
    /// The room, where it is one: words and ids, joined by colons. An id is 1 to 128 letters, digits and
    /// `_ . ~ - | @ + = % , ! $ & ' ( ) * ; /`.
    #[serde(default)]
    #[schema(example = "order:ord_123")]
    room: Option<String>,
    /// The rooms. Without any, some types derive them from the payload.
    #[serde(default)]
    rooms: Option<Vec<String>>,
    /// What happened: 1 to 128 of letters, digits and `_ . : -`.
    #[serde(borrow)]
    #[schema(value_type = String, example = "order.status_changed", pattern = "^[A-Za-z0-9_.:-]{1,128}$")]
    r#type: &'a RawValue,
    /// Any JSON; it passes byte for byte. A number has at most 100 characters.
    #[serde(borrow)]
    #[schema(value_type = Value, example = json!({"orderId": "ord_123", "status": "ready"}))]
    payload: &'a RawValue,
    /// Names the event, so that publishing it again stores it once.
    #[serde(borrow, default)]
    #[schema(value_type = Option<String>, pattern = "^[A-Za-z0-9_.:-]{1,128}$")]
    id: Option<&'a RawValue>,
    /// How urgent it is.
    #[serde(borrow, default)]
    #[schema(value_type = Option<PriorityName>)]
    priority: Option<&'a RawValue>,
    /// When it happened, epoch milliseconds; the broker's clock at the latest.
    #[serde(borrow, default)]
    #[schema(value_type = Option<u64>)]
    timestamp: Option<&'a RawValue>,
    /// An object to pass on.
    #[serde(borrow, default)]
    #[schema(value_type = Option<Object>)]
    meta: Option<&'a RawValue>,
    /// Whether receivers are asked to acknowledge it.
    #[serde(default, rename = "requiresAck")]
    requires_ack: Option<bool>,
    /// How it is delivered, if not as its type and rooms say.
    #[serde(default)]
    #[schema(value_type = Option<DeliveryName>)]
    delivery: Option<Delivery>,
}

/// [`Priority`] in the document. The crate of the rules knows nothing of `OpenAPI`.
struct PriorityName;

/// [`Delivery`] in the document.
struct DeliveryName;

impl PartialSchema for PriorityName {
    fn schema() -> RefOr<Schema> {
        one_of("How urgent an event is.", Priority::ALL.map(Priority::as_str))
    }
}

impl ToSchema for PriorityName {
    fn name() -> Cow<'static, str> {
        "Priority".into()
    }
}

impl PartialSchema for DeliveryName {
    fn schema() -> RefOr<Schema> {
        let meaning = "How an event is delivered: kept and never skipped, only the newest kept, or not kept.";
        one_of(meaning, Delivery::ALL.map(Delivery::as_str))
    }
}

impl ToSchema for DeliveryName {
    fn name() -> Cow<'static, str> {
        "Delivery".into()
    }
}

fn one_of<const N: usize>(meaning: &str, names: [&str; N]) -> RefOr<Schema> {
    ObjectBuilder::new().schema_type(Type::String).description(Some(meaning)).enum_values(Some(names)).into()
}

impl PublishRequest {
    /// Parses an event with its rooms.
    ///
    /// # Errors
    /// `invalid-event` when the text is not JSON of this form.
    pub fn parse(text: &str) -> Result<Self, PublishRefused> {
        let body = json::object::<EventBody<'_>>(text);
        body.map(EventBody::into_request).map_err(|e| PublishRefused::new(Refusal::InvalidEvent, e.to_string()))
    }
}

impl EventBody<'_> {
    fn into_request(self) -> PublishRequest {
        let fields = [
            ("type", Some(self.r#type)),
            ("payload", Some(self.payload)),
            ("id", self.id),
            ("priority", self.priority),
            ("timestamp", self.timestamp),
            ("meta", self.meta),
        ];
        let mut rooms = self.rooms.unwrap_or_default();
        rooms.extend(self.room);
        let text = compose(&fields.map(|(name, raw)| (name, raw.map(RawValue::get))));
        let requires_ack = self.requires_ack.unwrap_or_default();
        PublishRequest { rooms, text, requires_ack, delivery: self.delivery, spare_id: None }
    }
}

/// Writes an event's JSON from the members that are present. The caller guarantees that each value is JSON.
#[must_use]
pub fn compose(members: &[(&str, Option<&str>)]) -> String {
    let size = members.iter().map(|(name, value)| name.len() + value.map_or(0, str::len) + 4).sum::<usize>();
    let mut text = String::with_capacity(size + 2);
    text.push('{');
    for (name, value) in members.iter().filter_map(|(name, value)| Some((name, (*value)?))) {
        if text.len() > 1 {
            text.push(',');
        }
        text.extend(["\"", name, "\":", value]);
    }
    text.push('}');
    text
}
