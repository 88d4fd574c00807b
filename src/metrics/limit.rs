//! The limits of a deployment in metrics and logs. Each time one takes effect it is counted, and at intervals it is
//! logged with the key that sets it.

use std::sync::atomic::{AtomicU64, Ordering};

use metrics::counter;

use super::OVER_LIMIT;
use crate::clock::now_ms;
use crate::logs;

/// The least time between two log lines about one limit, in milliseconds.
const LOG_EVERY_MS: u64 = 60_000;

/// A limit that can take effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// `limits.handshakes_per_second`
    HandshakesPerSecond,
    /// `limits.handshakes_per_ip`, or an address' share of `limits.handshakes_per_second`
    HandshakesPerIp,
    /// The limit on open files
    Descriptors,
    /// `limits.connections`
    Connections,
    /// `limits.connections_per_ip`
    ConnectionsPerIp,
    /// `limits.connections_per_user`
    ConnectionsPerUser,
    /// `limits.api_connections`
    ApiConnections,
    /// `limits.admin_connections`
    AdminConnections,
    /// `limits.head_bytes`
    HeadBytes,
    /// `limits.rooms_per_socket`
    RoomsPerSocket,
    /// `limits.commands_per_minute`
    CommandsPerMinute,
    /// `limits.locations_per_second`
    LocationsPerSecond,
    /// `limits.frame_bytes`
    FrameBytes,
    /// `limits.event_bytes`
    EventBytes,
    /// `limits.reads_per_user`
    ReadsPerUser,
}

static LOGGED_MS: [AtomicU64; Limit::ALL.len()] = [const { AtomicU64::new(0) }; Limit::ALL.len()];

impl Limit {
    /// All limits, in the order of their declaration.
    pub const ALL: [Self; 15] = [
        Self::HandshakesPerSecond,
        Self::HandshakesPerIp,
        Self::Descriptors,
        Self::Connections,
        Self::ConnectionsPerIp,
        Self::ConnectionsPerUser,
        Self::ApiConnections,
        Self::AdminConnections,
        Self::HeadBytes,
        Self::RoomsPerSocket,
        Self::CommandsPerMinute,
        Self::LocationsPerSecond,
        Self::FrameBytes,
        Self::EventBytes,
        Self::ReadsPerUser,
    ];

    /// The label, which is also the key in the section `limits`, except for the system's limit.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::HandshakesPerSecond => "handshakes_per_second",
            Self::HandshakesPerIp => "handshakes_per_ip",
            Self::Descriptors => "descriptors",
            Self::Connections => "connections",
            Self::ConnectionsPerIp => "connections_per_ip",
            Self::ConnectionsPerUser => "connections_per_user",
            Self::ApiConnections => "api_connections",
            Self::AdminConnections => "admin_connections",
            Self::HeadBytes => "head_bytes",
            Self::RoomsPerSocket => "rooms_per_socket",
            Self::CommandsPerMinute => "commands_per_minute",
            Self::LocationsPerSecond => "locations_per_second",
            Self::FrameBytes => "frame_bytes",
            Self::EventBytes => "event_bytes",
            Self::ReadsPerUser => "reads_per_user",
        }
    }

    /// The setting that an operator would have to raise.
    fn setting(self) -> String {
        let key = self.key();
        if self == Self::Descriptors {
            return "nofile".to_owned();
        }
        // An address that is refused without a limit of its own has used up its fair share of the other one.
        if self == Self::HandshakesPerIp {
            return format!("limits.{key} or limits.{}", Self::HandshakesPerSecond.key());
        }
        format!("limits.{key}")
    }

    /// Counts that the limit took effect, and logs it at intervals.
    pub fn note_reached(self) {
        counter!(OVER_LIMIT, "limit" => self.key()).increment(1);
        let (now, last) = (now_ms(), &LOGGED_MS[self as usize]);
        let before = last.load(Ordering::Relaxed);
        // A clock that was set back must not silence the log until it has caught up.
        let due = now >= before.saturating_add(LOG_EVERY_MS) || now < before;
        // Of several threads at this moment one logs.
        if due && last.compare_exchange(before, now, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            // The key, as the label alone does not say where to raise it.
            let key = self.setting();
            tracing::warn!(
                event = logs::LIMIT_REACHED,
                key,
                "a limit was reached; raise it if those who ran into it are right to"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_a_place_of_its_own() {
        for (place, limit) in Limit::ALL.into_iter().enumerate() {
            assert_eq!(limit as usize, place, "{limit:?}");
        }
    }
}
