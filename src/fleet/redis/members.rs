//! Members: how many each node has of a room, in a hash per room from node to count.
//!
//! These keys only count. What others put into them is left out and logged, and no room or client suffers for it.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use ::redis::{RedisError, RedisResult, Value, cmd, from_redis_value, pipe};
use hallway_rooms::key::Room;

use super::nodes::parse_numbers;
use super::{RedisFleet, pipeline_answers};
use crate::link::remedy;
use crate::logs;

/// A room's counts that no node renews are gone by then; the hub renews its own several times meanwhile.
const KEPT: Duration = Duration::from_hours(1);

/// Announces the counts. A room whose key holds something else is skipped.
pub(super) async fn announce_sizes(fleet: &RedisFleet, sizes: &[(Room, usize)]) -> Result<(), RedisError> {
    let node = fleet.nodes.own_name();
    let mut tell = pipe();
    tell.ignore_errors();
    // The name before the counts: a count without a name counts as that of a dead node. A zero needs none.
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
    let announced: Vec<RedisResult<Value>> = tell.query_async(&mut fleet.links.probe.clone()).await?;
    // The reader of a count logs a strange key; here it would be logged with every change.
    match announced.into_iter().filter_map(Result::err).find(|error| !remedy::is_wrong_type(error)) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// The members of a room on the other nodes. The names are read after the counts, so that the name of a count that is found was
/// written before. If a key holds something else, the result rests on what this node knows by itself.
pub(super) async fn members_elsewhere(fleet: &RedisFleet, room: &Room) -> Result<usize, RedisError> {
    let members = fleet.keys.members(room);
    let mut both = pipe();
    both.ignore_errors().cmd("HGETALL").arg(&members).cmd("HKEYS").arg(fleet.keys.nodes());
    let mut redis = fleet.connection();
    let [counts, nodes] = pipeline_answers(both.query_async(&mut redis).await?)?;
    let counts: HashMap<String, Vec<u8>> = match counts {
        Err(error) if remedy::is_wrong_type(&error) => {
            // A join must not fail because of a count.
            report_problem(fleet, &members, &error.to_string());
            return Ok(0);
        }
        counts => from_redis_value(counts?)?,
    };
    let nodes: HashSet<String> = match nodes {
        // The heartbeat logs this. The nodes that were seen alive are the best guess.
        Err(error) if remedy::is_wrong_type(&error) => fleet.nodes.live_names(),
        nodes => {
            let nodes = from_redis_value(nodes?)?;
            forget_the_gone(fleet, &members, counts.keys().filter(|node| is_gone(fleet, &nodes, node))).await?;
            nodes
        }
    };
    let (counts, strange) = parse_numbers::<u32>(counts);
    // The field of a dead node is removed anyway.
    if let Some(field) = strange.filter(|field| nodes.contains(field)) {
        report_problem(fleet, &members, &format!("its field {field} is no number"));
    }
    let counted = counts.iter().filter(|(node, _)| nodes.contains(*node) && fleet.nodes.is_counted(node));
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

fn report_problem(fleet: &RedisFleet, key: &str, problem: &str) {
    if fleet.complaints.may_complain() {
        tracing::warn!(
            event = logs::MEMBERS_KEY_STRANGE,
            key,
            problem,
            "this key holds something else than how many members a room has on each node, so those of other nodes are not counted; rename or delete it"
        );
    }
}
