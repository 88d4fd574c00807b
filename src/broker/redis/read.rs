//! Reading: one function call returns the clock, the marks that `complete` is judged from, and the entries of a room
//! as of one instant, cut by bytes before they travel.

use std::time::Duration;

use ::redis::{Cmd, RedisError, Value, cmd, from_redis_value, pipe};
use hallway_rooms::entry::{ChainLink, Entry};
use hallway_rooms::history::{RepeatedTime, RoomFacts, Start};
use hallway_rooms::key::Room;
use hallway_rooms::limits::{PAGE_BYTES, QUIET_HEAD_MS};
use hallway_rooms::offset::Offset;

use super::RedisBroker;
use crate::broker::History;
use crate::link;
use crate::logs;

type StoredRow = (String, Option<Vec<u8>>);
/// Last offset, birth, memory, clock, the function's memory, time, whether more follow, entries.
type ReadAnswer = (Option<String>, Option<String>, Option<String>, Option<String>, u64, (u64, u64), u8, Vec<StoredRow>);

/// The greatest of all offsets, which nothing follows. Redis does not accept it as a start.
const END: Offset = Offset { ms: u64::MAX, n: u64::MAX };

/// A part of a room's history, with the room's facts as of the same instant.
#[derive(Clone, Debug)]
pub(super) struct RedisPage {
    /// The room's facts.
    pub(super) facts: RoomFacts,
    /// The valid entries, oldest first.
    pub(super) entries: Vec<Entry>,
    /// Whether more entries follow.
    pub(super) has_more: bool,
}

impl RedisPage {
    /// The part of the page that follows `from`, which must lie at the page's start or after it.
    pub(super) fn to_history(&self, room: &Room, from: Start, limit: usize) -> History {
        let wanted = |entry: &&Entry| entry.link_in(room).is_none_or(|link| from.includes_offset(link.offset));
        let mut entries: Vec<Entry> = self.entries.iter().filter(wanted).cloned().collect();
        let has_more = self.has_more || entries.len() > limit;
        entries.truncate(limit);
        let links: Vec<ChainLink> = entries.iter().filter_map(|entry| entry.link_in(room)).collect();
        // An entry of this room that names no offset in it replaced one that cannot be returned, so the history has a
        // gap.
        let complete = links.len() == entries.len() && self.facts.complete(from, &links, has_more);
        History { facts: self.facts, complete, entries, has_more }
    }
}

pub(super) async fn read_facts(
    broker: &RedisBroker,
    link: &mut link::Link,
    room: &Room,
) -> Result<RoomFacts, RedisError> {
    let answer = read_command(broker, room, Start::After(END), (0, 0)).query_async(link).await?;
    let facts = page_of(broker, answer)?.facts;
    say_if_ahead(broker, room, &facts);
    Ok(facts)
}

/// The last offsets by one command, with the facts that all rooms share. Those are read as if for a room that does
/// not exist.
pub(super) async fn facts_of(
    broker: &RedisBroker,
    link: &mut link::Link,
    rooms: &[Room],
) -> Result<Vec<RoomFacts>, RedisError> {
    let [history, last, ..] = broker.keys.trial_keys();
    let mut read = pipe();
    read.atomic().cmd("MGET");
    rooms.iter().for_each(|room| _ = read.arg(broker.keys.last(room)));
    read.add_command(call_on(broker, (&history, &last), Start::After(END), (0, 0)));
    let (lasts, shared): (Vec<Option<String>>, Value) = read.query_async(link).await?;
    let shared = page_of(broker, shared)?.facts;
    Ok(lasts.into_iter().map(|last| RoomFacts { last: last.and_then(|text| text.parse().ok()), ..shared }).collect())
}

pub(super) async fn read_history(
    broker: &RedisBroker,
    link: &mut link::Link,
    room: &Room,
    from: Start,
    limit: usize,
) -> Result<History, RedisError> {
    Ok(read_page(broker, link, room, (from, limit, PAGE_BYTES)).await?.to_history(room, from, limit))
}

/// At most `limit` entries from a start, and at most `bytes` of them, but one at least.
pub(super) async fn read_page(
    broker: &RedisBroker,
    link: &mut link::Link,
    room: &Room,
    (from, limit, bytes): (Start, usize, usize),
) -> Result<RedisPage, RedisError> {
    let answer = read_command(broker, room, from, (limit, bytes)).query_async(link).await?;
    let page = page_of(broker, answer)?;
    say_if_ahead(broker, room, &page.facts);
    Ok(page)
}

