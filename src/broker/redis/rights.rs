//! Whether this node's user may do what the work needs: every command of it, tried on keys of no room. A right that is
//! missing would otherwise show only when a client needs it, behind a node that says it is ready.

use ::redis::{Pipeline, RedisError, RedisResult, Value, pipe};

use super::RedisBroker;
use crate::link::remedy;

/// What was written to try it is gone by then.
const KEPT_MS: u64 = 60_000;

/// The first refusal, with what mends it; none where everything is allowed.
pub(super) async fn missing(broker: &RedisBroker) -> Result<Option<String>, RedisError> {
    let answers: Vec<RedisResult<Value>> = trial(broker).query_async(&mut broker.links.probe.clone()).await?;
    let refusal = answers.into_iter().filter_map(Result::err).find(|error| !is_no_matter_of_rights(error));
    Ok(refusal.map(|error| remedy::problem("commands", &error)))
}

/// The function refuses to be called without keys, but it can be called; and a key that holds something else than it should
/// is told by the task that needs it.
fn is_no_matter_of_rights(error: &RedisError) -> bool {
    error.detail().is_some_and(|detail| detail.starts_with("usage")) || remedy::is_wrong_type(error)
}

/// Reads as histories are read, be it here or inside of the function, whose commands are this user's too; writes as the
/// function writes, counts as the fleet counts, notes as revocations are noted.
fn trial(broker: &RedisBroker) -> Pipeline {
    let [history, last, latest, members] = broker.keys.trial();
    let sockets = broker.keys.sockets("");
    let mut trial = pipe();
    trial.ignore_errors();
    trial.cmd("FCALL").arg(broker.function.publish()).arg(0);
    trial.cmd("XADD").arg(&history).arg("MAXLEN").arg(1).arg("*").arg("m").arg("");
    trial.cmd("XRANGE").arg(&history).arg("-").arg("+").arg("COUNT").arg(1);
    trial.cmd("XREVRANGE").arg(&history).arg("+").arg("-").arg("COUNT").arg(1);
    trial.cmd("PEXPIRE").arg(&history).arg(KEPT_MS);
    trial.cmd("SET").arg(&last).arg("").arg("PX").arg(KEPT_MS);
    trial.cmd("MGET").arg(&last);
    for hash in [&latest, &members, &sockets] {
        trial.cmd("HSET").arg(hash).arg("m").arg("");
        trial.cmd("HGETALL").arg(hash);
        trial.cmd("HDEL").arg(hash).arg("m");
    }
    trial.cmd("HGET").arg(&latest).arg("m");
    trial.cmd("HLEN").arg(&latest);
    trial.cmd("HINCRBY").arg(&members).arg("n").arg(1);
    trial.cmd("HDEL").arg(&members).arg("n");
    trial.cmd("HKEYS").arg(broker.keys.nodes());
    trial.cmd("ZSCORE").arg(broker.keys.revoked()).arg("revision");
    trial.cmd("ZSCAN").arg(broker.keys.revoked()).arg(0).arg("COUNT").arg(1);
    trial.cmd("EVAL").arg("return redis.call('ZADD', KEYS[1], 'NX', 0, 'm')").arg(1).arg(broker.keys.canary("trial"));
    trial.cmd("ZINCRBY").arg(broker.keys.canary("trial")).arg(1).arg("m");
    trial.cmd("ZREM").arg(broker.keys.canary("trial")).arg("n");
    trial.cmd("ZREMRANGEBYSCORE").arg(broker.keys.canary("trial")).arg(-1).arg(-1);
    trial.cmd("PEXPIRE").arg(broker.keys.canary("trial")).arg(KEPT_MS);
    trial.cmd("TIME");
    trial.cmd("PUBLISH").arg(broker.keys.trial_channel()).arg("");
    trial.cmd("MULTI").cmd("GET").arg(&last).cmd("EXEC");
    trial
}
