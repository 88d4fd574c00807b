//! Sections whose features do not exist yet. Their keys are known and checked, so that one configuration serves this
//! version and the next; an operator who sets one is warned that it has no effect.

use std::time::Duration;

use super::{
    rule::{between, each, store_url},
    secret::Secret,
    section::section,
};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_hours(1);

section! {
    /// Events that want an answer (`requiresAck`).
    pub struct Ack for mode {
        /// How long a client may take to answer, 1s to 1h, before the event is sent again.
        @later timeout: Duration = Duration::from_secs(10), check between(SECOND, HOUR);

        /// How often it is sent again, 0 to 100.
        @later retries: u32 = 3, check between(0, 100);

        /// Whether each outcome is written to the stream `hallway:acks`.
        @later outcomes: bool = false;
    }
}

section! {
    /// The local-first sync door.
    pub struct SyncDoor for mode {
        /// Whether a client may come in without a token. Never by default, except with --dev.
        @later open: bool = mode.is_dev();

        /// CEL over `claims` that names a client's space. A user's devices share one.
        @later space: String = "claims.sub".to_owned();
    }
}

section! {
    /// The plain WebSocket door.
    pub struct WsDoor for mode {
        /// How long a client may be silent, 1s to 1h, before it is closed.
        @later idle_timeout: Duration = Duration::from_mins(1), check between(SECOND, HOUR);
    }
}

section! {
    /// The durable store of the sync door.
    pub struct Store for mode {
        /// Its URL: `sqlite://path` or `postgres://user:password@host/database`.
        @later url: Option<Secret> = None, check each(store_url), eg r#""sqlite:///var/lib/hallway/sync.db""#;
    }
}
