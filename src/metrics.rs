//! Every metric there is: its name, and what it means. Labels are small closed sets, never room names.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

pub mod limit;

/// Sessions signed in right now.
pub const SESSIONS: &str = "hallway_sessions";
/// CONNECTs admitted.
pub const CONNECTS: &str = "hallway_connects_total";
/// CONNECTs refused, by `why`.
pub const CONNECTS_REFUSED: &str = "hallway_connects_refused_total";
/// Fetches of the JWKS, by `outcome`.
pub const JWKS_FETCHES: &str = "hallway_jwks_fetches_total";
/// When the JWKS was last fetched, seconds since the Unix epoch.
pub const JWKS_FETCHED: &str = "hallway_jwks_fetched_timestamp_seconds";
/// Keys of the JWKS that are believed: 0 while it was not fetched, or is too old.
pub const JWKS_KEYS: &str = "hallway_jwks_keys";
/// Sessions that ended, by `why`.
pub const DISCONNECTS: &str = "hallway_disconnects_total";
/// Rooms with local members, or let go a moment ago.
pub const ROOMS: &str = "hallway_rooms";
/// Joins carried out.
pub const JOINS: &str = "hallway_joins_total";
/// Joins refused, by `why`.
pub const JOINS_REFUSED: &str = "hallway_join_refused_total";
/// Events published through this node, by `way`.
pub const EVENTS_PUBLISHED: &str = "hallway_events_published_total";
/// Events refused, by `way`.
pub const EVENTS_REFUSED: &str = "hallway_events_refused_total";
/// Events fanned out to local members.
pub const EVENTS_FANNED_OUT: &str = "hallway_events_fanned_out_total";
/// Frames handed to sockets by fan-out.
pub const DELIVERED: &str = "hallway_deliveries_total";
/// Ephemeral events dropped for peers that lag.
pub const EPHEMERAL_DROPPED: &str = "hallway_ephemeral_dropped_total";
/// `latest` events that gave way to newer ones of their key before a peer that lags had taken them.
pub const LATEST_REPLACED: &str = "hallway_latest_replaced_total";
/// Feed items dropped because the feed was full; durable ones are read again.
pub const FEED_DROPPED: &str = "hallway_feed_dropped_total";
/// Events that the live feed did not bring and the histories did.
pub const HEALED: &str = "hallway_events_healed_total";
/// Times that the broker had forgotten the newest entries of a room.
pub const REWOUND: &str = "hallway_rooms_rewound_total";
/// Rooms whose members were closed because the history no longer reaches back.
pub const ROOMS_CUT_OFF: &str = "hallway_rooms_cut_off_total";
/// Seconds from the API's request to the broker's word.
pub const PUBLISH_LATENCY: &str = "hallway_publish_seconds";
/// Seconds from an event's offset to the end of its fan-out.
pub const FAN_OUT_LAG: &str = "hallway_fan_out_lag_seconds";
/// 1 while the broker's connections work.
pub const BROKER_UP: &str = "hallway_broker_up";
/// Times that the pub/sub connection was made anew.
pub const PUBSUB_CONNECTS: &str = "hallway_pubsub_connects_total";
/// Seconds that a canary took through Redis.
pub const CANARY: &str = "hallway_canary_seconds";
/// 1 while Redis holds a function of another settings table than this node's.
pub const FUNCTION_DIFFERS: &str = "hallway_function_differs";
/// Nodes that are alive as seen from here, this one included.
pub const NODES: &str = "hallway_nodes";

