//! The tokens that are trusted, and for how long.

use std::{path::PathBuf, time::Duration};

use super::{
    Config,
    rule::{between, each, jwks_url, locating, shared_secret},
    secret::Secret,
    secrets::Secrets,
    section::section,
};
use crate::auth::policy::defaults::UPDATE_LOCATION;

section! {
    /// The tokens that are trusted, and for how long. Production needs `hs256_secret`, `hs256_secret_file`,
    /// `public_key_file` or `jwks_url`; a token is good if any key of theirs signed it.
    pub struct AuthConfig for mode {
        /// The secret of tokens signed with HS256, HS384 or HS512, 32 bytes at least: a shorter one can be guessed
        /// offline from a single token. A list of them, so that a new one can be trusted before the old one is
        /// retired; `hallway token` signs with the first. A variable has one. No default; with --dev a fixed, public
        /// one.
        hs256_secret: Secrets = mode.is_dev().then(|| Secret::new(Config::DEV_SECRET)).into_iter().collect(),
            check each(shared_secret), eg r#""<output of: openssl rand -base64 48>""#;

        /// Files with one such secret each, as an orchestrator mounts them. White space at their ends does not count. They
        /// are read at start, and count after those of `hs256_secret`.
        hs256_secret_file: Vec<PathBuf> = Vec::new(), eg r#"["/run/secrets/hallway_jwt"]"#;

        /// PEM files with the public keys of tokens signed with RS*, PS*, ES* or `EdDSA`. Several, so that a new key
        /// can be trusted before the old one is retired. RSA keys have 2048 bits at least. Read at start; relative paths
        /// start where the gateway was started.
        public_key_file: Vec<PathBuf> = Vec::new(), eg r#"["/etc/hallway/jwt.pem"]"#;

        /// Where an identity provider publishes its public keys as a JWKS. They are fetched in the background; of a token's
        /// `kid` only equality with a key's counts, and redirects are not followed. Over https they may come by the proxy
        /// that `HTTPS_PROXY` names; over plain http, which a proxy could change, they come by none.
        jwks_url: Option<String> = None, check each(jwks_url),
            eg r#""https://id.example.com/.well-known/jwks.json""#;

        /// Whether the keys may come over plain http from beyond this machine, where an attacker on the path can insert
        /// keys of their own. For a network that encrypts by itself, such as a service mesh.
        jwks_insecure: bool = false;

        /// How often the keys are fetched in normal operation, 1s to 1d. A key that was taken out of the JWKS is
        /// trusted for this long, and one that took over the `kid` of another is unknown for this long.
        jwks_refresh: Duration = Duration::from_mins(10),
            check between(Duration::from_secs(1), Duration::from_hours(24));

        /// Shortest time between two fetches, 100ms to 1m. A token with an unknown `kid` asks for one, and any client can make
        /// such tokens.
        jwks_cooldown: Duration = Duration::from_secs(5),
            check between(Duration::from_millis(100), Duration::from_mins(1));

        /// How long a client waits for a fetch that may bring the key of its token, 0s to 30s. As long as the
        /// cooldown and a fetch together, so that the first tokens of a new key are accepted.
        jwks_wait: Duration = Duration::from_secs(10), check between(Duration::ZERO, Duration::from_secs(30));

        /// How long one fetch may take, 10ms to 1m.
        jwks_timeout: Duration = Duration::from_secs(5),
            check between(Duration::from_millis(10), Duration::from_mins(1));

        /// How old keys may be while fetching fails, 1s to 30d. A longer time survives a longer outage of the
        /// provider, and trusts a withdrawn key for longer. After that the node is not ready, unless it has other
        /// keys.
        jwks_max_stale: Duration = Duration::from_hours(24),
            check between(Duration::from_secs(1), Duration::from_hours(30 * 24));

        /// The `iss` that every token must carry. Without one any issuer that holds the key is trusted.
        issuer: Option<String> = None, eg r#""https://id.example.com""#;

        /// The `aud` that every token must name. Without one a token made for another service is good here too.
        audience: Option<String> = None, eg r#""hallway""#;

        /// How far the issuer's clock may be off when a client connects, 0s to 1m: for `exp`, `nbf` and `iat`. A live
        /// socket gets no leeway: it is closed when its token expires.
        leeway: Duration = Duration::from_secs(2), check between(Duration::ZERO, Duration::from_mins(1));

        /// Longest life of a token, from `iat` to `exp`, 1s to 365d. A longer one is refused, so that the list of
        /// revoked tokens covers every token there is without growing for ever. Of a token without `iat` only the rest of
        /// its life is known, or what follows its `nbf`: see `require_iat`.
        max_token_ttl: Duration = Duration::from_hours(7 * 24),
            check between(Duration::from_secs(1), Duration::from_hours(365 * 24));

        /// Whether a token without `iat` is refused. Set it if your issuer writes `iat`, as most do. A token without one that
        /// is made for longer than `max_token_ttl` is refused at first, becomes good as it gets older, and by then its
        /// revocation may be forgotten.
        require_iat: bool = false;

        /// How long before its token expires a socket is notified (`auth.expiring`), 0s to 1h; 0s notifies none. A
        /// minute is enough to fetch another token on a bad network. Each expiry is announced once, and no two within
        /// 10 seconds.
        expiring_lead: Duration = Duration::from_mins(1), check between(Duration::ZERO, Duration::from_hours(1));

        /// Values of the claim `role` that the default policy calls staff: they may join any user's, agent's and
        /// store's room.
        staff_roles: Vec<String> = ["admin", "staff", "dispatcher"].map(str::to_owned).to_vec();

        /// The condition for reporting a location (`update_location`): CEL as for the `join` of a class of rooms,
        /// without `room` and `key`. The location is that of the token's `agentId`, or else of its `sub`.
        update_location: String = UPDATE_LOCATION.to_owned(), check locating;
    }
}
