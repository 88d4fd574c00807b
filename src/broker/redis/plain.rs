//! A plain `PUBLISH` of an event's JSON: delivered live, never stored.

use hallway_rooms::draft::{Draft, InvalidEvent};
use hallway_rooms::entry::{Entry, Retained, RoomPlace};
use hallway_rooms::key::Room;

use crate::broker::event_id;

/// Makes an entry without offsets. A missing id is generated for this node alone, so other nodes use another one.
///
/// # Errors
/// When the text is not a valid event.
pub(super) fn plain_entry(room: Room, text: &[u8], now_ms: u64) -> Result<Entry, InvalidEvent> {
    let draft = Draft::parse(text)?;
    let id = draft.id.unwrap_or_else(event_id);
    let timestamp = draft.timestamp.unwrap_or(now_ms).min(now_ms);
    let places = vec![RoomPlace { room, keep: Retained::Nothing }];
    Ok(Entry { id, timestamp, requires_ack: false, places, earlier: Vec::new(), text: text.to_vec() })
}
