//! How much history a room keeps, unless its class says otherwise.

use std::time::Duration;

use super::{rule::between, section::section};

/// The upper bound of each: ten years, whose milliseconds are safe in every Redis command.
const LONGEST: Duration = Duration::from_hours(10 * 365 * 24);

section! {
    /// How much of a room's past a client can still ask for. A class under `[rooms]` may say otherwise.
    pub struct HistoryConfig for mode {
        /// Most events kept per room, 0 to 100000; 0 keeps none. A client reads a hundred in one go after an absence.
        max_events: u64 = 100, check between(0, 100_000);

        /// How long a room's history lives after its newest event, 10ms to 3650d. An hour covers a tunnel, a lunch
        /// and a restart of the app; who was away for longer should load the state anew.
        ttl: Duration = Duration::from_hours(1), check between(Duration::from_millis(10), LONGEST);

        /// Most keys of `latest` events kept per room, 1 to 10000: so many agents can be on one map. Past it the oldest go.
        max_latest: usize = 1_000, check between(1, 10_000);

        /// How long a room's last offset is remembered, 1s to 3650d and never less than a ttl. While it is,
        /// "nothing missed" can be told from "gone" in rooms that were idle; it costs one small key per room.
        memory: Duration = Duration::from_hours(7 * 24), check between(Duration::from_secs(1), LONGEST);

        /// How long an event id is remembered, so that publishing it again stores nothing twice, 1s to 7d. Longer than
        /// any publisher goes on retrying.
        id_window: Duration = Duration::from_mins(10),
            check between(Duration::from_secs(1), Duration::from_hours(7 * 24));
    }
}
