//! Bounds that are part of the contract and not of a deployment's config.

/// Characters of an id, or of a word, inside a room key.
pub const ROOM_SEGMENT_CHARS: usize = 128;
/// Bytes of a whole room key: no form needs more.
pub const ROOM_KEY_BYTES: usize = 1024;
/// Characters of an event's type and of its id.
pub const EVENT_NAME_CHARS: usize = 128;
/// Levels of nesting in a payload or in `meta`.
pub const JSON_DEPTH: usize = 64;
/// Characters of a number in an event: some stock clients drop events with longer integers.
pub const NUMBER_CHARS: usize = 100;
/// Rooms one event may name: more are a broadcast in disguise.
pub const ROOMS_PER_EVENT: usize = 64;
/// Events one history answer holds at most.
pub const PAGE_EVENTS: usize = 1000;
/// Bytes of event text one history answer holds at most (but at least one event).
pub const PAGE_BYTES: usize = 1024 * 1024;
/// A head reported for a room without a last offset lies this far back, which bears a clock set back.
pub const QUIET_HEAD_MS: u64 = 60_000;
