//! The Redis that carries events between nodes and keeps their history.

use std::{path::PathBuf, time::Duration};

use super::{
    pem_file::{PemFile, authorities, certificates, private_key},
    rule::{between, each, redis_prefix},
    secret::Secret,
    secret_file::SecretFile,
    section::section,
};

mod access;
mod url;

pub use access::AccessErrors;
pub(super) use access::{check, check_url};
pub(super) use url::redis_url;

const MILLI: Duration = Duration::from_millis(1);

section! {
    /// The Redis that carries events between nodes and keeps their history.
    pub struct RedisConfig for mode {
        /// URL of the Redis (7 or newer, or Valkey): `redis://`, `rediss://` (TLS) or `unix://`. Without one the gateway is
        /// a single process with its history in memory. With one a Redis that is down means not ready, never a
        /// silent fall back to memory.
        url: Option<Secret> = None, check each(redis_url), eg r#""redis://user:password@redis.internal:6379/0""#;

        /// The file in which that URL stands, in the place of `url`: a secret that an orchestrator mounts. White space at
        /// its ends does not count.
        url_file: Option<PathBuf> = None, eg r#""/run/secrets/redis_url""#;

        /// The user, where the URL names none: an ACL user of Redis. Without one it is `default`. It needs a password.
        username: Option<String> = None, eg r#""hallway-node""#;

        /// The password, where the URL has none: as it is, nothing percent-encoded.
        password: Option<Secret> = None, eg r#""<the password of Redis>""#;

        /// A file that holds the password alone, in the place of `password`; read at start. White space at its ends does
        /// not count.
        password_file: Option<SecretFile> = None, eg r#""/run/secrets/redis_password""#;

        /// The authorities that the certificate of a `rediss://` Redis must come from, in PEM; read at start. Without it
        /// those that the system trusts.
        ca_file: Option<PemFile> = None, check each(authorities), eg r#""/etc/hallway/redis-ca.pem""#;

        /// The certificate that is shown to a `rediss://` Redis which asks for one (`tls-auth-clients`), in PEM, with
        /// those between it and its authority; read at start.
        client_cert_file: Option<PemFile> = None, check each(certificates), eg r#""/etc/hallway/redis-client.pem""#;

        /// The private key of that certificate, in PEM and without a password; read at start.
        client_key_file: Option<PemFile> = None, check each(private_key), eg r#""/etc/hallway/redis-client.key""#;

        /// The prefix of every key, channel and function: `[a-z][a-z0-9_]{0,31}`. Two fleets on one Redis need two
        /// prefixes.
        prefix: String = "hallway".to_owned(), check redis_prefix;

        /// How long a command with an ack id waits for a Redis that is out of reach before it is answered `unavailable`, 1ms to
        /// 1m. Longer than a blip or a fail-over, shorter than stock clients wait for an answer.
        answer_wait: Duration = Duration::from_secs(3), check between(MILLI, Duration::from_mins(1));

        /// How long a join without an ack id waits for a Redis that is out of reach, 1ms to 10m. After that the
        /// transport is closed, because nothing else would tell such a client to join again.
        join_wait: Duration = Duration::from_secs(30), check between(MILLI, Duration::from_mins(10));

        /// How long one attempt to connect may take, 1ms to 1m. Short, because another attempt follows at once.
        connect_timeout: Duration = Duration::from_secs(2), check between(MILLI, Duration::from_mins(1));

        /// How long nothing may arrive of an answer, 1ms to 5m, before the connection counts as lost. Above any pause
        /// of a healthy Redis (fork, slow disk), shorter than a publisher waits. An answer that comes slowly may
        /// take six times as long.
        response_timeout: Duration = Duration::from_secs(5), check between(MILLI, Duration::from_mins(5));

        /// Whether a Redis that may evict keys is accepted. It is not by default, and the node stays not ready:
        /// eviction under memory pressure takes history away that clients were promised.
        allow_eviction: bool = false;

        /// How long a room's channel stays subscribed after its last local member left, 0s to 1h. Spares a phone that
        /// changes networks, and Redis, the work of unsubscribing and subscribing again.
        linger: Duration = Duration::from_secs(5), check between(Duration::ZERO, Duration::from_hours(1));

        /// How often a canary is sent through every pub/sub connection, 1ms to 1m. /readyz fails when it does not
        /// come back, so this is how soon a connection that does not receive is noticed.
        canary: Duration = Duration::from_secs(2), check between(MILLI, Duration::from_mins(1));

        /// How often the delivered offsets are compared with the last offset of every open room, 100ms to 1h. Events
        /// that came into Redis without a message, as by a full sync from another server, reach members by then. Ten
        /// thousand rooms cost Redis some milliseconds.
        audit: Duration = Duration::from_mins(1), check between(MILLI * 100, Duration::from_hours(1));

        /// How often a node sends the others a heartbeat, 100ms to 5s. A node without one for 15s counts as gone: its
        /// sockets are not counted in `roomSize` any more.
        heartbeat: Duration = Duration::from_secs(2), check between(MILLI * 100, Duration::from_secs(5));
    }
}