/// Requests to `/v1`, by `key` (its name; `api.key` for the one without, `none` where there was no valid one) and `outcome`.
pub const API_REQUESTS: &str = "hallway_api_requests_total";
/// Events that came by HTTP and have no answer yet.
pub const PENDING_PUBLISHES: &str = "hallway_pending_publishes";
/// Bytes reserved for the bodies of those.
pub const PENDING_PUBLISH_BYTES: &str = "hallway_pending_publish_bytes";
/// Publishes by HTTP that were turned away because of what they would take up, by `why`.
pub const PUBLISHES_TURNED_AWAY: &str = "hallway_publishes_turned_away_total";
/// Locations refused, by `why`.
pub const LOCATIONS_REFUSED: &str = "hallway_locations_refused_total";
/// Acknowledgements of events, by `status`.
pub const ACKNOWLEDGEMENTS: &str = "hallway_acknowledgements_total";
/// Tokens that clients offered in the place of their old ones, by `outcome`.
pub const TOKEN_REFRESHES: &str = "hallway_token_refreshes_total";
/// Rooms that a session had to leave because its new token does not open them.
pub const ROOMS_REVOKED: &str = "hallway_rooms_revoked_total";
/// Rules that could not be judged, which denies, by `why`.
pub const POLICY_FAILURES: &str = "hallway_policy_failures_total";
/// Requests to the authorizer, by `outcome`.
pub const AUTHORIZER_REQUESTS: &str = "hallway_authorizer_requests_total";
/// Questions to the authorizer that an answer was at hand for, or under way.
pub const AUTHORIZER_SHARED: &str = "hallway_authorizer_shared_total";
/// Seconds that an answer of the authorizer took, the wait for a free request included.
pub const AUTHORIZER_LATENCY: &str = "hallway_authorizer_seconds";
/// Revocations that this node knows.
pub const REVOCATIONS: &str = "hallway_revocations";
/// Requests to revoke, by `outcome`.
pub const REVOKES: &str = "hallway_revokes_total";
/// Tokens that clients offered in the place of their old ones and that had been revoked.
pub const REFRESHES_REVOKED: &str = "hallway_refreshes_revoked_total";
/// Sessions that were told not to come back, by `why`.
pub const KICKED: &str = "hallway_sessions_kicked_total";
/// Seconds from the moment this node knew of revocations to the last kick for them.
pub const KICK_LATENCY: &str = "hallway_kick_seconds";
/// Open connections of clients, handshakes under way included.
pub const CONNECTIONS: &str = "hallway_connections";
/// Open connections to `api.listen` and `admin.listen`, by the `limit` that bounds them.
pub const HTTP_CONNECTIONS: &str = "hallway_http_connections";
/// Times that a limit of the configuration held somebody back, by `limit`.
pub const OVER_LIMIT: &str = "hallway_over_limit_total";
/// Requests refused because their `Origin` is not among `server.origins`.
pub const ORIGINS_REFUSED: &str = "hallway_origins_refused_total";
/// Commands refused or dropped before they were looked at, by `why`.
pub const COMMANDS_REFUSED: &str = "hallway_commands_refused_total";
/// Entries that wait in the ingest stream.
pub const INGEST_WAITING: &str = "hallway_ingest_waiting";
/// 1 while this node is the one that reads the ingest stream.
pub const INGEST_LEADING: &str = "hallway_ingest_leading";
/// 1 while this node is the one that reads the ingest stream and cannot go on.
pub const INGEST_STUCK: &str = "hallway_ingest_stuck";
/// Bad entries of the ingest stream that this node put aside, by `code`.
pub const INGEST_REJECTED: &str = "hallway_ingest_rejected_total";
/// Seconds from an entry's arrival in the ingest stream to its publication.
pub const INGEST_LAG: &str = "hallway_ingest_lag_seconds";

/// Buckets for everything measured in seconds: from a fan-out on loopback to a Redis restart.
const SECONDS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

/// Installs the recorder for the whole process.
///
/// # Errors
/// When one is installed already.
pub fn install() -> Result<PrometheusHandle, BuildError> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?
        .install_recorder()?;
    describe();
    Ok(handle)
}

