//! Members: how many each node has of a room, in a hash per room from node to count.
//!
//! These keys only count. What others put into them is left out and logged, and no room or client suffers for it.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use ::redis::{RedisError, RedisResult, Value, cmd, from_redis_value, pipe};
use hallway_rooms::key::Room;

use super::nodes::numbers;
use super::{RedisFleet, answers};
use crate::link::remedy;
use crate::logs;

/// A room's counts that no node renews are gone by then; the hub renews its own several times meanwhile.
const KEPT: Duration = Duration::from_hours(1);

/// Tells Redis; a room whose key holds something else is passed over.
pub(super) async fn tell_sizes(fleet: &RedisFleet, sizes: &[(Room, usize)]) -> Result<(), RedisError> {
    let node = fleet.nodes.own_name();
    let mut tell = pipe();
    tell.ignore_errors();
    if sizes.iter().any(|(_, size)| *size > 0) {
        tell.cmd("HSETNX").arg(fleet.keys.nodes()).arg(node).arg(0);
    }
    let kept = u64::try_from(KEPT.as_millis()).unwrap_or(u64::MAX);
    for (room, size) in sizes {
        let members = fleet.keys.members(room);
        if *size == 0 {
            tell.cmd("HDEL").arg(members).arg(node);
        } else {
            tell.cmd("HSET").arg(&members).arg(node).arg(size);
            tell.cmd("PEXPIRE").arg(members).arg(kept);
        }
    }
    let told: Vec<RedisResult<Value>> = tell.query_async(&mut fleet.links.probe.clone()).await?;
    match told.into_iter().filter_map(Result::err).find(|error| !remedy::is_wrong_type(error)) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// The names are read behind the counts: a count that is seen has had its name before. Where a key holds something else, what
/// this node knows by itself has to do: no members elsewhere, or those that it has seen alive.
pub(super) async fn others(fleet: &RedisFleet, room: &Room) -> Result<usize, RedisError> {
    let members = fleet.keys.members(room);
    let mut both = pipe();
    both.ignore_errors().cmd("HGETALL").arg(&members).cmd("HKEYS").arg(fleet.keys.nodes());
    let mut redis = fleet.connection();
    let [counts, nodes] = answers(both.query_async(&mut redis).await?)?;
    let counts: HashMap<String, Vec<u8>> = match counts {
        Err(error) if remedy::is_wrong_type(&error) => {
            complain(fleet, &members, &error.to_string());
            return Ok(0);
        }
        counts => from_redis_value(counts?)?,
    };
    let nodes: HashSet<String> = match nodes {
        Err(error) if remedy::is_wrong_type(&error) => fleet.nodes.dead_and_live().1,
        nodes => {
            let nodes = from_redis_value(nodes?)?;
            forget_the_gone(fleet, &members, counts.keys().filter(|node| is_gone(fleet, &nodes, node))).await?;
            nodes
        }
    };
    let (counts, strange) = numbers::<u32>(counts);
    if let Some(field) = strange.filter(|field| nodes.contains(field)) {
        complain(fleet, &members, &format!("its field {field} is no number"));
    }
    let counted = counts.iter().filter(|(node, _)| nodes.contains(*node) && fleet.nodes.counts(node));
    Ok(counted.map(|(_, size)| *size as usize).sum())
}

fn is_gone(fleet: &RedisFleet, nodes: &HashSet<String>, node: &str) -> bool {
    !nodes.contains(node) && node != fleet.nodes.own_name()
}

async fn forget_the_gone(
    fleet: &RedisFleet,
    members: &str,
    gone: impl Iterator<Item = &String>,
) -> Result<(), RedisError> {
    let gone: Vec<&String> = gone.collect();
    if gone.is_empty() {
        return Ok(());
    }
    cmd("HDEL").arg(members).arg(gone).query_async(&mut fleet.connection()).await
}

fn complain(fleet: &RedisFleet, key: &str, problem: &str) {
    if fleet.complaints.may_complain() {
        tracing::warn!(
            event = logs::MEMBERS_KEY_STRANGE,
            key,
            problem,
            "this key holds something else than how many members a room has on each node, so those of other nodes are not counted; rename or delete it"
        );
    }
}
