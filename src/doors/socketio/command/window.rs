//! Parses where in a room's history a command begins, and how many events it asks for.

use hallway_rooms::close::Refusal;
use hallway_rooms::history::Start;
use hallway_rooms::limits::PAGE_EVENTS;
use serde_json::{Map, Value};

use super::present_member;

pub(super) fn from(argument: &Map<String, Value>) -> Result<Option<Start>, Refusal> {
    match (present_member(argument, "after"), present_member(argument, "since")) {
        (None, None) => Ok(None),
        (Some(after), None) => {
            let offset = after.as_str().and_then(|text| text.parse().ok());
            offset.map(|offset| Some(Start::After(offset))).ok_or(Refusal::InvalidPayload)
        }
        (None, Some(since)) => whole(since).map(|ms| Some(Start::Since(ms))).ok_or(Refusal::InvalidPayload),
        // The two could contradict each other, and a guess would lose or repeat events.
        (Some(_), Some(_)) => Err(Refusal::InvalidPayload),
    }
}

pub(super) fn parse_limit(argument: &Map<String, Value>) -> Result<usize, Refusal> {
    let Some(limit) = present_member(argument, "limit") else { return Ok(PAGE_EVENTS) };
    // A limit out of range is refused like any malformed member.
    let limit = whole(limit).and_then(|n| usize::try_from(n).ok());
    limit.filter(|n| (1..=PAGE_EVENTS).contains(n)).ok_or(Refusal::InvalidPayload)
}

/// A whole number, also in the spelling `5.0`, as Dart writes a double.
fn whole(value: &Value) -> Option<u64> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be whole and positive")]
    let from_float = |f: f64| (f >= 0.0 && f.fract() == 0.0 && f < 1e16).then_some(f as u64);
    value.as_u64().or_else(|| value.as_f64().and_then(from_float))
}
