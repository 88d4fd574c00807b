//! Parses commands as clients send them: `["join_room",{"room":"order:o1"}]`.

use std::fmt;
use std::time::Instant;

use hallway_rooms::close::Refusal;
use hallway_rooms::history::Start;
use hallway_rooms::limits::ROOM_KEY_BYTES;
use hallway_rooms::location::Location;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::auth::token::MAX_TOKEN_BYTES;
use crate::service::{Acknowledgement, WantedRoom, Window};

mod acknowledgement;
mod join_rooms;
mod location;
mod window;

/// Most bytes of a token argument: the token with `Bearer` and white space around it.
const LONGEST_TOKEN: usize = 2 * MAX_TOKEN_BYTES;

/// A parsed command. A packet that is no valid JSON closes the transport; every other fault is answered.
#[derive(Debug)]
pub(super) struct Command {
    /// The request, or the error that answers it.
    pub(super) verb: Result<Verb, Refusal>,
    /// The Socket.IO ack id for the reply; `None` if the client wants no reply.
    pub(super) ack: Option<i64>,
    /// When it was read: waiting in the inbox counts against the command's wait budget.
    pub(super) at: Instant,
}

/// The verbs of a client.
#[derive(Debug, PartialEq)]
pub(super) enum Verb {
    Join {
        room: String,
        from: Option<Start>,
    },
    JoinAll(Vec<WantedRoom>),
    Leave {
        room: String,
    },
    Missed {
        room: String,
        window: Window,
    },
    /// A fault in the location is reported only after the check that an agent sent it: another user gets `forbidden` in
    /// any case.
    Locate(Result<Location, Refusal>),
    Acknowledge(Acknowledgement),
    Refresh(Token),
}

/// A token. Its `Debug` output hides it from logs.
#[derive(PartialEq, Eq)]
pub(super) struct Token(pub(super) String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(***)")
    }
}

/// The error for a packet whose JSON is broken.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl Command {
    /// Parses the array of an EVENT packet.
    ///
    /// # Errors
    /// When the packet is no JSON array that begins with a string.
    pub(super) fn parse(packet: &str, ack: Option<i64>) -> Result<Self, Malformed> {
        let parts: Vec<&RawValue> = serde_json::from_str(packet).map_err(|_| Malformed)?;
        let name = parts.first().and_then(|name| serde_json::from_str::<String>(name.get()).ok()).ok_or(Malformed)?;
        Ok(Self { verb: parse_verb(&name, parts.get(1).copied()), ack, at: Instant::now() })
    }

    /// Makes a command that is answered with `refusal`; its packet was not parsed.
    pub(super) fn refused_unread(refusal: Refusal, ack: i64) -> Self {
        Self { verb: Err(refusal), ack: Some(ack), at: Instant::now() }
    }
}

fn parse_verb(name: &str, argument: Option<&RawValue>) -> Result<Verb, Refusal> {
    match name {
        // Members that a verb does not know are ignored, so that newer clients can send more.
        "join_room" => {
            let argument = parse_object(argument)?;
            Ok(Verb::Join { room: text_member(&argument, "room", ROOM_KEY_BYTES)?, from: window::from(&argument)? })
        }
        "join_rooms" => Ok(Verb::JoinAll(join_rooms::parse_rooms(&parse_object(argument)?)?)),
        "leave_room" => Ok(Verb::Leave { room: text_member(&parse_object(argument)?, "room", ROOM_KEY_BYTES)? }),
        "get_missed_events" => {
            let argument = parse_object(argument)?;
            let room = text_member(&argument, "room", ROOM_KEY_BYTES)?;
            // A join without a start means "from now on"; a read of history without one means nothing.
            let from = window::from(&argument)?.ok_or(Refusal::InvalidPayload)?;
            Ok(Verb::Missed { room, window: Window { from, limit: window::parse_limit(&argument)? } })
        }
        "update_location" => Ok(Verb::Locate(location::parse_location(argument))),
        "event_ack" => Ok(Verb::Acknowledge(acknowledgement::parse_acknowledgement(&parse_object(argument)?)?)),
        "refresh_token" => Ok(Verb::Refresh(Token(text_member(&parse_object(argument)?, "token", LONGEST_TOKEN)?))),
        _ => Err(Refusal::UnknownCommand),
    }
}

fn parse_object(argument: Option<&RawValue>) -> Result<Map<String, Value>, Refusal> {
    argument.and_then(|raw| serde_json::from_str(raw.get()).ok()).ok_or(Refusal::InvalidPayload)
}

/// Gives a string member. Many commands may wait, so a string longer than any valid one is cut, to a length that still
/// shows that it is too long.
fn text_member(argument: &Map<String, Value>, name: &str, longest: usize) -> Result<String, Refusal> {
    let text = argument.get(name).and_then(Value::as_str).ok_or(Refusal::InvalidPayload)?;
    Ok(text[..text.ceil_char_boundary(longest + 1)].to_owned())
}

