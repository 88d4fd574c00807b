//! The log events: each with its stable name, its level and its meaning.
//!
//! A statement has the name as its first field, `event = logs::NAME`. Its message is for humans and may change.

use std::fmt::Write as _;

mod hints;

pub use hints::Hints;

/// Log events of one theme.
#[derive(Debug)]
pub struct LogGroup {
    /// The heading.
    pub title: &'static str,
    /// The events.
    pub events: &'static [LogEvent],
}

/// A log event.
#[derive(Debug)]
pub struct LogEvent {
    /// The constant with its name.
    pub constant: &'static str,
    /// The name: the field `event` of its lines.
    pub name: &'static str,
    /// The level.
    pub level: LogLevel,
    /// When it is logged.
    pub meaning: &'static str,
}

/// The level of a log event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// An operator has to act.
    Error,
    /// An operator should look.
    Warn,
    /// The node's own activity.
    Info,
    /// Activity for one client or one event.
    Debug,
}

/// Generates a constant of each event's name, and [`TABLE`] of all events.
macro_rules! table {
    ($($title:literal { $(#[doc = $line:literal] $constant:ident = $level:ident($name:literal);)+ })+) => {
        $($(#[doc = $line] pub const $constant: &str = $name;)+)+

        /// Every log event, by theme.
        pub const TABLE: &[LogGroup] = &[$(LogGroup {
            title: $title,
            events: &[$(LogEvent {
                constant: stringify!($constant),
                name: $name,
                level: LogLevel::$level,
                meaning: $line,
            }),+],
        }),+];
    };
}

table! {
    "Start and stop" {
        /// A setting has no effect in this version.
        SETTING_WITHOUT_EFFECT = Warn("setting-without-effect");
        /// How many descriptors the node may have open.
        OPEN_FILES = Info("open-files");
        /// The limit on open descriptors could not be raised.
        OPEN_FILES_FIXED = Warn("open-files-fixed");
        /// Dev mode, whose secrets are public, listens beyond this machine.
        DEV_EXPOSED = Warn("dev-exposed");
        /// A listener is open.
        LISTENING = Info("listening");
        /// The node was asked to stop, and drains.
        STOPPING = Info("stopping");
        /// The node has too little memory for what its limits allow.
        MEMORY_SMALL = Warn("memory-small");
        /// The limit on open descriptors is too low for `limits.connections`.
        DESCRIPTORS_FEW = Warn("descriptors-few");
        /// A signal without an effect came: SIGHUP, SIGUSR1 or SIGUSR2.
        SIGNAL_IGNORED = Info("signal-ignored");
        /// A stopping node could not announce its end in time.
        FAREWELL_LATE = Warn("farewell-late");
        /// A stopping node could not announce its end.
        FAREWELL_FAILED = Warn("farewell-failed");
        /// At the stop some peers did not take their last bytes in time.
        PEERS_CUT_OFF = Warn("peers-cut-off");
        /// At the stop some tasks did not end in time.
        TASKS_LEFT = Warn("tasks-left");
        /// A task that the node cannot be without has panicked, and the process ends. It is a defect of Hallway: report the lines above.
        ESSENTIAL_TASK_DIED = Error("essential-task-died");
    }

    "Connections" {
        /// Connections cannot be accepted.
        ACCEPT_FAILED = Error("accept-failed");
        /// An option of a socket could not be set.
        SOCKET_OPTION_FAILED = Debug("socket-option-failed");
        /// A connection did not end well: its request was invalid, or was cut off.
        CONNECTION_FAILED = Debug("connection-failed");
        /// A limit refused a handshake.
        HANDSHAKE_REFUSED = Debug("handshake-refused");
        /// In dev mode: a handshake was refused, and what to change; once a minute for each reason.
        DEV_HANDSHAKE_REFUSED = Info("dev-handshake-refused");
        /// In dev mode: a request by another name than those of loopback and `--dev-host` was refused; once a minute for each.
        DEV_REQUEST_REFUSED = Info("dev-request-refused");
        /// A page of an origin that is not among `server.origins` was refused.
        ORIGIN_REFUSED = Debug("origin-refused");
        /// A limit was reached; once a minute for each limit.
        LIMIT_REACHED = Warn("limit-reached");
        /// More was queued for slow sockets than the node has memory for, and the slowest were closed; once a minute.
        MEMORY_SHED = Warn("memory-shed");
        /// A frame could not be written: the peer is gone.
        FRAME_UNWRITTEN = Debug("frame-unwritten");
        /// A backlog could not be written: the peer is gone.
        BACKLOG_UNWRITTEN = Debug("backlog-unwritten");
    }

    "Sessions and tokens" {
        /// The token of a CONNECT was refused.
        TOKEN_REFUSED = Debug("token-refused");
        /// In dev mode: the token of a CONNECT or of a `refresh_token` was refused; once a minute for each reason.
        DEV_TOKEN_REFUSED = Info("dev-token-refused");
        /// A user has `limits.connections_per_user` already.
        SEAT_REFUSED = Debug("seat-refused");
        /// Connections of users are counted on this node only.
        SEATS_COUNTED_HERE = Warn("seats-counted-here");
        /// A session ended.
        SESSION_ENDED = Debug("session-ended");
        /// The token of a `refresh_token` was refused.
        REFRESH_REFUSED = Debug("refresh-refused");
        /// The JWKS was fetched, the first time or after failures.
        JWKS_FETCHED = Info("jwks-fetched");
        /// Fetches of the JWKS began to fail.
        JWKS_FETCH_FAILED = Warn("jwks-fetch-failed");
        /// The JWKS has a key that is not trusted.
        JWKS_KEY_SKIPPED = Warn("jwks-key-skipped");
        /// The JWKS is older than `auth.jwks_max_stale`: its keys admit no client.
        JWKS_TOO_OLD = Error("jwks-too-old");
    }

    "Rights" {
        /// A rule could not be judged, which denies.
        POLICY_NOT_JUDGED = Debug("policy-not-judged");
        /// The authorizer began to fail; joins of the rooms that it guards are refused.
        AUTHORIZER_FAILING = Warn("authorizer-failing");
        /// The authorizer answers again.
        AUTHORIZER_RESTORED = Info("authorizer-restored");
        /// Tokens were revoked, and their sessions of this node kicked.
        REVOKED = Info("revoked");
        /// Tokens were revoked, and the other nodes could not be informed yet.
        REVOKED_HERE_ONLY = Warn("revoked-here-only");
        /// Sessions were kicked: another node revoked their tokens.
        SESSIONS_KICKED = Info("sessions-kicked");
        /// A user was kicked.
        DISCONNECTED = Info("disconnected");
        /// A user was kicked on this node; the others could not be asked.
        DISCONNECTED_HERE_ONLY = Warn("disconnected-here-only");
        /// A node that asked for a kick could not be answered.
        KICK_UNANSWERED = Debug("kick-unanswered");
        /// This node does not receive revocations, and is not ready.
        REVOCATIONS_UNHEARD = Error("revocations-unheard");
        /// Redis had lost revocations, and gets them again.
        REVOCATIONS_RESTORED = Info("revocations-restored");
        /// The clocks of this node and of Redis differ.
        CLOCK_DIFFERS = Warn("clock-differs");
    }

    "Events" {
        /// An event that came by HTTP could not be published.
        PUBLISH_FAILED = Warn("publish-failed");
        /// A location could not be published: the broker is out of reach.
        LOCATION_UNPUBLISHED = Debug("location-unpublished");
        /// The broker refuses a location.
        LOCATION_REFUSED = Warn("location-refused");
        /// The zone of an agent's token is not valid in a room key.
        ZONE_UNFIT = Debug("zone-unfit");
        /// A client acknowledged an event.
        EVENT_ACKNOWLEDGED = Debug("event-acknowledged");
        /// A room's history holds an event that no client may get.
        EVENT_UNDELIVERABLE = Warn("event-undeliverable");
        /// A stored event is not valid for clients.
        EVENT_UNFIT = Debug("event-unfit");
        /// A room's stream holds an entry that Hallway did not write.
        ENTRY_STRANGE = Warn("entry-strange");
        /// A room's last offset is far ahead of Redis' clock.
        LAST_AHEAD = Warn("last-ahead");
        /// A key on which `complete` relies has a value that Hallway did not write.
        MARK_STRANGE = Warn("mark-strange");
        /// A room's latest events include one that Hallway did not write.
        LATEST_STRANGE = Warn("latest-strange");
        /// A message on a room's channel is not an event.
        MESSAGE_STRANGE = Warn("message-strange");
    }

    "Live delivery" {
        /// The event channel had a break, and the histories are read.
        FEED_BROKEN = Info("feed-broken");
        /// The histories are read; live delivery goes on.
        FEED_HEALED = Info("feed-healed");
        /// A room cannot be read, and is retried; the others go on.
        HISTORY_UNREADABLE = Warn("history-unreadable");
        /// The broker forgot the newest entries of a room.
        ROOM_REWOUND = Warn("room-rewound");
        /// A room cannot be read though Redis is healthy; its members are closed, and it stays closed for a while.
        ROOM_UNREADABLE = Error("room-unreadable");
        /// The sizes of rooms cannot be announced to the other nodes; retrying.
        ROOM_SIZES_UNTOLD = Warn("room-sizes-untold");
    }

    "Redis and the fleet" {
        /// Redis can be relied on.
        BROKER_UP = Info("broker-up");
        /// Redis cannot be relied on; the node is not ready.
        BROKER_DOWN = Error("broker-down");
        /// A link to Redis has a connection: its first one, or another one.
        LINK_UP = Info("link-up");
        /// A connection to Redis is silent, or refuses what another server might not; a second one is made beside it.
        LINK_SUSPECT = Warn("link-suspect");
        /// A connection to Redis is lost, or of no use; another one is made.
        LINK_LOST = Warn("link-lost");
        /// The function was loaded into Redis.
        FUNCTION_LOADED = Info("function-loaded");
        /// Redis holds a newer version of the function, which stays.
        FUNCTION_NEWER = Warn("function-newer");
        /// Redis holds a function of other settings than this node's.
        FUNCTION_DIFFERS = Warn("function-differs");
        /// A key of a room has another type.
        ROOM_KEY_STRANGE = Warn("room-key-strange");
        /// The key of the nodes has another type.
        NODES_KEY_STRANGE = Error("nodes-key-strange");
        /// A key of a user's connections has another type.
        SEATS_KEY_STRANGE = Warn("seats-key-strange");
        /// A message on a channel of the nodes came from none of them.
        ORDER_STRANGE = Warn("order-strange");
        /// A key with the sizes of a room has another type; this node's own members are counted.
        MEMBERS_KEY_STRANGE = Warn("members-key-strange");
        /// The heartbeat failed; retrying.
        HEARTBEAT_FAILED = Warn("heartbeat-failed");
        /// The heartbeat works again.
        HEARTBEAT_BACK = Info("heartbeat-back");
        /// Redis had lost this node, which announces its rooms again.
        NODE_FORGOTTEN = Warn("node-forgotten");
        /// Other nodes are gone without a notice.
        NODES_GONE = Info("nodes-gone");
    }

    "Ingest" {
        /// This node holds the lease of the ingest stream, and reads it.
        INGEST_LEADING = Info("ingest-leading");
        /// This node does not hold the lease of the ingest stream any more.
        INGEST_LET_GO = Info("ingest-let-go");
        /// The node cannot take the lease of the ingest stream.
        INGEST_LEASE_FAILED = Error("ingest-lease-failed");
        /// The ingest stream cannot be read; events wait.
        INGEST_STUCK = Error("ingest-stuck");
        /// The ingest stream is read again.
        INGEST_RESUMED = Info("ingest-resumed");
        /// Bad entries of the ingest stream were put aside.
        INGEST_REJECTED = Warn("ingest-rejected");
        /// Bad entries of the ingest stream cannot be put aside.
        REJECTS_STUCK = Error("rejects-stuck");
        /// Bad entries of the ingest stream are put aside again.
        REJECTS_RESUMED = Info("rejects-resumed");
    }
}

/// Renders the documentation page.
#[must_use]
pub fn page() -> String {
    let mut page = HEAD.to_owned();
    for group in TABLE {
        let _ = write!(page, "\n## {}\n\n| Event | Level | When |\n| --- | --- | --- |\n", group.title);
        for LogEvent { name, level, meaning, .. } in group.events {
            let _ = writeln!(page, "| `{name}` | {} | {} |", format!("{level:?}").to_lowercase(), meaning.trim());
        }
    }
    page
}

const HEAD: &str = "<!-- Written by `hallway reference logs`. -->
# What does the log say?

```json
{\"timestamp\":\"2026-11-26T12:00:00.000000Z\",\"level\":\"INFO\",\"message\":\"Redis is ready\",\"event\":\"broker-up\",\"target\":\"hallway\"}
```

Every line that Hallway logs has one of these names in its field `event`. Names and levels stay; the message beside them is for people
and may be worded anew, and so may the other fields. Lines without the field are of libraries, which are held at `warn`. No line
holds a token, a secret or what is in an event.
";
