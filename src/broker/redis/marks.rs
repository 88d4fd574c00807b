//! Marks: the facts besides the histories that `complete` depends on. The birth of the data, the memory in force and since
//! when, the highest time seen, and when the clock was set back. They are kept in Redis, so that they depend on no node's
//! settings or clock. The function writes them.

use std::time::Duration;

use ::redis::{AsyncCommands, RedisError, cmd};

use super::RedisBroker;
use crate::logs;

/// Notes the birth if there is none, before any event is stored. The function may not be loaded yet, so this is a plain
/// `SETNX`.
pub(super) async fn mark_birth(broker: &RedisBroker) -> Result<(), RedisError> {
    let mut redis = broker.links.probe.clone();
    let (seconds, micros): (u64, u64) = cmd("TIME").query_async(&mut redis).await?;
    redis.set_nx::<_, _, ()>(broker.keys.birth(), seconds * 1000 + micros / 1000).await
}

/// Notes the time, and repairs marks that are missing or wrong. `passed` is the time since this node did so before.
pub(super) async fn note_time(broker: &RedisBroker, passed: Option<Duration>) -> Result<(), RedisError> {
    let mended: Vec<String> = broker.function.note_command(passed).query_async(&mut broker.links.probe.clone()).await?;
    // A mark that was lost or overwritten begins again, so older offsets are not proven complete.
    for key in mended {
        tracing::warn!(
            event = logs::MARK_STRANGE,
            key,
            "a key held what no gateway writes there; it counts from now on"
        );
    }
    Ok(())
}
