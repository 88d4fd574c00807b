//! Delayed unsubscribe: a room whose last member left some seconds ago is unsubscribed and forgotten. The delay spares
//! Redis the unsubscribe and subscribe of clients that reconnect.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Hub;
use super::room::{LocalRoom, RoomAccess};

/// Interval between two checks for empty rooms.
const TURN: Duration = Duration::from_secs(1);

impl Hub {
    /// Unsubscribes from empty rooms until `stop`.
    pub async fn unsubscribe_empty_rooms(&self, stop: CancellationToken) {
        let mut turns = tokio::time::interval(TURN);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = turns.tick() => self.let_go(),
            }
        }
    }

    fn let_go(&self) {
        let idle = |local: &Arc<LocalRoom>| local.idle_since().is_some_and(|since| since.elapsed() >= self.0.linger);
        for local in self.all_rooms().into_iter().filter(idle) {
            // A caller is opening the room and wants it: it is no longer idle.
            let Some(mut turn) = local.try_opening() else { continue };
            // Both locks until the room is removed: no caller can find it in between and enter a room without a
            // subscription.
            let mut rooms = self.0.rooms.write();
            let mut locked = local.lock_room();
            // A session may have joined since the list was made. If the unsubscribe finds no room in its queue, the
            // next turn tries again.
            if locked.size() > 0 || locked.is_watched() || !self.0.broker.unsubscribe(local.room()) {
                continue;
            }
            // Callers that already hold the room find it without a position and open it anew.
            locked.close_room();
            rooms.remove(local.room());
            self.0.node.totals.let_go(local.room());
            *turn = RoomAccess::Gone;
        }
    }
}
