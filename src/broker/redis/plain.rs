//! A plain `PUBLISH` of an event's JSON: live only, nothing of it is kept.

use hallway_rooms::draft::{Draft, InvalidEvent};
use hallway_rooms::entry::{Entry, Keep, Place};
use hallway_rooms::key::Room;

use crate::broker::event_id;

/// Makes an entry without a place in any history; a missing id is made here, for this node alone.
///
/// # Errors
/// When the text is no valid event.
pub(super) fn entry(room: Room, text: &[u8], now_ms: u64) -> Result<Entry, InvalidEvent> {
    let draft = Draft::parse(text)?;
    let id = draft.id.unwrap_or_else(event_id);
    let timestamp = draft.timestamp.unwrap_or(now_ms).min(now_ms);
    let places = vec![Place { room, keep: Keep::Nothing }];
    Ok(Entry { id, timestamp, requires_ack: false, places, earlier: Vec::new(), text: text.to_vec() })
}
