//! Parses the list of rooms of `join_rooms`. A malformed list or list item refuses the whole command; a malformed start
//! (`after`, `since`) refuses only its own room.

use hallway_rooms::close::Refusal;
use hallway_rooms::limits::ROOM_KEY_BYTES;
use serde_json::{Map, Value};

use super::{text_member, window};
use crate::service::WantedRoom;

pub(super) fn parse_rooms(argument: &Map<String, Value>) -> Result<Vec<WantedRoom>, Refusal> {
    let rooms = argument.get("rooms").and_then(Value::as_array).ok_or(Refusal::InvalidPayload)?;
    rooms.iter().map(parse_room).collect()
}

fn parse_room(room: &Value) -> Result<WantedRoom, Refusal> {
    let room = room.as_object().ok_or(Refusal::InvalidPayload)?;
    Ok(WantedRoom { room: text_member(room, "room", ROOM_KEY_BYTES)?, from: window::from(room) })
}

#[cfg(test)]
mod tests {
    use hallway_rooms::history::Start;
    use serde_json::json;

    use super::*;

    /// A room with its place.
    type One = (&'static str, Result<Option<Start>, Refusal>);

    #[track_caller]
    fn check(argument: &Value, expected: Result<Vec<One>, Refusal>) {
        let wanted = |(room, from): One| WantedRoom { room: room.to_owned(), from };
        let expected = expected.map(|rooms| rooms.into_iter().map(wanted).collect());
        assert_eq!(parse_rooms(argument.as_object().expect("a map")), expected, "{argument}");
    }

    #[test]
    fn a_list_of_rooms_is_read_and_a_place_that_is_none_costs_its_own_room() {
        let after = Start::After("5-1".parse().expect("an offset"));
        check(&json!({"rooms": []}), Ok(vec![]));
        check(
            &json!({"rooms": [{"room": "a"}, {"room": "b", "after": "5-1"}, {"room": "c", "since": 7, "x": 1}]}),
            Ok(vec![("a", Ok(None)), ("b", Ok(Some(after))), ("c", Ok(Some(Start::Since(7))))]),
        );
        let refused = || Err(Refusal::InvalidPayload);
        check(
            &json!({"rooms": [{"room": "a", "after": 5}, {"room": "b", "since": -1}, {"room": "c", "after": "5-1", "since": 7}]}),
            Ok(vec![("a", refused()), ("b", refused()), ("c", refused())]),
        );
        check(&json!({"rooms": [{"room": "a", "after": null, "since": null}]}), Ok(vec![("a", Ok(None))]));
    }

    #[test]
    fn what_is_no_list_of_rooms_is_refused_as_a_whole() {
        for rooms in [
            json!(null),
            json!("a"),
            json!({"room": "a"}),
            json!(["a"]),
            json!([null]),
            json!([{"room": 5}]),
            json!([{}]),
        ] {
            check(&json!({"rooms": rooms}), Err(Refusal::InvalidPayload));
        }
        check(&json!({"room": "a"}), Err(Refusal::InvalidPayload));
    }
}
