//! A node on its way out: its sessions are told to come back elsewhere, and the other nodes to count without it.

use std::time::Duration;

use serde_json::json;

use super::Service;
use crate::broker::Unavailable;
use crate::logs;

/// Sessions told before other tasks get a turn.
const AT_ONCE: usize = 128;

impl Service {
    /// Tells every session that this node stops and in how many milliseconds to come back: each another number from 0
    /// to `spread`, so that they do not all come at once.
    pub async fn announce_drain(&self, spread: Duration) {
        let longest = u64::try_from(spread.as_millis()).unwrap_or(u64::MAX);
        for sessions in self.0.sessions.all().chunks(AT_ONCE) {
            for session in sessions {
                let pause = rand::random_range(0..=longest);
                session.notify("server.draining", &json!({"reconnectInMs": pause}));
            }
            tokio::task::yield_now().await;
        }
    }

    /// Takes this node's sockets out of the counts of the fleet.
    pub async fn resign(&self) {
        if let Err(Unavailable(error)) = self.0.hub.resign().await {
            tracing::warn!(
                event = logs::FAREWELL_FAILED,
                error,
                "the other nodes could not be told; they forget this one within half a minute"
            );
        }
    }
}
