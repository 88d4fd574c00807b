//! Marks: what `complete` rests on beside the histories, kept in Redis so that it rests on no node's setting or clock. The birth of
//! the data, the memory in force and since when, the highest time seen and when it was set back. The function writes them.

use std::time::Duration;

use ::redis::{AsyncCommands, RedisError, cmd};

use super::RedisBroker;
use crate::logs;

/// Marks the birth where there is none, before anything is stored: the function may not be there yet.
pub(super) async fn begin(broker: &RedisBroker) -> Result<(), RedisError> {
    let mut redis = broker.links.probe.clone();
    let (seconds, micros): (u64, u64) = cmd("TIME").query_async(&mut redis).await?;
    redis.set_nx::<_, _, ()>(broker.keys.birth(), seconds * 1000 + micros / 1000).await
}

/// Notes the time, and whatever of the marks is missing or wrong. `passed` has gone by since this node did so before.
pub(super) async fn note(broker: &RedisBroker, passed: Option<Duration>) -> Result<(), RedisError> {
    let mended: Vec<String> = broker.function.note(passed).query_async(&mut broker.links.probe.clone()).await?;
    for key in mended {
        tracing::warn!(
            event = logs::MARK_STRANGE,
            key,
            "a key held what no gateway writes there; it counts from now on"
        );
    }
    Ok(())
}
