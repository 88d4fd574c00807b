//! Drafts: an event as its publisher wrote it, parsed once and validated.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use fields::{DraftFields, MaybeOwned};

use crate::event::{EventId, EventType, InvalidName, Priority};
use crate::json::{self, JsonFault};
use crate::limits::JSON_DEPTH;

mod fields;

/// The bound below which every JSON reader keeps integers exact: 2^53.
const EXACT: f64 = 9_007_199_254_740_992.0;
/// Levels of the whole event: its own, and those of its payload or `meta`.
const LEVELS: usize = JSON_DEPTH + 1;

/// An event as its publisher wrote it. `payload` is the publisher's text, byte for byte.
#[derive(Debug)]
pub struct Draft<'a> {
    /// The publisher's own id, if it set one.
    pub id: Option<EventId>,
    /// The event's type.
    pub kind: EventType,
    /// The priority: the publisher's, or the type's default.
    pub priority: Priority,
    /// Milliseconds since the Unix epoch, as the publisher wrote it.
    pub timestamp: Option<u64>,
    /// Any JSON.
    pub payload: &'a RawValue,
    /// The publisher's `meta`, without the names that belong to the gateway.
    pub meta: Meta<'a>,
}

/// Why a text is not a valid event. Its `Display` repeats nothing of the text, so it may be logged.
#[derive(Debug, thiserror::Error)]
pub enum InvalidEvent {
    /// Not UTF-8.
    #[error("the event is not valid UTF-8")]
    Utf8,
    /// Not JSON, not an object, a field missing, doubled or of the wrong kind.
    #[error("the event is no JSON object of the right form: {}", message_without_values(.0))]
    Form(#[from] serde_json::Error),
    /// The type or the id breaks the rule for names.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// The JSON is valid, but not readable for every client.
    #[error("the event's JSON cannot be passed on: {0}")]
    Json(#[from] JsonFault),
    /// Not a whole number of milliseconds.
    #[error("an event's timestamp is a whole number of milliseconds since 1970")]
    Timestamp,
}

impl InvalidEvent {
    /// The reason for the publisher of the text. It may quote a part of it.
    #[must_use]
    pub fn to_its_publisher(&self) -> String {
        match self {
            Self::Form(error) => format!("the event is no JSON object of the right form: {error}"),
            Self::Utf8 | Self::Name(_) | Self::Json(_) | Self::Timestamp => self.to_string(),
        }
    }
}

/// The parser's message without quotes from the text: messages about values contain them.
fn message_without_values(error: &serde_json::Error) -> String {
    let said = error.to_string();
    if !error.is_data()
        // These are fixed texts, which quote nothing.
        || ["missing field", "duplicate field", json::NO_OBJECT].iter().any(|lead| said.starts_with(lead))
    {
        return said;
    }
    format!("a value is of the wrong kind at line {} column {}", error.line(), error.column())
}

impl<'a> Draft<'a> {
    /// Parses the JSON text of an event.
    ///
    /// # Errors
    /// When it is not UTF-8, not a JSON object of the right form, breaks a rule of names, or is not I-JSON.
    pub fn parse(text: &'a [u8]) -> Result<Self, InvalidEvent> {
        let text = std::str::from_utf8(text).map_err(|_| InvalidEvent::Utf8)?;
        let fields: DraftFields<'a> = json::object(text)?;
        let kind: EventType = fields.kind.parse()?;
        // Behind the parse, which guarantees well-formed JSON; the check relies on it.
        json::check_json(text, LEVELS)?;
        Ok(Self {
            id: fields.id.map(|id| id.parse()).transpose()?,
            priority: fields.priority.unwrap_or_else(|| kind.default_priority()),
            timestamp: fields.timestamp.map(parse_millis).transpose()?,
            kind,
            payload: fields.payload,
            meta: fields.meta.unwrap_or_default(),
        })
    }

    /// A payload member that is a string or a number, as text. A number keeps its spelling, since floats would merge
    /// neighbouring long ones.
    #[must_use]
    pub fn payload_text(&self, member: &str) -> Option<String> {
        let raw = self.payload_members().remove(member)?.get();
        if is_number(raw) {
            return Some(raw.to_owned());
        }
        serde_json::from_str(raw).ok()
    }

    /// The payload's members as raw JSON; none when it is not an object. A value that cannot be parsed, such as a
    /// number beyond all floats, does not affect the others.
    #[must_use]
    pub fn payload_members(&self) -> HashMap<String, &'a RawValue> {
        serde_json::from_str(self.payload.get()).unwrap_or_default()
    }
}

/// Parses a timestamp as the Redis function does, where every number is a float: the nearest to what is written.
fn parse_millis(raw: &RawValue) -> Result<u64, InvalidEvent> {
    let number = is_number(raw.get()).then(|| raw.get().parse::<f64>().ok()).flatten();
    let whole = number.filter(|ms| (0.0..=EXACT).contains(ms) && ms.fract() == 0.0);
    whole.map(|ms| ms as u64).ok_or(InvalidEvent::Timestamp)
}

/// Whether a JSON value is a number.
fn is_number(raw: &str) -> bool {
    raw.starts_with(|first: char| first == '-' || first.is_ascii_digit())
}

/// A publisher's `meta` in its order. `room`, `offset` and `offsets` are dropped by the parser, because the gateway
/// sets them.
#[derive(Debug, Default)]
pub struct Meta<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl Meta<'_> {
    /// Writes the members, each with a comma behind it, so that the gateway's can follow.
    pub(crate) fn write(&self, out: &mut String) {
        for (name, value) in &self.0 {
            out.push_str(&serde_json::Value::from(name.as_ref()).to_string());
            out.push(':');
            out.push_str(value.get());
            out.push(',');
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Meta<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(MetaVisitor)
    }
}

struct MetaVisitor;

impl<'de> Visitor<'de> for MetaVisitor {
    type Value = Meta<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Meta<'de>, A::Error> {
        let mut members: Vec<(Cow<'de, str>, &'de RawValue)> = Vec::new();
        while let Some((MaybeOwned(name), value)) = map.next_entry::<MaybeOwned<'de>, &'de RawValue>()? {
            // A publisher must not be able to claim another room or offset.
            if matches!(name.as_ref(), "room" | "offset" | "offsets") {
                continue;
            }
            match members.iter_mut().find(|(known, _)| *known == name) {
                // As JSON readers do with a repeated name: the last value counts, and clients see the name once.
                Some(member) => member.1 = value,
                None => members.push((name, value)),
            }
        }
        Ok(Meta(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_event_is_read() {
        let text = br#"{"id":"a-1","type":"x.y","priority":"LOW","timestamp":5,"payload":{ "n" : 9007199254740993 },"meta":{"source":"api","room":"forged","offset":"9-9","offsets":{}},"more":1}"#;
        let draft = Draft::parse(text).expect("it is valid");
        assert_eq!(draft.payload.get(), r#"{ "n" : 9007199254740993 }"#);
        let mut meta = String::new();
        draft.meta.write(&mut meta);
        assert_eq!(meta, r#""source":"api","#);
        assert_eq!((draft.priority, draft.timestamp), (Priority::Low, Some(5)));
    }

    #[test]
    fn bad_events_are_refused() {
        let deep = format!(r#"{{"type":"x","payload":{}1{}}}"#, "[".repeat(65), "]".repeat(65));
        let long = format!(r#"{{"type":"x","payload":{{"a":[-{}]}}}}"#, "9".repeat(100));
        let texts: [&[u8]; 33] = [
            b"",
            b"null",
            b"[]",
            br#"["id","x","LOW",5,1,{}]"#,
            br#" [null,"x",null,null,1,null]"#,
            b"\"x\"",
            b"{}",
            b"{\"type\":\"x\"}",
            b"{\"payload\":1}",
            br#"{"type":"","payload":1}"#,
            br#"{"type":"a b","payload":1}"#,
            br#"{"type":5,"payload":1}"#,
            br#"{"type":"connect","payload":1}"#,
            br#"{"type":"x","payload":NaN}"#,
            br#"{"type":"x","payload":0x10}"#,
            br#"{"type":"x","payload":01}"#,
            br#"{"type":"x","payload":1.}"#,
            b"{\"type\":\"x\",\"payload\":\"\xff\"}",
            br#"{"type":"x","payload":"\ud800"}"#,
            br#"{"type":"x","type":"y","payload":1}"#,
            br#"{"type":"x","payload":1,"priority":"urgent"}"#,
            br#"{"type":"x","payload":1,"timestamp":-1}"#,
            br#"{"type":"x","payload":1,"timestamp":1.5}"#,
            br#"{"type":"x","payload":1,"meta":[]}"#,
            br#"{"type":"x","payload":1} x"#,
            br#"{"type":"x","payload":1,"id":"a b"}"#,
            br#"{"type":"x","payload":1,"more":1,"more":2}"#,
            br#"{"type":"x","payload":1,"id":null,"\u0069d":"a"}"#,
            br#"{"type":"x","payload":1,"more":"\ud800"}"#,
            br#"{"type":"x","payload":1,"timestamp":9007199254740994}"#,
            br#"{"type":null,"payload":1}"#,
            deep.as_bytes(),
            long.as_bytes(),
        ];
        for text in texts {
            assert!(Draft::parse(text).is_err(), "{}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn a_reason_repeats_the_text_to_its_publisher_only() {
        for text in [
            r#""hidden""#,
            r#"{"type":["hidden"],"payload":1}"#,
            r#"{"type":"x","payload":1,"meta":"hidden"}"#,
            r#"{"type":"x","payload":1,"priority":"hidden"}"#,
            r#"{"type":"x","payload":1,"timestamp":"hidden"}"#,
            r#"{"type":"hidden x","payload":1}"#,
            r#"{"type":"x","payload":"hidden"#,
        ] {
            let shown = Draft::parse(text.as_bytes()).expect_err(text).to_string();
            assert!(!shown.contains("hidden"), "{shown}");
        }
        let refused = Draft::parse(br#"{"type":"x","payload":1,"priority":"urgent"}"#).expect_err("no such priority");
        assert!(refused.to_its_publisher().contains("urgent"));
        let refused = Draft::parse(br#"{"type":"x"}"#).expect_err("no payload");
        assert!(refused.to_string().contains("missing field `payload`"));
    }

    #[test]
    fn odd_but_valid_events_are_read() {
        let deep = format!(r#"{{"type":"x","payload":{}1{}}}"#, "[".repeat(64), "]".repeat(64));
        let texts = [
            r#"{"type":"x","payload":null}"#,
            r#" { "type" : "x" , "payload" : 1e-7 } "#,
            r#"{"type":"x","payload":1,"id":null,"meta":null}"#,
            r#"{"type":"x","payload":1,"timestamp":1.7e12}"#,
            r#"{"type":"x","payload":9007199254740993,"timestamp":9007199254740993,"more":{"type":1}}"#,
            r#"{"type":"order\u002estatus","payload":"😀 \ud83d\ude00","meta":{"a\"b":{"c":[1]}}}"#,
            &deep,
        ];
        for text in texts {
            assert!(Draft::parse(text.as_bytes()).is_ok(), "{text}");
        }
    }
}
