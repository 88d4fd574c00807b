//! Whether this node's Redis user has every right that the work needs: each command is tried on keys of no room. A
//! missing right would otherwise show only at a client's command, behind a node that claims to be ready.

use ::redis::{Pipeline, RedisError, RedisResult, Value, pipe};

use super::RedisBroker;
use crate::link::remedy;

/// Expiry of the keys that the trial writes.
const KEPT_MS: u64 = 60_000;

/// The first refusal with its remedy; none when everything is allowed.
pub(super) async fn first_refusal(broker: &RedisBroker) -> Result<Option<String>, RedisError> {
    let answers: Vec<RedisResult<Value>> = trial_pipeline(broker).query_async(&mut broker.links.probe.clone()).await?;
    let refusal = answers.into_iter().filter_map(Result::err).find(|error| !is_no_matter_of_rights(error));
    Ok(refusal.map(|error| remedy::describe_problem("commands", &error)))
}

/// Whether an error is not about rights. The function refuses to be called without keys, which shows that it may be
/// called; and a key of another type is reported by the task that needs it.
fn is_no_matter_of_rights(error: &RedisError) -> bool {
    error.detail().is_some_and(|detail| detail.starts_with("usage")) || remedy::is_wrong_type(error)
}

/// Every command of the work: reads and writes of histories as the function runs them with this user's rights, the
/// fleet's counts, and the revocation list.
fn trial_pipeline(broker: &RedisBroker) -> Pipeline {
    let [history, last, latest, members] = broker.keys.trial_keys();
    let sockets = broker.keys.sockets("");
    let mut trial = pipe();
    // Every command is tried, whatever the ones before returned.
    trial.ignore_errors();
    trial.cmd("FCALL").arg(broker.function.publish_name()).arg(0);
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
    trial
        .cmd("EVAL")
        .arg("return redis.call('ZADD', KEYS[1], 'NX', 0, 'm')")
        .arg(1)
        .arg(broker.keys.node_channel("trial"));
    trial.cmd("ZINCRBY").arg(broker.keys.node_channel("trial")).arg(1).arg("m");
    trial.cmd("ZREM").arg(broker.keys.node_channel("trial")).arg("n");
    trial.cmd("ZREMRANGEBYSCORE").arg(broker.keys.node_channel("trial")).arg(-1).arg(-1);
    trial.cmd("PEXPIRE").arg(broker.keys.node_channel("trial")).arg(KEPT_MS);
    trial.cmd("TIME");
    trial.cmd("PUBLISH").arg(broker.keys.trial_channel()).arg("");
    trial.cmd("MULTI").cmd("GET").arg(&last).cmd("EXEC");
    trial
}
