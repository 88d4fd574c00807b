//! Publishing: one call of the function, or plain `PUBLISH`es for what is stored nowhere.

use ::redis::{RedisError, Value, cmd, from_redis_value};
use hallway_rooms::class::Delivery;
use hallway_rooms::draft::Draft;
use hallway_rooms::entry::{self, Entry, Keep};
use hallway_rooms::key::Room;

use super::{RedisBroker, function, tell, unavailable};
use crate::broker::{Placed, Publication, PublishError};
use crate::clock::now_ms;

/// A room, its offset (empty where nothing is stored) and whether the id was known there.
type Place = (String, String, i64);

pub(super) async fn publish(broker: &RedisBroker, event: Publication) -> Result<Vec<Placed>, PublishError> {
    if event.delivery == Some(Delivery::Ephemeral) {
        return send(broker, event).await;
    }
    let placed = match call(broker, &event).await {
        Err(error) if function::is_absent(&error) => {
            broker.function.ensure(&mut broker.connection()).await.map_err(|e| refused(&e))?;
            call(broker, &event).await.map_err(|e| refused(&e))?
        }
        reply => reply.map_err(|e| refused(&e))?,
    };
    Ok(event.rooms.iter().zip(placed).map(place).collect())
}

fn place((room, (_, offset, duplicate)): (&Room, Place)) -> Placed {
    Placed { room: room.clone(), offset: offset.parse().ok(), duplicate: duplicate == 1 }
}

/// The rooms' short keys come in one call: one primary has them all.
async fn call(broker: &RedisBroker, event: &Publication) -> Result<Vec<Place>, RedisError> {
    let mut call = cmd("FCALL");
    call.arg(broker.function.publish()).arg(event.rooms.len());
    for room in &event.rooms {
        call.arg(broker.keys.channel(room));
    }
    call.arg(event.text.as_slice()).arg("ID").arg(event.id.as_str());
    if event.requires_ack {
        call.arg("REQUIRESACK");
    }
    let reply: Vec<Value> = call.query_async(&mut broker.connection()).await?;
    reply.into_iter().skip(1).map(|place| Ok(from_redis_value::<Place>(place)?)).collect()
}

/// The function's own refusals begin with their code.
fn refused(error: &RedisError) -> PublishError {
    let detail = error.detail().unwrap_or_default().to_owned();
    match detail.split(' ').next() {
        Some("invalid-event" | "invalid-room" | "usage") => PublishError::Invalid(detail),
        Some("event-too-large") => PublishError::TooLarge(detail),
        _ => unavailable(error).into(),
    }
}

async fn send(broker: &RedisBroker, event: Publication) -> Result<Vec<Placed>, PublishError> {
    let stamped = Draft::parse(&event.text).ok().and_then(|draft| draft.timestamp);
    let now = now_ms();
    let Publication { rooms, text, id, requires_ack, .. } = event;
    let places = rooms.iter().map(|room| entry::Place { room: room.clone(), keep: Keep::Nothing }).collect();
    let entry =
        Entry { id, timestamp: stamped.unwrap_or(now).min(now), requires_ack, places, earlier: Vec::new(), text };
    let message = entry.encode();
    for room in &rooms {
        tell(broker, &broker.keys.channel(room), &message).await.map_err(|e| unavailable(&e))?;
    }
    Ok(rooms.into_iter().map(|room| Placed { room, offset: None, duplicate: false }).collect())
}
