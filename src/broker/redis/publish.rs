//! Publishing: one call of the function, or plain `PUBLISH` commands for events that are stored nowhere.

use ::redis::{Cmd, RedisError, Value, cmd, from_redis_value};
use hallway_rooms::class::Delivery;
use hallway_rooms::draft::Draft;
use hallway_rooms::entry::{self, Entry, Retained};
use hallway_rooms::key::Room;

use super::{RedisBroker, function, publish_message, unavailable};
use crate::broker::{Placed, Publication, PublishError};
use crate::clock::now_ms;

/// Error codes that concern Redis, or this gateway's user, and not the event.
const NOT_THE_EVENT: [&str; 16] = [
    "OOM",
    "READONLY",
    "LOADING",
    "MISCONF",
    "NOREPLICAS",
    "MASTERDOWN",
    "BUSY",
    "EXECABORT",
    "NOAUTH",
    "WRONGPASS",
    "NOPERM",
    "TRYAGAIN",
    "CLUSTERDOWN",
    "MOVED",
    "ASK",
    "CROSSSLOT",
];

/// A room, its offset (empty where nothing is stored) and whether the id was known there.
type PublishedPlace = (String, String, i64);

pub(super) async fn publish(broker: &RedisBroker, event: Publication) -> Result<Vec<Placed>, PublishError> {
    broker.is_no_cluster()?;
    if is_plain(&event) {
        return publish_unstored(broker, event).await;
    }
    let placed = match call_function(broker, &event).await {
        Err(error) if function::is_absent(&error) => {
            // Redis was restarted without its data, or its functions were flushed: load and try once more.
            broker.function.ensure_loaded(&mut broker.command_link()).await.map_err(|e| to_publish_error(&e))?;
            call_function(broker, &event).await
        }
        reply => reply,
    };
    placed.map_err(|e| to_publish_error(&e))
}

async fn call_function(broker: &RedisBroker, event: &Publication) -> Result<Vec<Placed>, RedisError> {
    parse_placed(event, publish_command(broker, event).query_async(&mut broker.command_link()).await?)
}

/// Whether the event is stored nowhere, whatever its rooms and type say.
pub(super) fn is_plain(event: &Publication) -> bool {
    event.delivery == Some(Delivery::Ephemeral)
}

/// The call for an event. All rooms' short keys go into one call, because one primary has them all.
pub(super) fn publish_command(broker: &RedisBroker, event: &Publication) -> Cmd {
    let mut call = cmd("FCALL");
    call.arg(broker.function.publish_name()).arg(event.rooms.len());
    for room in &event.rooms {
        call.arg(broker.keys.channel(room));
    }
    call.arg(event.text.as_slice()).arg("ID").arg(event.id.as_str());
    if event.requires_ack {
        call.arg("REQUIRESACK");
    }
    call
}

/// Parses the function's reply.
pub(super) fn parse_placed(event: &Publication, reply: Value) -> Result<Vec<Placed>, RedisError> {
    let reply: Vec<Value> = from_redis_value(reply)?;
    let place = |(room, place): (&Room, Value)| {
        let (_, offset, duplicate): PublishedPlace = from_redis_value(place)?;
        Ok(Placed { room: room.clone(), offset: offset.parse().ok(), duplicate: duplicate == 1 })
    };
    // The reply begins with the event's id.
    event.rooms.iter().zip(reply.into_iter().skip(1)).map(place).collect()
}

/// Classifies an error. The function's own refusals begin with their code. Errors that concern Redis may pass and are
/// worth a retry; any other is final for this event, such as a room's key of another type.
pub(super) fn to_publish_error(error: &RedisError) -> PublishError {
    let detail = error.detail().unwrap_or_default().to_owned();
    match detail.split(' ').next() {
        Some("invalid-event" | "invalid-room" | "usage") => PublishError::Invalid(detail),
        Some("event-too-large") => PublishError::TooLarge(detail),
        _ if may_pass(error) => unavailable(error).into(),
        _ => PublishError::Failed(format!("Redis cannot store it: {error}")),
    }
}

fn may_pass(error: &RedisError) -> bool {
    let lacks_function = error.detail().is_some_and(|detail| detail.contains("unknown command"));
    let of_redis = error.code().is_none_or(|code| NOT_THE_EVENT.contains(&code));
    of_redis || lacks_function || function::is_absent(error)
}

/// The message of an event that is stored nowhere.
pub(super) fn unstored_message(event: &Publication) -> Vec<u8> {
    let stamped = Draft::parse(&event.text).ok().and_then(|draft| draft.timestamp);
    let now = now_ms();
    let Publication { rooms, text, id, requires_ack, .. } = event.clone();
    let places = rooms.into_iter().map(|room| entry::RoomPlace { room, keep: Retained::Nothing }).collect();
    let timestamp = stamped.unwrap_or(now).min(now);
    Entry { id, timestamp, requires_ack, places, earlier: Vec::new(), text }.encode()
}

/// The outcome for such an event: no offset in any room.
pub(super) fn places_of_unstored(event: &Publication) -> Vec<Placed> {
    event.rooms.iter().map(|room| Placed { room: room.clone(), offset: None, duplicate: false }).collect()
}

async fn publish_unstored(broker: &RedisBroker, event: Publication) -> Result<Vec<Placed>, PublishError> {
    let message = unstored_message(&event);
    for room in &event.rooms {
        publish_message(broker, &broker.keys.channel(room), &message).await.map_err(|e| unavailable(&e))?;
    }
    Ok(places_of_unstored(&event))
}

#[cfg(test)]
mod tests {
    use ::redis::make_extension_error;

    use super::*;

    #[track_caller]
    fn check(code: &str, detail: &str, expected: fn(&PublishError) -> bool) {
        let error = to_publish_error(&make_extension_error(code.to_owned(), Some(detail.to_owned())));
        assert!(expected(&error), "{code} {detail}: {error:?}");
    }

    #[test]
    fn only_what_is_wrong_with_an_event_is_held_against_it() {
        let unavailable = |error: &PublishError| matches!(error, PublishError::Unavailable(_));
        for code in NOT_THE_EVENT {
            check(code, "whatever", unavailable);
        }
        check("ERR", "Function not found", unavailable);
        check("ERR", "unknown command 'FCALL'", unavailable);
        check("ERR", "invalid-event \"type\" is missing", |error| matches!(error, PublishError::Invalid(_)));
        check("ERR", "event-too-large it is", |error| matches!(error, PublishError::TooLarge(_)));
        check("WRONGTYPE", "Operation against a key", |error| matches!(error, PublishError::Failed(_)));
    }
}
