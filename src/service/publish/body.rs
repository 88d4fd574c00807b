//! The JSON in which services name an event and its rooms: the body of `POST /v1/publish`.

use hallway_rooms::class::Delivery;
use hallway_rooms::close::Refusal;
use hallway_rooms::json;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Refused, Request};

/// The fields around an event. The event's own fields are kept as raw JSON, so that they are passed on byte for byte.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body<'a> {
    #[serde(default)]
    rooms: Option<Vec<String>>,
    #[serde(default)]
    room: Option<String>,
    #[serde(rename = "type", borrow)]
    kind: &'a RawValue,
    #[serde(borrow)]
    payload: &'a RawValue,
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    priority: Option<&'a RawValue>,
    #[serde(borrow, default)]
    timestamp: Option<&'a RawValue>,
    #[serde(borrow, default)]
    meta: Option<&'a RawValue>,
    #[serde(default, rename = "requiresAck")]
    requires_ack: Option<bool>,
    #[serde(default)]
    delivery: Option<Delivery>,
}

impl Request {
    /// Parses an event with its rooms.
    ///
    /// # Errors
    /// `invalid-event` when the text is not JSON of this form.
    pub fn parse(text: &str) -> Result<Self, Refused> {
        let body = json::object::<Body<'_>>(text);
        body.map(Body::into_request).map_err(|e| Refused::new(Refusal::InvalidEvent, e.to_string()))
    }
}

impl Body<'_> {
    fn into_request(self) -> Request {
        let fields = [
            ("type", Some(self.kind)),
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
        Request { rooms, text, requires_ack, delivery: self.delivery, spare_id: None }
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
