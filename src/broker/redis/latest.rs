//! The last event of each key, from the hash that the function keeps beside a room's history. A value is the stamp, a
//! blank, and the live message.

use std::collections::HashMap;

use ::redis::{RedisError, pipe};
use hallway_rooms::entry::Entry;
use hallway_rooms::key::Room;
use hallway_rooms::offset::Offset;

use super::RedisBroker;
use crate::logs;

/// The current events, oldest first. Bounded by `history.max_latest` and `limits.event_bytes`, which the function
/// enforces.
pub(super) async fn read_latest(broker: &RedisBroker, room: &Room) -> Result<Vec<Entry>, RedisError> {
    let mut read = pipe();
    // With Redis' clock in the same transaction: stamps are its times, and a node's clock may differ.
    read.atomic().cmd("HGETALL").arg(broker.keys.latest(room)).cmd("TIME");
    let (kept, (seconds, micros)): (HashMap<Vec<u8>, Vec<u8>>, (u64, u64)) =
        read.query_async(&mut broker.links.history.clone()).await?;
    let ttl = u64::try_from(broker.classes.class_of(room).retention.ttl.as_millis()).unwrap_or(u64::MAX);
    let oldest = (seconds * 1000 + micros / 1000).saturating_sub(ttl);
    let mut current: Vec<(Offset, Entry)> =
        kept.values().filter_map(|value| parse_entry(broker, room, value)).collect();
    // The hash expires as a whole; single events end here.
    current.retain(|(at, _)| at.ms > oldest);
    current.sort_unstable_by_key(|(at, _)| *at);
    Ok(current.into_iter().map(|(_, entry)| entry).collect())
}

/// Parses a value. One that was not written by a node or the function is skipped and logged.
fn parse_entry(broker: &RedisBroker, room: &Room, value: &[u8]) -> Option<(Offset, Entry)> {
    let blank = value.iter().position(|byte| *byte == b' ')?;
    let entry = Entry::parse(&value[blank + 1..], &broker.classes);
    let entry = entry
        .inspect_err(
            |error| tracing::warn!(event = logs::LATEST_STRANGE, %error, "a room's newest hold what is not ours"),
        )
        .ok()?;
    Some((entry.stamp_in(room)?.at, entry))
}
