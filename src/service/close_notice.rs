//! A node that shuts down: it tells its clients to reconnect elsewhere, and the other nodes to stop counting it.

use std::time::Duration;

use serde_json::json;

use super::Service;
use crate::broker::Unavailable;
use crate::logs;

/// Sessions notified before the task yields.
const AT_ONCE: usize = 128;

impl Service {
    /// Sends every session the close notice `server.draining` with a random `reconnectInMs` of 0 to `spread`
    /// milliseconds, so that the clients do not all reconnect at once.
    pub async fn announce_drain(&self, spread: Duration) {
        let longest = u64::try_from(spread.as_millis()).unwrap_or(u64::MAX);
        for sessions in self.0.sessions.all_sessions().chunks(AT_ONCE) {
            for session in sessions {
                let pause = rand::random_range(0..=longest);
                session.send_notice("server.draining", &json!({"reconnectInMs": pause}));
            }
            // A node may have tens of thousands of sessions: live delivery goes on between two batches.
            tokio::task::yield_now().await;
        }
    }

    /// Removes this node's sockets from the fleet's counts.
    pub async fn leave_fleet(&self) {
        if let Err(Unavailable(error)) = self.0.hubs.withdraw_counts().await {
            tracing::warn!(
                event = logs::FAREWELL_FAILED,
                error,
                "the other nodes could not be told; they forget this one within half a minute"
            );
        }
    }
}
