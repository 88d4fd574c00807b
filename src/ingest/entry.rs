//! Parsing entries: separate fields, or one field `event` with the JSON that `POST /v1/publish` takes.

use hallway_rooms::class::Delivery;
use hallway_rooms::close::Refusal;
use hallway_rooms::event::EventId;
use serde_json::value::RawValue;

use crate::service::publish::{PublishRefused, PublishRequest, compose};

/// Names and values in the order of the entry.
pub(super) type StreamFields = Vec<(Vec<u8>, Vec<u8>)>;

/// The separate fields as text, before any is parsed.
#[derive(Default)]
struct FlatFields<'a> {
    room: Option<&'a str>,
    kind: Option<&'a str>,
    payload: Option<&'a str>,
    id: Option<&'a str>,
    priority: Option<&'a str>,
    timestamp: Option<&'a str>,
    meta: Option<&'a str>,
    requires_ack: Option<&'a str>,
    delivery: Option<&'a str>,
}

/// Parses an entry. `id` is the entry's own, and becomes the event's where that has none.
pub(super) fn parse_entry(id: &str, fields: &StreamFields) -> Result<PublishRequest, PublishRefused> {
    let mut request = match fields.as_slice() {
        [(name, json)] if name == b"event" => PublishRequest::parse(text("event", json)?)?,
        fields => parse_flat(fields)?.into_request()?,
    };
    request.spare_id = derived_id(id);
    Ok(request)
}

/// The same for every read of the entry, so that an entry read twice is stored once.
fn derived_id(entry: &str) -> Option<EventId> {
    format!("ingest:{entry}").parse().ok()
}

fn parse_flat(fields: &[(Vec<u8>, Vec<u8>)]) -> Result<FlatFields<'_>, PublishRefused> {
    let mut flat = FlatFields::default();
    for (name, value) in fields {
        let slot = match name.as_slice() {
            b"room" => &mut flat.room,
            b"type" => &mut flat.kind,
            b"payload" => &mut flat.payload,
            b"id" => &mut flat.id,
            b"priority" => &mut flat.priority,
            b"timestamp" => &mut flat.timestamp,
            b"meta" => &mut flat.meta,
            b"requires_ack" => &mut flat.requires_ack,
            b"delivery" => &mut flat.delivery,
            // Both forms together would leave open which one wins.
            b"event" => return Err(invalid("the field `event` stands alone: everything else goes into its JSON")),
            // Refused rather than ignored: a misspelled optional field would be lost without a word.
            _ => return Err(unknown(name)),
        };
        let name = String::from_utf8_lossy(name);
        // Redis allows a repeated field; picking one of the two would be a guess.
        if slot.replace(text(&name, value)?).is_some() {
            return Err(invalid(format!("the field `{name}` is given twice")));
        }
    }
    Ok(flat)
}

impl FlatFields<'_> {
    fn into_request(self) -> Result<PublishRequest, PublishRefused> {
        let kind = self.kind.ok_or_else(|| invalid("the field `type` is missing"))?;
        let payload = self.payload.ok_or_else(|| invalid("the field `payload` is missing"))?;
        // Plain texts in the entry, JSON strings in the event.
        let (kind, id, priority) = (quote_json(kind), self.id.map(quote_json), self.priority.map(quote_json));
        let members = [
            ("type", Some(kind.as_str())),
            ("payload", Some(json("payload", payload)?)),
            ("id", id.as_deref()),
            ("priority", priority.as_deref()),
            ("timestamp", self.timestamp.map(|text| json("timestamp", text)).transpose()?),
            ("meta", self.meta.map(|text| json("meta", text)).transpose()?),
        ];
        // Keys contain no blank, so one field can list several rooms.
        let keys = self.room.unwrap_or_default().split(' ').filter(|key| !key.is_empty());
        Ok(PublishRequest {
            rooms: keys.map(str::to_owned).collect(),
            text: compose(&members),
            requires_ack: self.requires_ack.map_or(Ok(false), parse_flag)?,
            delivery: self.delivery.map(parse_delivery).transpose()?,
            spare_id: None,
        })
    }
}

fn text<'a>(name: &str, value: &'a [u8]) -> Result<&'a str, PublishRefused> {
    std::str::from_utf8(value).map_err(|_| invalid(format!("the field `{name}` is not valid UTF-8")))
}

