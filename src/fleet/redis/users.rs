//! Users: how many sockets of each the nodes have, so that no user has more than `limits.connections_per_user`.
//!
//! A user's key is a hash from node to count. One script counts and grants in one act. Who is dead says the fleet
//! (`fleet.rs`); whether a name that it does not know is that of a newcomer or of a node long dead is looked up when it
//! matters, which is when somebody would be refused.

use std::collections::HashSet;
use std::time::Duration;

use ::redis::{RedisError, RedisResult, Value, cmd, from_redis_value, pipe};

use super::RedisFleet;
use crate::fleet::Ask;
use crate::link::remedy;
use crate::logs;

/// Counts of a user that nobody renews are gone by then; nodes renew theirs several times meanwhile.
const KEPT: Duration = Duration::from_hours(1);

/// Gives how many this node may have (-1 where the key holds something else) and, when somebody is refused, whose
/// sockets were counted beside its own.
const SEAT: &str = r"
local counts = redis.pcall('HGETALL', KEYS[1])
if counts.err then return {-1} end
local own, seats, wants, cap = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local dead, others, names = {}, 0, {}
for i = 6, #ARGV do dead[ARGV[i]] = true end
for i = 1, #counts, 2 do
    if counts[i] ~= own and not dead[counts[i]] then
        -- Else `nan` and `-100` would be numbers, and give seats away.
        others = others + tonumber(string.match(counts[i + 1], '^%d+$') or '0')
        names[#names + 1] = counts[i]
    end
end
local granted = math.max(0, math.min(wants, cap - others - seats))
if seats + granted > 0 then
    redis.call('HSET', KEYS[1], own, seats + granted)
    redis.call('PEXPIRE', KEYS[1], ARGV[5])
else
    redis.call('HDEL', KEYS[1], own)
end
if granted == wants then names = {} end
return {seats + granted, names}
";

/// A script's answer.
type Answer = (i64, Option<Vec<String>>);

pub(super) async fn seat(fleet: &RedisFleet, asks: &[Ask], cap: usize) -> Result<Vec<Option<usize>>, RedisError> {
    if asks.is_empty() {
        return Ok(Vec::new());
    }
    let (dead, live) = fleet.nodes.dead_and_live();
    let mut answers = count(fleet, asks, cap, &dead).await?;
    let unknown = |answer: &Answer| answer.1.iter().flatten().any(|node| !live.contains(node));
    let doubtful: Vec<usize> = (0..asks.len()).filter(|at| unknown(&answers[*at])).collect();
    if !doubtful.is_empty() {
        let (gone, again) = forget_the_gone(fleet, asks, &answers, &doubtful).await?;
        if gone {
            for (at, answer) in doubtful.iter().zip(count(fleet, &again, cap, &dead).await?) {
                answers[*at] = answer;
            }
        }
    }
    if answers.iter().any(|(granted, _)| *granted < 0) && fleet.complaints.may_complain() {
        let prefix = fleet.keys.prefix();
        tracing::warn!(
            event = logs::SEATS_KEY_STRANGE,
            "a key {prefix}:user:{{…}}:sockets holds something else; rename or delete it"
        );
    }
    Ok(answers.into_iter().map(|(granted, _)| usize::try_from(granted).ok()).collect())
}

/// A node puts its name into the table before any count, so that a count without a name is one that a dead node left.
async fn count(fleet: &RedisFleet, asks: &[Ask], cap: usize, dead: &[String]) -> Result<Vec<Answer>, RedisError> {
    let own = fleet.nodes.own_name();
    let kept = u64::try_from(KEPT.as_millis()).unwrap_or(u64::MAX);
    let office = fleet.nodes.in_office().await;
    let mut scripts = pipe();
    scripts.ignore_errors();
    if office.is_some() && asks.iter().any(|ask| ask.seats + ask.wants > 0) {
        scripts.cmd("HSETNX").arg(fleet.keys.nodes()).arg(own).arg(0);
    }
    for ask in asks {
        scripts.cmd("EVAL").arg(SEAT).arg(1).arg(fleet.keys.sockets(&ask.user));
        scripts.arg(own).arg(ask.seats).arg(ask.wants).arg(cap).arg(kept).arg(dead);
    }
    let mut answers: Vec<RedisResult<Value>> = scripts.query_async(&mut fleet.connection()).await?;
    let scripts = answers.split_off(answers.len().saturating_sub(asks.len()));
    // Where the table holds something else, its own task says so.
    if let Some(error) = answers.into_iter().filter_map(Result::err).find(|error| !remedy::is_wrong_type(error)) {
        return Err(error);
    }
    scripts.into_iter().map(|answer| Ok(from_redis_value(answer?)?)).collect()
}

/// Takes the counts of nodes that are not in the table out of the keys of the users at `doubtful`. Says whether there were
/// any, and gives what to ask again.
async fn forget_the_gone(
    fleet: &RedisFleet,
    asks: &[Ask],
    answers: &[Answer],
    doubtful: &[usize],
) -> Result<(bool, Vec<Ask>), RedisError> {
    let mut redis = fleet.connection();
    let nodes = cmd("HKEYS").arg(fleet.keys.nodes()).query_async::<HashSet<String>>(&mut redis).await;
    if nodes.as_ref().is_err_and(remedy::is_wrong_type) {
        return Ok((false, Vec::new()));
    }
    let nodes = nodes?;
    let (mut forget, mut gone) = (pipe(), false);
    let mut again = Vec::new();
    for at in doubtful {
        let (ask, (granted, names)) = (&asks[*at], &answers[*at]);
        let left: Vec<&String> = names.iter().flatten().filter(|node| !nodes.contains(*node)).collect();
        if !left.is_empty() {
            gone = true;
            forget.cmd("HDEL").arg(fleet.keys.sockets(&ask.user)).arg(left).ignore();
        }
        let seats = usize::try_from(*granted).unwrap_or(ask.seats).max(ask.seats);
        again.push(Ask { seats, wants: (ask.seats + ask.wants).saturating_sub(seats), ..ask.clone() });
    }
    if gone {
        forget.query_async::<()>(&mut redis).await?;
    }
    Ok((gone, again))
}
