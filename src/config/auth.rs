//! Whose tokens are believed, and for how long.

use std::{path::PathBuf, time::Duration};

use super::{
    Config,
    rule::{between, each, locating, refused, strong},
    secret::Secret,
    section::section,
};
use crate::auth::policy::defaults::UPDATE_LOCATION;

section! {
    /// Whose tokens are believed, and for how long. Production needs `hs256_secret` or `public_key_file`.
    pub struct Auth for mode {
        /// The secret of tokens signed with HS256, HS384 or HS512, 32 bytes at least: a shorter one can be guessed
        /// offline from a single token. No default; with --dev a fixed one that everybody knows.
        hs256_secret: Option<Secret> = mode.is_dev().then(|| Secret::new(Config::DEV_SECRET)), check each(strong),
            eg r#""<output of: openssl rand -base64 48>""#;

        /// PEM files with the public keys of tokens signed with RS*, PS*, ES* or `EdDSA`. Several, so that a new key
        /// can be trusted before the old one is retired. Relative paths start where the gateway was started.
        public_key_file: Vec<PathBuf> = Vec::new(), eg r#"["/etc/hallway/jwt.pem"]"#;

        /// Where to fetch keys as a JWKS. Refused in this version, because a start without the keys it names would
        /// turn every client away: use `public_key_file`.
        @later jwks_url: Option<String> = None,
            check each(refused("is set, but JWKS is", "use auth.public_key_file")),
            eg r#""https://id.example.com/.well-known/jwks.json""#;

        /// The `iss` that every token must carry. Without one any issuer that holds the key is believed.
        issuer: Option<String> = None, eg r#""https://id.example.com""#;

        /// The `aud` that every token must name. Without one a token made for another service is good here too.
        audience: Option<String> = None, eg r#""hallway""#;

        /// How far the clock of whoever signs may be off when a client connects, 0s to 1m. A live socket gets no
        /// leeway: it is closed when its token expires.
        leeway: Duration = Duration::from_secs(2), check between(Duration::ZERO, Duration::from_mins(1));

        /// Longest life of a token, from `iat` to `exp`, 1s to 365d. A longer one is refused, so that the list of
        /// revoked tokens covers every token there is without growing for ever.
        max_token_ttl: Duration = Duration::from_hours(7 * 24),
            check between(Duration::from_secs(1), Duration::from_hours(365 * 24));

        /// How long before its token expires a socket is told so (`auth.expiring`), 0s to 1h; 0s tells nobody. A
        /// minute is enough to fetch a new one on a bad network.
        expiring_lead: Duration = Duration::from_mins(1), check between(Duration::ZERO, Duration::from_hours(1));

        /// Values of the claim `role` that the default policy calls staff: they may join any user's, agent's and
        /// store's room.
        staff_roles: Vec<String> = ["admin", "staff", "dispatcher"].map(str::to_owned).to_vec();

        /// Who may report a location (`update_location`): CEL as for the `join` of a class of rooms, without `room` and
        /// `key`. The location is that of the token's `agentId`, or else of its `sub`.
        update_location: String = UPDATE_LOCATION.to_owned(), check locating;
    }
}
