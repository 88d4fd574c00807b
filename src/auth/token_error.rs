//! The reasons for refusing a token: a sentence for the log and a label for the metric. Clients get `unauthorized`
//! for all of them.

/// Why a token is refused. For logs, never for clients.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Over 8 KiB.
    #[error("the token is longer than 8 KiB")]
    TooLong,
    /// Not three parts, not base64url, not JSON, a repeated member, or an unsupported header.
    #[error("the token is malformed: {0}")]
    Malformed(&'static str),
    /// An algorithm without a configured key.
    #[error("no key is configured for the token's algorithm")]
    Algorithm,
    /// None of the keys signed it.
    #[error("the signature is of none of the keys")]
    Signature,
    /// It names a key that the JWKS does not have.
    #[error("the token's key is not known")]
    UnknownKey,
    /// The JWKS was never fetched, or is older than `auth.jwks_max_stale`.
    #[error("there are no keys of the JWKS to check it with: see `checks.keys` of /readyz")]
    KeysUnavailable,
    /// `exp` is past.
    #[error("the token has expired")]
    Expired,
    /// `nbf` or `iat` is ahead by more than `auth.leeway`.
    #[error("the token's {0} is in the future; are the clocks right?")]
    NotYetValid(&'static str),
    /// Another `iss` than `auth.issuer`.
    #[error("the token's iss is not auth.issuer")]
    Issuer,
    /// `aud` does not name `auth.audience`.
    #[error("the token's aud does not name auth.audience")]
    Audience,
    /// A required claim is missing or of the wrong kind.
    #[error("the token's {0} is missing or no use")]
    Claim(&'static str),
    /// Lives longer than `auth.max_token_ttl`.
    #[error("the token lives longer than auth.max_token_ttl")]
    LivesTooLong,
}

impl TokenError {
    /// The reason as a metric's label, one of a closed set.
    #[must_use]
    pub const fn metric_label(&self) -> &'static str {
        match self {
            Self::TooLong | Self::Malformed(_) => "malformed",
            Self::Algorithm => "algorithm",
            Self::Signature => "bad-signature",
            Self::UnknownKey => "unknown-key",
            Self::KeysUnavailable => "keys-unavailable",
            Self::Expired => "expired",
            Self::NotYetValid(_) => "not-yet-valid",
            Self::Issuer => "issuer",
            Self::Audience => "audience",
            Self::Claim(_) => "claims",
            Self::LivesTooLong => "lives-too-long",
        }
    }
}
