//! Ways in for events beside the Redis function and HTTP.

use std::time::Duration;

use super::{
    rule::{between, each, emitter},
    section::section,
};

section! {
    /// Ways in for events beside the Redis function and HTTP: the stream `hallway:ingest`.
    pub struct IngestConfig for mode {
        /// How long a node keeps the lease of the ingest stream without renewing it, 500ms to 5m. When the node dies,
        /// events wait this long for the next one; longer than any hiccup of a healthy Redis.
        lease: Duration = Duration::from_secs(6), check between(Duration::from_millis(500), Duration::from_mins(5));

        /// Most entries read and published at a time, 1 to 10000. Fewer are read while entries are large.
        batch: usize = 256, check between(1, 10_000);

        /// About how many bad entries are kept in `hallway:ingest:rejected`, 0 to 1000000; older ones go. Enough to find
        /// out what a broken service sends; each has at most about twice `event_bytes`.
        rejected: usize = 10_000, check between(0, 1_000_000);

        /// Emitter dialects to listen for: "socket.io", "python-socketio".
        @later emitters: Vec<String> = Vec::new(), check each(emitter), eg r#"["socket.io", "python-socketio"]"#;
    }
}
