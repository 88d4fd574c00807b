//! The values of labels: small closed sets, never names of rooms or users.

use hallway_rooms::close::{Close, Refusal};

use super::limit::Limit;

/// Why sessions end: their transport was closed, or the client left the namespace.
pub(super) const CLOSES: &[&str] = &{
    let (mut codes, mut at) = (["left"; Close::ALL.len() + 1], 0);
    while at < Close::ALL.len() {
        codes[at] = Close::ALL[at].code();
        at += 1;
    }
    codes
};

/// The limits that refuse or delay clients.
pub(super) const LIMITS: &[&str] = &{
    let (mut keys, mut at) = ([""; Limit::ALL.len()], 0);
    while at < keys.len() {
        keys[at] = Limit::ALL[at].key();
        at += 1;
    }
    keys
};

/// Why a CONNECT is refused.
pub(super) const REFUSED_CONNECTS: &[&str] = &[
    "no-token",
    "malformed",
    "algorithm",
    "bad-signature",
    "unknown-key",
    "keys-unavailable",
    "expired",
    "not-yet-valid",
    "issuer",
    "audience",
    "claims",
    "lives-too-long",
    "revoked",
    Close::NotReady.code(),
    Refusal::TooManyConnections.code(),
];

/// Why a join is refused.
pub(super) const REFUSED_JOINS: &[&str] = &[
    Refusal::InvalidPayload.code(),
    Refusal::InvalidRoom.code(),
    Refusal::Forbidden.code(),
    Refusal::TooManyRooms.code(),
    Refusal::HistoryDisabled.code(),
    Refusal::Unavailable.code(),
];

/// Why a location is refused.
pub(super) const REFUSED_LOCATIONS: &[&str] = &[
    Refusal::InvalidPayload.code(),
    Refusal::EventTooLarge.code(),
    Refusal::Forbidden.code(),
    Refusal::RateLimited.code(),
    Refusal::Unavailable.code(),
];

/// Why a command is not parsed: it is refused, or its transport is closed.
pub(super) const REFUSED_COMMANDS: &[&str] = &[Refusal::RateLimited.code(), Close::TooManyCommands.code()];

/// Why an entry of the ingest stream is put aside.
pub(super) const REJECTED_ENTRIES: &[&str] = &[
    Refusal::InvalidPayload.code(),
    Refusal::InvalidRoom.code(),
    Refusal::InvalidEvent.code(),
    Refusal::EventTooLarge.code(),
    Refusal::TooManyRooms.code(),
    Refusal::NotStored.code(),
];

/// The outcomes of a token refresh.
pub(super) const REFRESHES: &[&str] =
    &["renewed", Refusal::Unauthorized.code(), Refusal::Forbidden.code(), Refusal::Unavailable.code()];

/// The outcomes of a request to revoke.
pub(super) const REVOKE_OUTCOMES: &[&str] =
    &["noted", Refusal::InvalidPayload.code(), Refusal::TooManyRevocations.code(), Refusal::Unavailable.code()];

/// The outcomes of a fetch of the JWKS.
pub(super) const JWKS_OUTCOMES: &[&str] =
    &["fetched", "unreachable", "timeout", "redirect", "status", "too-large", "no-jwks"];

/// The outcomes of a question to the authorizer.
pub(super) const AUTHORIZER_OUTCOMES: &[&str] =
    &["allowed", "denied", "busy", "timeout", "unreachable", "status", "too-large", "garbage"];

/// Why a rule cannot be evaluated.
pub(super) const POLICY_FAULTS: &[&str] = &["claims-too-large", "evaluation", "no-bool", "panicked"];

/// The outcomes of a request to the API.
pub(crate) const API_OUTCOMES: &[&str] =
    &["ok", "refused", "failed", Refusal::Unauthorized.code(), Refusal::Forbidden.code(), Refusal::RateLimited.code()];

/// The links of a node to Redis.
pub(super) const LINKS: &[&str] =
    &["commands", "healing", "history", "ingest", "ingest-wait", "lease", "probe", "pubsub"];
