//! Assurance: a room that nothing was stored in for longer than its last offset is remembered would look like one with
//! a gap. So silent rooms are looked at from time to time, well within that memory; should the live feed have lost
//! something without a word, this notices it too.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use super::Hub;
use super::room::LocalRoom;
use crate::broker::Unavailable;

/// Rooms looked at together.
const READS: usize = 64;
/// The shortest pause between two looks.
const SHORTEST: Duration = Duration::from_millis(250);

impl Hub {
    /// Between two looks: four within the memory.
    pub(super) fn assurance_pause(&self) -> Duration {
        (self.0.memory / 4).max(SHORTEST)
    }

    /// Looks at every room that has been silent for half the memory.
    pub(super) async fn assure(&self) {
        let half = u64::try_from(self.0.memory.as_millis() / 2).unwrap_or(u64::MAX);
        let old = crate::clock::now_ms().saturating_sub(half);
        let silent = |local: &Arc<LocalRoom>| local.position().is_some_and(|p| p.reach().ms < old);
        let rooms: Vec<_> = self.all().into_iter().filter(silent).collect();
        let mut behind = Vec::new();
        for chunk in rooms.chunks(READS) {
            let looks = chunk.iter().map(|local| async move { (local, self.is_level(local).await) });
            let seen = join_all(looks).await;
            behind.extend(seen.into_iter().filter(|(_, level)| *level == Ok(false)).map(|(local, _)| local.clone()));
        }
        self.heal(behind).await;
    }

    /// Whether everything that is stored in a room has been delivered; if so, its silence is proven up to now.
    async fn is_level(&self, local: &LocalRoom) -> Result<bool, ()> {
        let at = local.at().ok_or(())?;
        let facts = self.0.broker.facts(local.room()).await.map_err(|Unavailable(_)| ())?;
        let level = facts.last.is_none_or(|last| last == at);
        if level {
            local.vouch(at, facts.quiet());
        }
        Ok(level)
    }
}
