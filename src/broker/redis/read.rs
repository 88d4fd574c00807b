//! Reading: one transaction gives the clock, the birth, the last offset and the entries of a room as of one instant.

use ::redis::{Pipeline, RedisError, pipe};
use hallway_rooms::entry::Entry;
use hallway_rooms::history::{Facts, From};
use hallway_rooms::key::Room;
use hallway_rooms::limits::PAGE_BYTES;

use super::RedisBroker;
use crate::broker::History;
use crate::link::Link;
use crate::logs;

/// Entries of the first step.
const FIRST: usize = 64;

/// The field of a stream entry that holds the live message.
const MESSAGE: &[u8] = b"m";

type Stored = (String, Vec<(Vec<u8>, Vec<u8>)>);
/// Birth, last offset, time.
type Known = (Option<u64>, Option<String>, (u64, u64));

pub(super) async fn facts(broker: &RedisBroker, link: &mut Link, room: &Room) -> Result<Facts, RedisError> {
    let mut read = known(broker, room);
    let known: Known = read.cmd("TIME").query_async(link).await?;
    Ok(facts_of(broker, known))
}

/// Reads in two steps, so that large events are not fetched a thousand at a time to be thrown away: how many more are
/// worth reading is known from the size of the first ones.
pub(super) async fn history(
    broker: &RedisBroker,
    link: &mut Link,
    room: &Room,
    from: From,
    limit: usize,
) -> Result<History, RedisError> {
    let mut history = page(broker, link, room, from, limit.min(FIRST)).await?;
    let last = history.entries.last().and_then(|entry| entry.link(room));
    let wanted = worth_reading(&history, limit);
    let (Some(last), true) = (last, history.has_more && wanted > 0) else { return Ok(history) };
    let rest = page(broker, link, room, From::After(last.offset), wanted).await?;
    if rest.complete {
        history.facts = rest.facts;
        history.has_more = rest.has_more;
        history.entries.extend(rest.entries);
    }
    Ok(history)
}

fn worth_reading(history: &History, limit: usize) -> usize {
    let bytes: usize = history.entries.iter().map(|entry| entry.text.len()).sum();
    let read = history.entries.len().max(1);
    (PAGE_BYTES / (bytes / read).max(1)).min(limit.saturating_sub(read))
}

async fn page(
    broker: &RedisBroker,
    link: &mut Link,
    room: &Room,
    from: From,
    limit: usize,
) -> Result<History, RedisError> {
    let start = match from {
        From::After(offset) => format!("({offset}"),
        From::Since(ms) => format!("{ms}-0"),
    };
    let mut read = known(broker, room);
    read.cmd("XRANGE").arg(broker.keys.history(room)).arg(start).arg("+").arg("COUNT").arg(limit + 1);
    let answer: (Option<u64>, Option<String>, Vec<Stored>, (u64, u64)) = read.cmd("TIME").query_async(link).await?;
    let (birth, last, stored, time) = answer;
    let facts = facts_of(broker, (birth, last, time));
    let has_more = stored.len() > limit;
    let wanted = stored.len().min(limit);
    let entries: Vec<Entry> = stored.into_iter().take(limit).filter_map(|s| entry(broker, s)).collect();
    let first = entries.first().and_then(|e| e.link(room)).map(|l| l.prev);
    let complete = entries.len() == wanted && facts.complete(from, first);
    Ok(History { facts, complete, entries, has_more })
}

/// The time is asked for last: what was forgotten must have been so at that time.
fn known(broker: &RedisBroker, room: &Room) -> Pipeline {
    let mut read = pipe();
    read.atomic().cmd("GET").arg(broker.keys.birth()).cmd("GET").arg(broker.keys.last(room));
    read
}

fn facts_of(broker: &RedisBroker, (birth_ms, last, (seconds, micros)): Known) -> Facts {
    Facts {
        now_ms: seconds * 1000 + micros / 1000,
        birth_ms,
        last: last.and_then(|text| text.parse().ok()),
        memory: broker.classes.memory(),
    }
}

/// An entry that nobody of ours wrote is passed over, and said.
fn entry(broker: &RedisBroker, (id, fields): Stored) -> Option<Entry> {
    let message = fields.into_iter().find(|(name, _)| name == MESSAGE).map(|(_, message)| message)?;
    let entry = Entry::parse(&message, &broker.classes);
    entry.inspect_err(|error| tracing::warn!(event = logs::ENTRY_STRANGE, %id, %error, "a stream holds an entry that is not ours")).ok()
}
