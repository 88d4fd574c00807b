//! The member count of a room on all nodes: this node's members are counted, the others' are read from the broker.

use std::time::Duration;

use hallway_rooms::key::Room;
use tokio::time::timeout;

use super::Service;

/// How long an answer waits for the other nodes' count before it uses the last known one.
const PATIENCE: Duration = Duration::from_secs(1);

impl Service {
    /// The sessions in a room on all nodes: exact for this node, as last announced for the others.
    pub async fn room_size(&self, room: &Room) -> usize {
        let others = self.members_elsewhere(room).await;
        self.0.hubs.size(room) + others
    }

    /// The sessions in a room on other nodes, or the last known number when the broker does not answer in time. A
    /// join or leave is never refused for it.
    pub(super) async fn members_elsewhere(&self, room: &Room) -> usize {
        let sent = timeout(PATIENCE, self.0.fleet.members_elsewhere(room)).await;
        // No loop of this node has the room open, so there is no place to remember the count in.
        let known = self.0.hubs.find_totals(room);
        let Some(totals) = known else { return sent.map_or(0, |others| others.unwrap_or(0)) };
        if let Ok(Ok(others)) = sent {
            totals.note_others(others);
        }
        totals.members_elsewhere()
    }
}
