//! The probe: every few seconds a canary goes the way of every event, and what readiness rests on is looked at.

use std::sync::Arc;

use ::redis::{AsyncCommands, RedisError, cmd};

use super::link::Check;
use super::{RedisBroker, RedisSettings, remedy, tell};

/// Canaries that may be out before the pub/sub connection is given up.
const OVERDUE: u64 = 3;

pub(super) async fn run(broker: Arc<RedisBroker>, settings: RedisSettings) {
    let mut turns = tokio::time::interval(settings.canary);
    turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut number, mut warned, mut loaded) = (0_u64, false, false);
    loop {
        turns.tick().await;
        let outcome = look(&broker, &settings, &mut warned, &mut loaded).await;
        let problem = outcome.err().map(|error| remedy::problem("commands", &error));
        let reached = problem.is_none();
        broker.link.set(Check::Commands, problem);
        if reached {
            number += 1;
            send_canary(&broker, number).await;
        }
    }
}

/// What must be in Redis before this node relies on it: the birth, and then the function, so that nothing is stored
/// before the birth. A Redis that restarted may have lost both.
pub(super) async fn prepare(broker: &RedisBroker) -> Result<(), RedisError> {
    note_birth(broker).await?;
    broker.function.provide(&mut broker.connection()).await
}

async fn note_birth(broker: &RedisBroker) -> Result<(), RedisError> {
    let mut redis = broker.connection();
    let (seconds, micros): (u64, u64) = cmd("TIME").query_async(&mut redis).await?;
    redis.set_nx::<_, _, ()>(broker.keys.birth(), seconds * 1000 + micros / 1000).await
}

/// The birth, the function and the eviction policy.
async fn look(
    broker: &RedisBroker,
    settings: &RedisSettings,
    warned: &mut bool,
    loaded: &mut bool,
) -> Result<(), RedisError> {
    note_birth(broker).await?;
    let mut redis = broker.connection();
    if *loaded {
        broker.function.watch(&mut redis, warned).await?;
    } else {
        broker.function.ensure(&mut redis).await?;
        *loaded = true;
    }
    let evicts = if settings.allow_eviction { None } else { evicting_policy(broker).await };
    broker.link.set(
        Check::Policy,
        evicts.map(|policy| {
            format!(
                "maxmemory-policy is {policy}, which forgets histories: set it to noeviction, or redis.allow_eviction"
            )
        }),
    );
    Ok(())
}

/// The policy, if it evicts keys. Managed servers take `CONFIG` away, and often evict by default, so it is read from
/// `INFO`; a Redis that hides that too is believed.
async fn evicting_policy(broker: &RedisBroker) -> Option<String> {
    let reply: Result<String, RedisError> = cmd("INFO").arg("memory").query_async(&mut broker.connection()).await;
    let policy = reply.ok()?.lines().find_map(|line| line.strip_prefix("maxmemory_policy:"))?.to_owned();
    (policy != "noeviction").then_some(policy)
}

async fn send_canary(broker: &RedisBroker, number: u64) {
    let subscriptions = &broker.subscriptions;
    if subscriptions.send_canary(number) > OVERDUE {
        broker.link.set(Check::PubSub, Some("canaries do not come back through pub/sub".to_owned()));
        subscriptions.redial(number);
    }
    let sent = tell(broker, &broker.canary, number.to_string().as_bytes()).await;
    if let Err(error) = sent {
        broker.link.set(Check::Commands, Some(remedy::problem("commands", &error)));
    }
}