/// Logs a last offset far ahead of the clock, set by hand or by a wrong clock. The room continues after it, so it is
/// the head nevertheless: a client that joined elsewhere would not get the next events.
fn say_if_ahead(broker: &RedisBroker, room: &Room, facts: &RoomFacts) {
    let bound = facts.now_ms.saturating_add(QUIET_HEAD_MS);
    if facts.last.is_some_and(|last| last.ms > bound) && broker.complaints.may_complain() {
        let key = broker.keys.last(room);
        tracing::warn!(
            event = logs::LAST_AHEAD,
            key,
            "a room's last offset lies far ahead of Redis' clock, and its times with it; delete the key and the room's history if it was set by hand"
        );
    }
}

/// The call that reads a page, or only the facts when the limit is 0.
pub(super) fn read_command(broker: &RedisBroker, room: &Room, from: Start, most: (usize, usize)) -> Cmd {
    call_on(broker, (&broker.keys.history(room), &broker.keys.last(room)), from, most)
}

fn call_on(broker: &RedisBroker, (history, last): (&str, &str), from: Start, (limit, bytes): (usize, usize)) -> Cmd {
    let (start, limit) = match from {
        // `(max` is an error for Redis; with a limit of 0 the start does not matter.
        Start::After(END) => ("-".to_owned(), 0),
        Start::After(offset) => (format!("({offset}"), limit),
        Start::Since(ms) => (format!("{ms}-0"), limit),
    };
    let keys = &broker.keys;
    let mut call = cmd("FCALL");
    call.arg(broker.function.read_name()).arg(5).arg(history).arg(last);
    call.arg(keys.birth()).arg(keys.memory()).arg(keys.clock()).arg(start).arg(limit).arg(bytes);
    call
}

/// Parses the function's reply.
pub(super) fn page_of(broker: &RedisBroker, answer: Value) -> Result<RedisPage, RedisError> {
    let (last, birth, memory, clock, in_force, (seconds, micros), more, stored) =
        from_redis_value::<ReadAnswer>(answer)?;
    let now_ms = seconds * 1000 + micros / 1000;
    let (recorded, memory_since_ms) = shortest_memory(memory.as_deref(), in_force, now_ms);
    let facts = RoomFacts {
        now_ms,
        birth_ms: birth.and_then(|text| text.parse().ok()),
        last: last.and_then(|text| text.parse().ok()),
        // The shorter of both: an offset that either side forgets may be missing.
        memory: recorded.min(broker.classes.memory()),
        memory_since_ms,
        twice: repeated_time(clock.as_deref(), now_ms),
    };
    let entries = stored.into_iter().filter_map(|stored| parse_entry(broker, stored)).collect();
    Ok(RedisPage { facts, entries, has_more: more == 1 })
}

/// The shortest memory in force, and since when. A function that was loaded without a record counts as loaded at this
/// moment.
fn shortest_memory(noted: Option<&str>, in_force: u64, now_ms: u64) -> (Duration, u64) {
    let noted = noted.and_then(|text| text.split_once(' '));
    let noted = noted.and_then(|(memory, since)| Some((memory.parse::<u64>().ok()?, since.parse().ok()?)));
    let since = noted.filter(|(memory, _)| *memory == in_force).map_or(now_ms, |(_, since)| since);
    (Duration::from_millis(in_force), since)
}

/// The time that the clock went through twice. Before a recorded highest time, and as long as nothing is recorded
/// about the setback, that may be all time up to it. Without any record it is all time until now.
fn repeated_time(noted: Option<&str>, now_ms: u64) -> Option<RepeatedTime> {
    let mut words = noted.unwrap_or_default().split(' ').map_while(|word| word.parse::<u64>().ok());
    let (Some(highest), Some(from_ms), Some(to_ms)) = (words.next(), words.next(), words.next()) else {
        return Some(RepeatedTime { from_ms: 0, to_ms: now_ms });
    };
    // The clock was set back and has not caught up: any offset up to the old time may be assigned again.
    if now_ms < highest {
        return Some(RepeatedTime { from_ms: 0, to_ms: to_ms.max(highest) });
    }
    Some(RepeatedTime { from_ms, to_ms })
}

/// Parses an entry. One that was not written by the function is skipped and logged.
fn parse_entry(broker: &RedisBroker, (id, message): StoredRow) -> Option<Entry> {
    let entry = Entry::parse(&message?, &broker.classes);
    entry.inspect_err(|error| tracing::warn!(event = logs::ENTRY_STRANGE, %id, %error, "a stream holds an entry that is not ours")).ok()
}
