//! The metrics: each with its name and meaning. Labels are small closed sets, never room names.

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use metrics_process::Collector;

mod labels;
pub mod limit;
mod table;

pub(crate) use labels::API_OUTCOMES;
use labels::*;
pub use table::{Metric, MetricGroup, MetricKind, page};

table::table! {
    "Connections and sessions" {
        /// Open connections of clients, handshakes under way included.
        CONNECTIONS = Gauge("hallway_connections", "connections");
        /// `limits.connections`, if set, or fewer if the descriptors allow only fewer.
        CONNECTIONS_LIMIT = Gauge("hallway_connections_limit", "connections");
        /// Open connections by the limit that bounds them: to `server.listen` by the descriptors, whether or not a
        /// client has used them, to `api.listen` and to `admin.listen`.
        HTTP_CONNECTIONS = Gauge("hallway_http_connections", "connections", limit = &["descriptors", "api_connections", "admin_connections"]);
        /// Transports that were taken from the library; see `wire.hand_over`.
        HANDED_OVER = Gauge("hallway_handed_over", "transports");
        /// Open connections to `server.listen` by event loop (`server.cores`).
        LOOP_CONNECTIONS = Gauge("hallway_loop_connections", "connections", loop = &[]);
        /// Sessions signed in at this moment.
        SESSIONS = Gauge("hallway_sessions", "sessions");
        /// CONNECTs admitted.
        CONNECTS = Counter("hallway_connects_total", "CONNECTs");
        /// CONNECTs refused.
        CONNECTS_REFUSED = Counter("hallway_connects_refused_total", "CONNECTs", reason = REFUSED_CONNECTS);
        /// Sessions that ended.
        DISCONNECTS = Counter("hallway_disconnects_total", "sessions", reason = CLOSES);
        /// Times that a limit was reached: one of the configuration, or the descriptors.
        OVER_LIMIT = Counter("hallway_over_limit_total", "times", limit = LIMITS);
        /// Requests refused because their `Origin` is not among `server.origins`.
        ORIGINS_REFUSED = Counter("hallway_origins_refused_total", "requests");
        /// Commands refused or dropped before they were parsed.
        COMMANDS_REFUSED = Counter("hallway_commands_refused_total", "commands", reason = REFUSED_COMMANDS);
    }

    "Memory" {
        /// Bytes held for sockets: frames queued for them, and commands that wait for a reply.
        MEMORY_HELD = Gauge("hallway_memory_held_bytes", "bytes");
        /// Bytes that may be held for sockets: a quarter of the node's memory, see `limits.memory`.
        MEMORY_BUDGET = Gauge("hallway_memory_budget_bytes", "bytes");
        /// Transports closed because all sockets together held more than the budget, the slowest first.
        MEMORY_SHED = Counter("hallway_memory_shed_total", "transports");
    }

    "Rooms and delivery" {
        /// Rooms with local members, or with a delayed unsubscribe.
        ROOMS = Gauge("hallway_rooms", "rooms");
        /// Joins carried out.
        JOINS = Counter("hallway_joins_total", "joins");
        /// Joins refused.
        JOINS_REFUSED = Counter("hallway_join_refused_total", "joins", reason = REFUSED_JOINS);
        /// Events fanned out to local members.
        EVENTS_FANNED_OUT = Counter("hallway_events_fanned_out_total", "events");
        /// Frames handed to sockets by fan-out.
        DELIVERED = Counter("hallway_deliveries_total", "frames");
        /// Seconds from an event's offset to the end of its fan-out.
        FAN_OUT_LAG = Histogram("hallway_fan_out_lag_seconds", "seconds");
        /// Ephemeral events dropped for peers that lag.
        EPHEMERAL_DROPPED = Counter("hallway_ephemeral_dropped_total", "frames");
        /// `latest` events replaced by later ones of their key before a slow peer had taken them.
        LATEST_REPLACED = Counter("hallway_latest_replaced_total", "frames");
        /// Events dropped because the event channel was full; durable ones are read again.
        FEED_DROPPED = Counter("hallway_feed_dropped_total", "events");
        /// Events that live delivery missed and the histories had.
        HEALED = Counter("hallway_events_healed_total", "events");
        /// Times that the broker had lost the newest entries of a room.
        REWOUND = Counter("hallway_rooms_rewound_total", "times");
        /// Rooms whose members were closed because the history did not reach back to them any more.
        ROOMS_CUT_OFF = Counter("hallway_rooms_cut_off_total", "rooms");
        /// Rooms that could not be read though Redis was healthy, and whose members were closed.
        ROOMS_UNREADABLE = Counter("hallway_rooms_unreadable_total", "rooms");
        /// Acknowledgements of events.
        ACKNOWLEDGEMENTS = Counter("hallway_acknowledgements_total", "acknowledgements", status = &["received", "processed", "failed"]);
    }

    "Publishing" {
        /// Events published through this node.
        EVENTS_PUBLISHED = Counter("hallway_events_published_total", "events", source = &["http", "ingest", "location"]);
        /// Events refused. Those of `dispatch` and `history` were stored, such as by an older version, and are skipped.
        EVENTS_REFUSED = Counter("hallway_events_refused_total", "events", source = &["http", "channel", "dispatch", "history"]);
        /// Seconds from the API's request to the broker's reply.
        PUBLISH_LATENCY = Histogram("hallway_publish_seconds", "seconds");
        /// Events that came by HTTP and have no answer yet.
        PENDING_PUBLISHES = Gauge("hallway_pending_publishes", "events");
        /// Bytes reserved for the bodies of those.
        PENDING_PUBLISH_BYTES = Gauge("hallway_pending_publish_bytes", "bytes");
        /// Publishes by HTTP that were refused because of their size in flight.
        PUBLISHES_TURNED_AWAY = Counter("hallway_publishes_turned_away_total", "requests", reason = &["events", "bytes", "slow-body"]);
        /// Locations refused.
        LOCATIONS_REFUSED = Counter("hallway_locations_refused_total", "locations", reason = REFUSED_LOCATIONS);
        /// Requests to `/v1`, by `key` (its name; `api.key` for the unnamed one, `none` without a valid key) and
        /// `outcome`.
        API_REQUESTS = Counter("hallway_api_requests_total", "requests", key = &[], outcome = API_OUTCOMES);
    }

    "Ingest" {
        /// Entries that wait in the ingest stream.
        INGEST_WAITING = Gauge("hallway_ingest_waiting", "entries");
        /// 1 while this node holds the lease of the ingest stream.
        INGEST_LEADING = Gauge("hallway_ingest_leading", "0 or 1");
        /// 1 while this node holds the lease of the ingest stream and cannot read it.
        INGEST_STUCK = Gauge("hallway_ingest_stuck", "0 or 1");
        /// Bad entries of the ingest stream that this node put aside.
        INGEST_REJECTED = Counter("hallway_ingest_rejected_total", "entries", code = REJECTED_ENTRIES);
        /// Seconds from an entry's arrival in the ingest stream to its publication.
        INGEST_LAG = Histogram("hallway_ingest_lag_seconds", "seconds");
    }

    "Broker and fleet" {
        /// 1 for each check of `/readyz` that holds, as of this scrape.
        CHECK_READY = Gauge("hallway_check_ready", "0 or 1", check = &["broker", "listeners", "keys", "revocations"]);
        /// 1 while the broker's connections work.
        BROKER_UP = Gauge("hallway_broker_up", "0 or 1");
        /// Reads of histories for clients that were sent to Redis.
        HISTORY_READS = Counter("hallway_history_reads_total", "reads");
        /// Clients whose history came from the read of another one, as when many return to a room at once.
        HISTORY_READS_SHARED = Counter("hallway_history_reads_shared_total", "clients");
        /// 1 while this link to Redis has a connection. `ingest-wait` waits for entries of the ingest stream.
        LINK_UP = Gauge("hallway_redis_link_up", "0 or 1", link = LINKS);
        /// Connections made to Redis.
        LINK_CONNECTS = Counter("hallway_redis_link_connects_total", "connections", link = LINKS);
        /// Times that the pub/sub connection was remade.
        PUBSUB_CONNECTS = Counter("hallway_pubsub_connects_total", "connections");
        /// Seconds that a canary took through Redis.
        CANARY = Histogram("hallway_canary_seconds", "seconds");
        /// 1 while Redis holds a function of another settings table than this node's.
        FUNCTION_DIFFERS = Gauge("hallway_function_differs", "0 or 1");
        /// Nodes that are alive as seen by this one, itself included.
        NODES = Gauge("hallway_nodes", "nodes");
        /// Heartbeats to the other nodes that failed.
        HEARTBEATS_FAILED = Counter("hallway_heartbeats_failed_total", "heartbeats");
    }

    "Tokens and rights" {
        /// Fetches of the JWKS.
        JWKS_FETCHES = Counter("hallway_jwks_fetches_total", "fetches", outcome = JWKS_OUTCOMES);
        /// When the JWKS was last fetched, seconds since the Unix epoch.
        JWKS_FETCHED = Gauge("hallway_jwks_fetched_timestamp_seconds", "seconds");
        /// Trusted keys of the JWKS: 0 before the first fetch, or when it is too old.
        JWKS_KEYS = Gauge("hallway_jwks_keys", "keys");
        /// Tokens that clients offered to replace their old ones.
        TOKEN_REFRESHES = Counter("hallway_token_refreshes_total", "tokens", outcome = REFRESHES);
        /// Rooms that a session had to leave because its later token does not open them.
        ROOMS_REVOKED = Counter("hallway_rooms_revoked_total", "rooms");
        /// Rules that could not be evaluated, which denies.
        POLICY_FAILURES = Counter("hallway_policy_failures_total", "judgements", reason = POLICY_FAULTS);
        /// Requests to the authorizer.
        AUTHORIZER_REQUESTS = Counter("hallway_authorizer_requests_total", "requests", outcome = AUTHORIZER_OUTCOMES);
        /// Questions to the authorizer that were answered from the cache, or by a request under way.
        AUTHORIZER_SHARED = Counter("hallway_authorizer_shared_total", "questions");
        /// Seconds until the authorizer's answer, including the wait for a free request.
        AUTHORIZER_LATENCY = Histogram("hallway_authorizer_seconds", "seconds");
        /// Revocations known to this node.
        REVOCATIONS = Gauge("hallway_revocations", "revocations");
        /// Requests to revoke.
        REVOKES = Counter("hallway_revokes_total", "requests", outcome = REVOKE_OUTCOMES);
        /// Revoked tokens that clients offered to replace their old ones.
        REFRESHES_REVOKED = Counter("hallway_refreshes_revoked_total", "tokens");
        /// Sessions that were kicked, and do not come back by themselves.
        KICKED = Counter("hallway_sessions_kicked_total", "sessions", reason = &["revoked", "disconnect"]);
        /// Seconds from the moment that this node learned of revocations to the last kick for them.
        KICK_LATENCY = Histogram("hallway_kick_seconds", "seconds");
    }

    "Process" {
        /// 1, with the version in use.
        BUILD = Gauge("hallway_build_info", "1", version = &[]);
        /// CPU time used by the process, user and system.
        PROCESS_CPU = Counter("process_cpu_seconds_total", "seconds");
        /// Resident memory of the process.
        PROCESS_RESIDENT = Gauge("process_resident_memory_bytes", "bytes");
        /// Address space of the process.
        PROCESS_VIRTUAL = Gauge("process_virtual_memory_bytes", "bytes");
        /// The limit on the process's address space.
        PROCESS_VIRTUAL_MAX = Gauge("process_virtual_memory_max_bytes", "bytes");
        /// Open descriptors: one for each connection, and some more.
        PROCESS_OPEN_FDS = Gauge("process_open_fds", "descriptors");
        /// The limit on open descriptors.
        PROCESS_MAX_FDS = Gauge("process_max_fds", "descriptors");
        /// Threads of the process.
        PROCESS_THREADS = Gauge("process_threads", "threads");
        /// When the process started, since the Unix epoch.
        PROCESS_START = Gauge("process_start_time_seconds", "seconds");
    }
}