/// Accepts one JSON value and nothing behind it: no field can add members to the event.
fn json<'a>(name: &str, text: &'a str) -> Result<&'a str, PublishRefused> {
    let value: Result<&'a RawValue, _> = serde_json::from_str(text);
    value.map(RawValue::get).map_err(|error| invalid(format!("the field `{name}` is not one JSON value: {error}")))
}

fn quote_json(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn parse_flag(text: &str) -> Result<bool, PublishRefused> {
    match text {
        "1" | "true" => Ok(true),
        "0" | "false" => Ok(false),
        _ => Err(invalid("the field `requires_ack` is 1 or 0")),
    }
}

fn parse_delivery(text: &str) -> Result<Delivery, PublishRefused> {
    let value = serde_json::from_value(text.into());
    value.map_err(|_| invalid("the field `delivery` is durable, latest or ephemeral"))
}

fn unknown(name: &[u8]) -> PublishRefused {
    // Bounded, since the name is the publisher's and ends up in a reason and a log.
    let name: String = String::from_utf8_lossy(name).chars().take(64).collect();
    let known = "room, type, payload, id, priority, timestamp, meta, requires_ack and delivery, or event alone";
    invalid(format!("there is no field {name:?}; there are {known}"))
}

fn invalid(message: impl Into<String>) -> PublishRefused {
    PublishRefused::new(Refusal::InvalidEvent, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(words: &[&str]) -> StreamFields {
        words.chunks(2).map(|pair| (pair[0].as_bytes().to_vec(), pair[1].as_bytes().to_vec())).collect()
    }

    #[test]
    fn both_forms_say_the_same() {
        let flat = fields(&[
            "room",
            " order:1  user:2",
            "type",
            "a\"b",
            "payload",
            " {\"n\": 1} ",
            "id",
            "e",
            "priority",
            "LOW",
            "timestamp",
            "5",
            "meta",
            "{\"a\":1}",
            "requires_ack",
            "1",
            "delivery",
            "ephemeral",
        ]);
        let json = r#"{"rooms":["order:1","user:2"],"type":"a\"b","payload":{"n": 1},"id":"e","priority":"LOW","timestamp":5,"meta":{"a":1},"requiresAck":true,"delivery":"ephemeral"}"#;
        let (flat, whole) = (parse_entry("1-0", &flat), parse_entry("1-0", &fields(&["event", json])));
        let (flat, whole) = (flat.expect("it is good"), whole.expect("it is good"));
        assert_eq!(
            flat.text,
            r#"{"type":"a\"b","payload":{"n": 1},"id":"e","priority":"LOW","timestamp":5,"meta":{"a":1}}"#
        );
        assert_eq!(format!("{flat:?}"), format!("{whole:?}"));
        assert_eq!(flat.spare_id.expect("derived").as_str(), "ingest:1-0");
    }

    #[track_caller]
    fn check(words: &[&str], reason: &str) {
        let refused = parse_entry("1-0", &fields(words)).expect_err("it is bad");
        assert_eq!(refused.refusal, Refusal::InvalidEvent);
        assert!(refused.message.contains(reason), "{}", refused.message);
    }

    #[test]
    fn bad_entries_are_refused() {
        check(&["type", "t"], "`payload` is missing");
        check(&["payload", "1"], "`type` is missing");
        check(&["type", "t", "payload", "1", "type", "t"], "`type` is given twice");
        check(&["type", "t", "payload", "1", "colour", "red"], "no field \"colour\"");
        check(&["type", "t", "payload", "1", "event", "{}"], "stands alone");
        check(&["type", "t", "payload", "1,\"id\":\"x\""], "`payload` is not one JSON value");
        check(&["type", "t", "payload", "1}{"], "`payload` is not one JSON value");
        check(&["type", "t", "payload", ""], "`payload` is not one JSON value");
        check(&["type", "t", "payload", "1", "meta", "{},\"id\":1"], "`meta` is not one JSON value");
        check(&["type", "t", "payload", "1", "timestamp", "1,2"], "`timestamp` is not one JSON value");
        check(&["type", "t", "payload", "1", "requires_ack", "yes"], "1 or 0");
        check(&["type", "t", "payload", "1", "delivery", "twice"], "durable, latest or ephemeral");
        check(&["event", "{"], "EOF");
        check(&["event", r#"{"room":"order:1","type":"t","payload":1,"more":1}"#], "unknown field");
    }
}
