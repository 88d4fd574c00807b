//! The probe: what readiness depends on beside the canary. It runs every few seconds, and at once when its own link
//! or the command link reconnects or breaks.

use std::sync::Arc;
use std::time::Duration;

use ::redis::{RedisError, cmd};
use tokio::time::Instant;

use super::{BrokerSettings, RedisBroker, marks, rights};
use crate::broker::EventRouter;
use crate::link::remedy;
use crate::redis::checks::Check;

/// State of the probe between two runs.
#[derive(Default)]
struct ProbeMemory {
    /// Whether the function has been found or loaded.
    loaded: bool,
    /// Whether another node's settings have been reported.
    warned: bool,
    /// Breaks of the command link that have been dealt with.
    breaks: u64,
    /// When the time was last recorded in Redis.
    noted: Option<Instant>,
}

pub(super) async fn run_probe(
    broker: Arc<RedisBroker>,
    settings: BrokerSettings,
    every: Duration,
    events: EventRouter,
) {
    let mut turns = tokio::time::interval(every);
    turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut memory, mut seen) = (ProbeMemory::default(), (0, 0));
    loop {
        tokio::select! {
            _ = turns.tick() => {}
            // A changed connection is probed at once: readiness must not lag behind by an interval.
            () = broker.links.commands.wait_until_replaced(seen.0) => turns.reset(),
            () = broker.links.probe.wait_until_replaced(seen.1) => turns.reset(),
        }
        seen = connection_generations(&broker);
        probe_once(&broker, &settings, &events, &mut memory).await;
    }
}

async fn probe_once(broker: &RedisBroker, settings: &BrokerSettings, events: &EventRouter, memory: &mut ProbeMemory) {
    let breaks = broker.links.commands.breaks();
    // After a break Redis may hold events that never came through pub/sub: a promoted replica has them from its sync.
    // The first connection is no break.
    if breaks > memory.breaks.max(1) {
        events.report_break();
    }
    memory.breaks = memory.breaks.max(breaks);
    let seen = connection_generations(broker);
    let outcome = match broker.links.commands.problem().or_else(|| broker.links.probe.problem()) {
        Some(problem) => Err(problem),
        None => {
            check_redis(broker, settings, memory).await.map_err(|error| remedy::describe_problem("commands", &error))
        }
    };
    // A failure on a connection that was replaced meanwhile says nothing about its successor, which is probed next.
    if outcome.is_ok() || connection_generations(broker) == seen {
        broker.checks.set_outcome(Check::Commands, outcome.err());
    }
}

/// The generations of the connections that readiness depends on.
fn connection_generations(broker: &RedisBroker) -> (u64, u64) {
    (broker.links.commands.generation(), broker.links.probe.generation())
}

/// Puts into Redis what must be there before this node relies on it: first the birth, then the function, so that
/// nothing is stored before the birth. A restarted Redis may have lost both. One round trip when it has not.
pub(super) async fn prepare_redis(broker: &RedisBroker) -> Result<(), RedisError> {
    let mut redis = broker.links.probe.clone();
    let (begun, holds) = tokio::join!(marks::mark_birth(broker), broker.function.is_held(&mut redis));
    begun?;
    if holds? { Ok(()) } else { broker.function.load_if_absent(&mut broker.links.probe.clone()).await }
}

/// Checks the mode, the birth, the function, the rights and the eviction policy.
async fn check_redis(
    broker: &RedisBroker,
    settings: &BrokerSettings,
    memory: &mut ProbeMemory,
) -> Result<(), RedisError> {
    let mode = broker.links.commands.is_cluster().then(|| remedy::cluster_remedy().to_owned());
    broker.checks.set_outcome(Check::Mode, mode);
    // Before the function: an event stored without a birth could not prove its history complete.
    marks::mark_birth(broker).await?;
    let mut redis = broker.links.probe.clone();
    if memory.loaded {
        // Once this node has loaded its library, a different one is reported and not replaced again.
        broker.function.recheck_loaded(&mut redis, &mut memory.warned).await?;
    } else {
        broker.function.ensure_loaded(&mut redis).await?;
        memory.loaded = true;
    }
    let missing = rights::first_refusal(broker).await?;
    let lacks_a_right = missing.is_some();
    broker.checks.set_outcome(Check::Rights, missing);
    // The functions need the same rights, and their error does not name the missing one.
    if lacks_a_right {
        return Ok(());
    }
    let passed = memory.noted.replace(Instant::now()).map(|before| before.elapsed());
    marks::note_time(broker, passed).await?;
    let evicts = if settings.allow_eviction { None } else { eviction_problem(broker).await };
    broker.checks.set_outcome(Check::Policy, evicts);
    Ok(())
}

/// The failure of the eviction policy. Managed servers disable `CONFIG`, so `INFO` is read first.
async fn eviction_problem(broker: &RedisBroker) -> Option<String> {
    // An unknown policy counts as a failure: a history that is evicted in silence cannot be reported as incomplete.
    let Some(policy) = eviction_policy(broker).await else {
        return Some(
            "maxmemory-policy cannot be seen, and an evicting one would forget histories: give the user of Redis \
             +info, or set redis.allow_eviction"
                .to_owned(),
        );
    };
    (policy != "noeviction").then(|| {
        format!("maxmemory-policy is {policy}, which forgets histories: set it to noeviction, or redis.allow_eviction")
    })
}

async fn eviction_policy(broker: &RedisBroker) -> Option<String> {
    let mut redis = broker.links.probe.clone();
    if let Ok(about) = cmd("INFO").arg("memory").query_async::<String>(&mut redis).await
        && let Some(policy) = about.lines().find_map(|line| line.strip_prefix("maxmemory_policy:"))
    {
        return Some(policy.to_owned());
    }
    let mut config = cmd("CONFIG");
    let found: Result<Vec<String>, _> = config.arg("GET").arg("maxmemory-policy").query_async(&mut redis).await;
    found.ok()?.into_iter().nth(1)
}
