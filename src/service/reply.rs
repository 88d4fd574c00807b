//! The replies to commands: one object, `{"ok":true,…}` or `{"ok":false,"error":"…"}`.

use hallway_rooms::close::Refusal;
use hallway_rooms::key::Room;
use hallway_rooms::offset::Offset;

use super::page::ReplyPage;
use super::row::EventRow;

/// The reply to a refused command.
#[must_use]
pub fn refused(refusal: Refusal) -> String {
    format!(r#"{{"ok":false,"error":"{}"}}"#, refusal.code())
}

/// The reply to a command without a result.
pub(super) const DONE: &str = r#"{"ok":true}"#;

/// The reply to a token refresh, with the token's expiry.
#[must_use]
pub fn renewed(expires_ms: u64) -> String {
    format!(r#"{{"ok":true,"data":{{"expiresAt":{expires_ms}}}}}"#)
}

/// The reply to a join; with `page` when missed events were requested.
pub(super) fn joined(room: &Room, size: usize, offset: Offset, page: Option<&ReplyPage>) -> String {
    // Keys and offsets contain no character that JSON escapes, so they are written as they are.
    let mut body = format!(r#"{{"ok":true,"data":{{"room":"{room}","roomSize":{size},"offset":"{offset}""#);
    if let Some(page) = page {
        body.push_str(r#","events":"#);
        page.write(&mut body);
        body.push_str(if page.complete { r#","complete":true"# } else { r#","complete":false"# });
        if page.has_more {
            body.push_str(r#","hasMore":true"#);
        }
    }
    body.push_str("}}");
    body
}

/// A room of a joined list.
#[derive(Debug)]
pub(super) struct JoinedRoom {
    pub(super) room: Room,
    /// Members on all nodes.
    pub(super) size: usize,
    /// Where the member starts.
    pub(super) offset: Offset,
    /// Whether all missed events are there; none when no start was requested.
    pub(super) complete: Option<bool>,
}

/// The reply to a join of several rooms: `verdicts` in the order of the command, `joined` in the order of their keys.
pub(super) fn joined_all(
    verdicts: &[(String, Result<Room, Refusal>)],
    joined: &[JoinedRoom],
    row: &EventRow,
) -> String {
    let mut body = r#"{"ok":true,"data":{"rooms":["#.to_owned();
    for (at, (name, verdict)) in verdicts.iter().enumerate() {
        body.push_str(if at == 0 { "" } else { "," });
        let found = verdict.as_ref().map(|room| joined.binary_search_by(|one| one.room.cmp(room)));
        match found {
            Ok(Ok(at)) => body.push_str(&one_joined(&joined[at])),
            // Admitted, yet not joined: the room could not be read.
            Ok(Err(_)) => body.push_str(&one_refused(name, Refusal::Unavailable)),
            Err(refusal) => body.push_str(&one_refused(name, *refusal)),
        }
    }
    body.push_str(r#"],"events":["#);
    row.write(&mut body);
    body.push_str(if row.has_more { r#"],"hasMore":true}}"# } else { "]}}" });
    body
}

fn one_joined(JoinedRoom { room, size, offset, complete }: &JoinedRoom) -> String {
    let complete = complete.map(|complete| format!(r#","complete":{complete}"#)).unwrap_or_default();
    format!(r#"{{"room":"{room}","roomSize":{size},"offset":"{offset}"{complete}}}"#)
}

/// The name is the client's own text, so it is escaped.
fn one_refused(name: &str, refusal: Refusal) -> String {
    format!(r#"{{"room":{},"error":"{}"}}"#, serde_json::Value::from(name), refusal.code())
}

/// The reply to a leave.
pub(super) fn left(room: &Room, size: usize) -> String {
    format!(r#"{{"ok":true,"data":{{"room":"{room}","roomSize":{size}}}}}"#)
}

/// The reply to a read of missed events.
pub(super) fn missed(page: &ReplyPage) -> String {
    let ReplyPage { offset, complete, has_more, .. } = page;
    let mut body = r#"{"ok":true,"data":{"events":"#.to_owned();
    page.write(&mut body);
    body + &format!(r#","offset":"{offset}","complete":{complete},"hasMore":{has_more}}}}}"#)
}