fn describe() {
    describe_gauge!(SESSIONS, "Sessions signed in right now.");
    describe_counter!(CONNECTS, "CONNECTs admitted.");
    describe_counter!(CONNECTS_REFUSED, "CONNECTs refused, by why.");
    describe_counter!(JWKS_FETCHES, "Fetches of the JWKS, by outcome.");
    describe_gauge!(JWKS_FETCHED, Unit::Seconds, "When the JWKS was last fetched, since the Unix epoch.");
    describe_gauge!(JWKS_KEYS, "Keys of the JWKS that are believed: 0 while it was not fetched, or is too old.");
    describe_counter!(DISCONNECTS, "Sessions that ended, by why.");
    describe_gauge!(ROOMS, "Rooms with local members, or let go a moment ago.");
    describe_counter!(JOINS, "Joins carried out.");
    describe_counter!(JOINS_REFUSED, "Joins refused, by why.");
    describe_counter!(EVENTS_PUBLISHED, "Events published through this node, by way.");
    describe_counter!(EVENTS_REFUSED, "Events refused, by way.");
    describe_counter!(EVENTS_FANNED_OUT, "Events fanned out to local members.");
    describe_counter!(DELIVERED, "Frames handed to sockets by fan-out.");
    describe_counter!(EPHEMERAL_DROPPED, "Ephemeral events dropped for peers that lag.");
    describe_counter!(LATEST_REPLACED, "Events that gave way to newer ones of their key, for peers that lag.");
    describe_counter!(FEED_DROPPED, "Feed items dropped because the feed was full; durable ones are read again.");
    describe_counter!(HEALED, "Events that the live feed did not bring and the histories did.");
    describe_counter!(REWOUND, "Times that the broker had forgotten the newest entries of a room.");
    describe_counter!(ROOMS_CUT_OFF, "Rooms whose members were closed because the history no longer reaches back.");
    describe_histogram!(PUBLISH_LATENCY, Unit::Seconds, "From the API's request to the broker's word.");
    describe_histogram!(FAN_OUT_LAG, Unit::Seconds, "From an event's offset to the end of its fan-out.");
    describe_gauge!(BROKER_UP, "1 while the broker's connections work.");
    describe_counter!(PUBSUB_CONNECTS, "Times that the pub/sub connection was made.");
    describe_histogram!(CANARY, Unit::Seconds, "Time that a canary took through Redis.");
    describe_gauge!(NODES, "Nodes that are alive as seen from here, this one included.");
    describe_counter!(API_REQUESTS, "Requests to /v1, by the name of the key and outcome.");
    describe_gauge!(PENDING_PUBLISHES, "Events that came by HTTP and have no answer yet.");
    describe_gauge!(PENDING_PUBLISH_BYTES, Unit::Bytes, "Bytes reserved for the bodies of publishes by HTTP.");
    describe_counter!(PUBLISHES_TURNED_AWAY, "Publishes by HTTP turned away for what they would take up, by why.");
    describe_counter!(LOCATIONS_REFUSED, "Locations refused, by why.");
    describe_counter!(ACKNOWLEDGEMENTS, "Acknowledgements of events, by status.");
    describe_counter!(TOKEN_REFRESHES, "Tokens that clients offered in the place of their old ones, by outcome.");
    describe_counter!(ROOMS_REVOKED, "Rooms that a session had to leave because its new token does not open them.");
    describe_counter!(POLICY_FAILURES, "Rules that could not be judged, which denies, by why.");
    describe_counter!(AUTHORIZER_REQUESTS, "Requests to the authorizer, by outcome.");
    describe_counter!(AUTHORIZER_SHARED, "Questions to the authorizer that an answer was at hand for, or under way.");
    describe_histogram!(AUTHORIZER_LATENCY, Unit::Seconds, "Time that an answer of the authorizer took.");
    describe_gauge!(FUNCTION_DIFFERS, "1 while Redis holds a function of another settings table than this node's.");
    describe_gauge!(REVOCATIONS, "Revocations that this node knows.");
    describe_counter!(REVOKES, "Requests to revoke, by outcome.");
    describe_counter!(REFRESHES_REVOKED, "Tokens offered in the place of old ones that had been revoked.");
    describe_counter!(KICKED, "Sessions that were told not to come back, by why.");
    describe_histogram!(KICK_LATENCY, Unit::Seconds, "From knowing of revocations to the last kick for them.");
    describe_gauge!(CONNECTIONS, "Open connections of clients, handshakes under way included.");
    describe_gauge!(
        HTTP_CONNECTIONS,
        "Open connections to api.listen and admin.listen, by the limit that bounds them."
    );
    describe_counter!(OVER_LIMIT, "Times that a limit of the configuration held somebody back, by limit.");
    describe_counter!(ORIGINS_REFUSED, "Requests refused because their Origin is not among server.origins.");
    describe_counter!(COMMANDS_REFUSED, "Commands refused or dropped before they were looked at, by why.");
    describe_gauge!(INGEST_WAITING, "Entries that wait in the ingest stream.");
    describe_gauge!(INGEST_LEADING, "1 while this node is the one that reads the ingest stream.");
    describe_gauge!(INGEST_STUCK, "1 while this node is the one that reads the ingest stream and cannot go on.");
    describe_counter!(INGEST_REJECTED, "Bad entries of the ingest stream that this node put aside, by code.");
    describe_histogram!(INGEST_LAG, Unit::Seconds, "From an entry's arrival in the ingest stream to its publication.");
}
