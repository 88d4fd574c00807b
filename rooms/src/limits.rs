//! Bounds that are part of the contract and cannot be configured.

/// Characters of an id or a word in a room key.
pub const ROOM_SEGMENT_CHARS: usize = 128;
/// Bytes of a whole room key: more than any form needs.
pub const ROOM_KEY_BYTES: usize = 1024;
/// Characters of an event's type and of its id.
pub const EVENT_NAME_CHARS: usize = 128;
/// Nesting levels of a payload or of `meta`.
pub const JSON_DEPTH: usize = 64;
/// Characters of a number in an event: some stock clients drop events with longer integers.
pub const NUMBER_CHARS: usize = 100;
/// Rooms of one event: more would be a broadcast. A receiver's rooms fit into a 64-bit mask.
pub const ROOMS_PER_EVENT: usize = 64;
/// Events in one page of a history.
pub const PAGE_EVENTS: usize = 1000;
/// Bytes of event text in one page of a history, though at least one event.
pub const PAGE_BYTES: usize = 1024 * 1024;
/// How far back the head of a room without a last offset is reported, in milliseconds: it tolerates a clock that is
/// set back by as much.
pub const QUIET_HEAD_MS: u64 = 60_000;