/// Gives a member that is present and not null.
fn present_member<'a>(argument: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    argument.get(name).filter(|value| !value.is_null())
}

#[cfg(test)]
mod tests {
    use hallway_rooms::limits::PAGE_EVENTS;

    use super::*;
    use crate::service::AckStatus;

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
            Ok(Verb::Join { room: room(), from: Some(Start::After("5-1".parse().expect("an offset"))) }),
        );
        let window = Window { from: Start::Since(5), limit: PAGE_EVENTS };
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
        for argument in ["", ",null", ",{}", ",{\"token\":5}", ",{\"token\":null}", ",[\"x\"]", ",\"x\""] {
            check(&format!("[\"refresh_token\"{argument}]"), Err(Refusal::InvalidPayload));
        }
        check(r#"["fly_away",{}]"#, Err(Refusal::UnknownCommand));
    }

    #[test]
    fn acknowledgements_are_read() {
        let read = |rest: &str, status| {
            let event = "e-1".parse().expect("an id");
            let read = Ok(Verb::Acknowledge(Acknowledgement { event, status }));
            check(&format!("[\"event_ack\",{{\"eventId\":\"e-1\"{rest}}}]"), read);
        };
        read("", AckStatus::Received);
        read(",\"status\":null,\"error\":null", AckStatus::Received);
        read(",\"status\":\"received\"", AckStatus::Received);
        read(",\"status\":\"processed\",\"more\":1", AckStatus::Processed);
        read(",\"status\":\"failed\",\"error\":\"why\"", AckStatus::Failed);
        for argument in [
            "",
            ",null",
            ",[\"e-1\"]",
            ",{}",
            ",{\"eventId\":5}",
            ",{\"eventId\":null}",
            ",{\"eventId\":\"\"}",
            ",{\"eventId\":\"a b\"}",
            ",{\"eventId\":\"e-1\",\"status\":\"done\"}",
            ",{\"eventId\":\"e-1\",\"status\":\"Failed\"}",
            ",{\"eventId\":\"e-1\",\"status\":5}",
            ",{\"eventId\":\"e-1\",\"error\":5}",
        ] {
            check(&format!("[\"event_ack\"{argument}]"), Err(Refusal::InvalidPayload));
        }
    }

    #[test]
    fn a_location_is_read_in_its_own_numerals_and_judged_later() {
        let there = Location::new("12.0", "77.590", Some("5")).expect("a location");
        let argument = r#"{"agentId":"another","lat":12.0, "lng" : 77.590 ,"accuracy":5}"#;
        check(&format!("[\"update_location\",{argument}]"), Ok(Verb::Locate(Ok(there))));
        let without = Location::new("1", "2", None).expect("a location");
        let argument = r#"{"lat":1,"lng":2,"accuracy": null }"#;
        check(&format!("[\"update_location\",{argument}]"), Ok(Verb::Locate(Ok(without))));
        for argument in
            ["", ",null", ",[1,2]", ",{}", ",{\"lat\":1}", ",{\"lat\":null,\"lng\":2}", ",{\"lat\":1,\"lng\":null}"]
        {
            let judged = Ok(Verb::Locate(Err(Refusal::InvalidPayload)));
            check(&format!("[\"update_location\"{argument}]"), judged);
        }
    }

    #[test]
    fn a_token_is_not_shown() {
        let command = Command::parse(r#"["refresh_token",{"token":"secret"}]"#, None).expect("the JSON is fine");
        assert_eq!(command.verb, Ok(Verb::Refresh(Token("secret".to_owned()))));
        assert!(!format!("{command:?}").contains("secret"));
    }

    #[test]
    fn what_is_too_long_waits_in_no_queue_and_stays_too_long() {
        for filler in ["x", "ü", "\u{1f4a5}"] {
            let long = filler.repeat(30_000 / filler.len());
            for odd in ["", "y"] {
                let packet = format!(r#"["join_room",{{"room":"{odd}{long}"}}]"#);
                let Ok(Verb::Join { room, .. }) = Command::parse(&packet, None).expect("the JSON is fine").verb else {
                    panic!("no join");
                };
                assert!((ROOM_KEY_BYTES + 1..ROOM_KEY_BYTES + 8).contains(&room.len()), "{}", room.len());
                let packet = format!(r#"["refresh_token",{{"token":"{odd}{long}"}}]"#);
                let Ok(Verb::Refresh(Token(token))) = Command::parse(&packet, None).expect("the JSON is fine").verb
                else {
                    panic!("no refresh");
                };
                assert!((LONGEST_TOKEN + 1..LONGEST_TOKEN + 8).contains(&token.len()), "{}", token.len());
            }
        }
    }

    #[test]
    fn broken_json_is_malformed() {
        for packet in ["", "[", "{}", "[5]", r#"["join_room",{"room":NaN}]"#, r#"["join_room",{"room":"a"}"#] {
            assert_eq!(Command::parse(packet, None).map(|_| ()), Err(Malformed), "{packet}");
        }
    }
}
