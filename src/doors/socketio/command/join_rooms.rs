//! Several rooms as a client lists them. A list or a member that is none of that is refused as a whole; a place that cannot be
//! read costs its own room.

use hallway_rooms::close::Refusal;
use hallway_rooms::limits::ROOM_KEY_BYTES;
use serde_json::{Map, Value};

use super::{text, window};
use crate::service::Wanted;

pub(super) fn read(argument: &Map<String, Value>) -> Result<Vec<Wanted>, Refusal> {
    let rooms = argument.get("rooms").and_then(Value::as_array).ok_or(Refusal::InvalidPayload)?;
    rooms.iter().map(one).collect()
}

fn one(room: &Value) -> Result<Wanted, Refusal> {
    let room = room.as_object().ok_or(Refusal::InvalidPayload)?;
    Ok(Wanted { room: text(room, "room", ROOM_KEY_BYTES)?, from: window::from(room) })
}