/// Gauges that exist at 0 before any client comes: a missing series cannot be summed, and silences its alert.
const EMPTY: [&str; 4] = [CONNECTIONS, SESSIONS, ROOMS, REVOCATIONS];

/// Buckets of all histograms in seconds: from a fan-out on loopback to a restart of Redis.
const SECONDS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

/// The source of `/metrics`.
#[derive(Clone, Debug)]
pub struct NodeMetrics {
    handle: PrometheusHandle,
    process: Collector,
}

impl NodeMetrics {
    /// Reads the process's figures and renders all metrics.
    #[must_use]
    pub fn render(&self) -> String {
        // The process's figures have no events of their own, so they are read for each scrape.
        self.process.collect();
        // Drains the recorded observations into buckets: without it memory would grow between scrapes.
        self.handle.run_upkeep();
        self.handle.render()
    }
}

/// Installs the recorder for the whole process.
///
/// # Errors
/// When one is installed already.
pub fn install() -> Result<NodeMetrics, BuildError> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?
        .install_recorder()?;
    // Before any event: the first step of a series that does not exist is invisible to `increase`.
    TABLE.iter().flat_map(|group| group.metrics).for_each(Metric::register_metric);
    EMPTY.into_iter().for_each(|gauge| metrics::gauge!(gauge).set(0.0));
    metrics::gauge!(BUILD, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    Ok(NodeMetrics { handle, process: Collector::default() })
}
