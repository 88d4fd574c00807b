//! Users: how many connections of each the nodes have, in a hash per user from node to count.
//!
//! One transaction writes this node's counts and reads those of all nodes. Redis runs transactions one after the other, so of
//! two nodes that announce connections of a user at the same moment, the second one sees the announcement of the first.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use ::redis::{Pipeline, RedisError, RedisResult, Value, from_redis_value, pipe};

use super::RedisFleet;
use super::nodes::parse_numbers;
use crate::fleet::UserCount;
use crate::link::remedy;
use crate::logs;

/// Counts of a user that no node renews are gone by then; nodes renew theirs several times meanwhile.
const KEPT: Duration = Duration::from_hours(1);
/// Commands of a transaction for each user; the last one reads.
const COMMANDS: usize = 3;

/// Announces the counts; gives how many connections the other nodes have of each user.
pub(super) async fn count_connections(
    fleet: &RedisFleet,
    counts: &[UserCount],
) -> Result<Vec<Option<usize>>, RedisError> {
    if counts.is_empty() {
        return Ok(Vec::new());
    }
    // Held until Redis has answered: a count must not be written after the resignation.
    let office = fleet.nodes.in_office().await;
    let announcement = announcement(fleet, counts, office.is_some());
    let mut answers: Vec<RedisResult<Value>> = announcement.query_async(&mut fleet.connection()).await?;
    drop(office);
    let nodes = answers.pop().map_or_else(|| Ok(None), names)?;
    let of_users = answers.split_off(answers.len().saturating_sub(counts.len() * COMMANDS));
    check(answers)?;

    let (mut others, mut forget) = (Vec::with_capacity(counts.len()), pipe());
    for (answers, count) in of_users.chunks(COMMANDS).zip(counts) {
        let Some(fields) = fields(answers)? else {
            complain(fleet);
            others.push(None);
            continue;
        };
        // A count without a name is that of a dead node, whose name another node has removed.
        if let Some(nodes) = &nodes {
            forget_the_gone(fleet, &mut forget, &count.user, fields.keys().filter(|node| !nodes.contains(*node)));
        }
        let is_known = |node: &str| nodes.as_ref().is_none_or(|nodes| nodes.contains(node));
        let counted = fields.iter().filter(|(node, _)| is_known(node) && fleet.nodes.is_counted(node));
        others.push(Some(counted.map(|(_, count)| *count as usize).sum()));
    }
    if forget.cmd_iter().next().is_some() {
        // A failure costs nothing but room: these counts are not believed, and the next read tries again.
        forget.exec_async(&mut fleet.connection()).await.ok();
    }
    Ok(others)
}

/// The transaction: the name of this node before its counts, and the names of all behind the counts that are read.
fn announcement(fleet: &RedisFleet, counts: &[UserCount], is_in_office: bool) -> Pipeline {
    let own = fleet.nodes.own_name();
    let kept = u64::try_from(KEPT.as_millis()).unwrap_or(u64::MAX);
    let mut act = pipe();
    act.atomic().ignore_errors();
    if is_in_office && counts.iter().any(|count| count.here > 0) {
        act.cmd("HSETNX").arg(fleet.keys.nodes()).arg(own).arg(0);
    }
    for UserCount { user, here } in counts {
        let key = fleet.keys.sockets(user);
        // A field with a zero would stay as long as any node has connections of this user.
        if *here == 0 {
            act.cmd("HDEL").arg(&key).arg(own);
        } else {
            act.cmd("HSET").arg(&key).arg(own).arg(here);
        }
        act.cmd("PEXPIRE").arg(&key).arg(kept);
        act.cmd("HGETALL").arg(key);
    }
    act.cmd("HKEYS").arg(fleet.keys.nodes());
    act
}

/// The names of all nodes; none where the key holds something else, which its own task logs.
fn names(answer: RedisResult<Value>) -> Result<Option<HashSet<String>>, RedisError> {
    match answer {
        Err(error) if remedy::is_wrong_type(&error) => Ok(None),
        answer => Ok(Some(from_redis_value(answer?)?)),
    }
}

/// The counts of a user by node; none where the key holds something else than such a hash.
fn fields(answers: &[RedisResult<Value>]) -> Result<Option<HashMap<String, u32>>, RedisError> {
    match answers.iter().find_map(|answer| answer.as_ref().err()) {
        Some(error) if remedy::is_wrong_type(error) => return Ok(None),
        Some(error) => return Err(error.clone()),
        None => {}
    }
    let fields = answers.last().and_then(|answer| answer.as_ref().ok());
    let fields: Option<HashMap<String, Vec<u8>>> = fields.and_then(|fields| from_redis_value(fields.clone()).ok());
    // A field that is no number counts as zero: no user may be refused for it.
    Ok(fields.map(|fields| parse_numbers(fields).0))
}

/// Fails for an error that is not the fault of a key.
fn check(answers: Vec<RedisResult<Value>>) -> Result<(), RedisError> {
    let error = answers.into_iter().filter_map(Result::err).find(|error| !remedy::is_wrong_type(error));
    error.map_or(Ok(()), Err)
}

fn forget_the_gone<'a>(fleet: &RedisFleet, forget: &mut Pipeline, user: &str, gone: impl Iterator<Item = &'a String>) {
    // This node's own name is missing where it resigned, or was removed while it was cut off: its heartbeat restores that.
    let gone: Vec<&String> = gone.filter(|node| *node != fleet.nodes.own_name()).collect();
    if !gone.is_empty() {
        forget.cmd("HDEL").arg(fleet.keys.sockets(user)).arg(gone).ignore();
    }
}

fn complain(fleet: &RedisFleet) {
    if fleet.complaints.may_complain() {
        let prefix = fleet.keys.prefix();
        tracing::warn!(
            event = logs::SEATS_KEY_STRANGE,
            "a key {prefix}:user:{{…}}:sockets holds something else; rename or delete it"
        );
    }
}
