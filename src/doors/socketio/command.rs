//! Commands as clients send them: `["join_room",{"room":"order:o1"}]`, read and checked.

use hallway_rooms::close::Refusal;
use hallway_rooms::history::From;
use hallway_rooms::limits::PAGE_EVENTS;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::service::Window;

/// A command as it came: not a valid packet closes the transport, anything else is answered.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) verb: Result<Verb, Refusal>,
    /// Where the reply goes, if the client wants one.
    pub(super) ack: Option<i64>,
}

/// What a client may ask for.
#[derive(Debug, PartialEq)]
pub(super) enum Verb {
    Join { room: String, from: Option<From> },
    Leave { room: String },
    Missed { room: String, window: Window },
}

/// A packet whose JSON is broken.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl Command {
    /// Reads the array of an EVENT packet.
    pub(super) fn parse(packet: &str, ack: Option<i64>) -> Result<Self, Malformed> {
        let parts: Vec<&RawValue> = serde_json::from_str(packet).map_err(|_| Malformed)?;
        let name = parts.first().and_then(|name| serde_json::from_str::<String>(name.get()).ok()).ok_or(Malformed)?;
        let argument = parts.get(1).and_then(|raw| serde_json::from_str::<Map<String, Value>>(raw.get()).ok());
        Ok(Self { verb: verb(&name, argument), ack })
    }
}

fn verb(name: &str, argument: Option<Map<String, Value>>) -> Result<Verb, Refusal> {
    let known = matches!(name, "join_room" | "leave_room" | "get_missed_events");
    if !known {
        return Err(Refusal::UnknownCommand);
    }
    let argument = argument.ok_or(Refusal::InvalidPayload)?;
    let room = argument.get("room").and_then(Value::as_str).ok_or(Refusal::InvalidPayload)?.to_owned();
    match name {
        "join_room" => Ok(Verb::Join { room, from: from(&argument)? }),
        "leave_room" => Ok(Verb::Leave { room }),
        _ => {
            let from = from(&argument)?.ok_or(Refusal::InvalidPayload)?;
            Ok(Verb::Missed { room, window: Window { from, limit: limit(&argument)? } })
        }
    }
}

/// A member that is there and not null.
fn given<'a>(argument: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    argument.get(name).filter(|value| !value.is_null())
}

fn from(argument: &Map<String, Value>) -> Result<Option<From>, Refusal> {
    match (given(argument, "after"), given(argument, "since")) {
        (None, None) => Ok(None),
        (Some(after), None) => {
            let offset = after.as_str().and_then(|text| text.parse().ok());
            offset.map(|offset| Some(From::After(offset))).ok_or(Refusal::InvalidPayload)
        }
        (None, Some(since)) => whole(since).map(|ms| Some(From::Since(ms))).ok_or(Refusal::InvalidPayload),
        (Some(_), Some(_)) => Err(Refusal::InvalidPayload),
    }
}

fn limit(argument: &Map<String, Value>) -> Result<usize, Refusal> {
    let Some(limit) = given(argument, "limit") else { return Ok(PAGE_EVENTS) };
    let limit = whole(limit).and_then(|n| usize::try_from(n).ok());
    limit.filter(|n| (1..=PAGE_EVENTS).contains(n)).ok_or(Refusal::InvalidPayload)
}

/// A whole number, also one that a client wrote as `5.0`.
fn whole(value: &Value) -> Option<u64> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be whole and positive")]
    let from_float = |f: f64| (f >= 0.0 && f.fract() == 0.0 && f < 1e16).then_some(f as u64);
    value.as_u64().or_else(|| value.as_f64().and_then(from_float))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(packet: &str, expected: Result<Verb, Refusal>) {
        let command = Command::parse(packet, None).expect("the JSON is fine");
        assert_eq!(command.verb, expected, "{packet}");
    }

    #[test]
    fn commands_are_read() {
        let room = || "order:1".to_owned();
        check(r#"["join_room",{"room":"order:1"}]"#, Ok(Verb::Join { room: room(), from: None }));
        check(
            r#"["join_room",{"room":"order:1","after":"5-1"},"more"]"#,
            Ok(Verb::Join { room: room(), from: Some(From::After("5-1".parse().expect("an offset"))) }),
        );
        let window = Window { from: From::Since(5), limit: 1000 };
        check(r#"["get_missed_events",{"room":"order:1","since":5.0}]"#, Ok(Verb::Missed { room: room(), window }));
        check(r#"["leave_room",{"room":"order:1","x":1}]"#, Ok(Verb::Leave { room: room() }));
    }

    #[test]
    fn what_does_not_have_the_commands_shape_is_an_invalid_payload() {
        for argument in [
            "",
            ",null",
            ",[]",
            ",\"x\"",
            ",5",
            ",{}",
            ",{\"room\":5}",
            ",{\"room\":null}",
            ",{\"room\":\"order:1\",\"since\":-1}",
            ",{\"room\":\"order:1\",\"since\":1.5}",
            ",{\"room\":\"order:1\",\"since\":\"1\"}",
            ",{\"room\":\"order:1\",\"after\":5}",
            ",{\"room\":\"order:1\",\"after\":\"x\"}",
            ",{\"room\":\"order:1\",\"after\":\"1-1\",\"since\":1}",
        ] {
            check(&format!("[\"join_room\"{argument}]"), Err(Refusal::InvalidPayload));
        }
        for rest in ["", ",\"since\":1,\"limit\":0", ",\"since\":1,\"limit\":1001", ",\"since\":1,\"limit\":\"5\""] {
            check(&format!("[\"get_missed_events\",{{\"room\":\"order:1\"{rest}}}]"), Err(Refusal::InvalidPayload));
        }
        check(r#"["fly_away",{}]"#, Err(Refusal::UnknownCommand));
    }

    #[test]
    fn broken_json_is_malformed() {
        for packet in ["", "[", "{}", "[5]", r#"["join_room",{"room":NaN}]"#, r#"["join_room",{"room":"a"}"#] {
            assert_eq!(Command::parse(packet, None).map(|_| ()), Err(Malformed), "{packet}");
        }
    }
}
