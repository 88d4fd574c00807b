//! How many sockets a room has on all nodes: those of this one are counted, the others' are asked for.

use std::time::Duration;

use hallway_rooms::key::Room;
use tokio::time::timeout;

use super::Service;

/// How long an answer waits for the others' count before it uses the last one known.
const PATIENCE: Duration = Duration::from_secs(1);

impl Service {
    /// How many sessions of all nodes are in a room: exact for this one, as the others have told for theirs.
    pub async fn room_size(&self, room: &Room) -> usize {
        let others = self.others(room).await;
        self.0.hub.size(room) + others
    }

    /// How many sessions of other nodes are in a room; the last number known when the broker does not say in time.
    /// Somebody who joins or leaves is never refused for it.
    pub(super) async fn others(&self, room: &Room) -> usize {
        let told = timeout(PATIENCE, self.0.fleet.others(room)).await;
        let Some(local) = self.0.hub.find(room) else { return told.map_or(0, |others| others.unwrap_or(0)) };
        if let Ok(Ok(others)) = told {
            local.note_others(others);
        }
        local.others()
    }
}
