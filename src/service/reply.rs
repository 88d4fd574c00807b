//! What commands are answered with: one map, `{"ok":true,…}` or `{"ok":false,"error":"…"}`.

use hallway_rooms::close::Refusal;
use hallway_rooms::key::Room;
use hallway_rooms::offset::Offset;

use super::page::Page;
use super::row::Row;

/// A refusal.
#[must_use]
pub fn refused(refusal: Refusal) -> String {
    format!(r#"{{"ok":false,"error":"{}"}}"#, refusal.code())
}

/// A command that was carried out and gives nothing back.
pub(super) const DONE: &str = r#"{"ok":true}"#;

/// A token that took the place of an older one, with its end.
#[must_use]
pub fn renewed(expires_ms: u64) -> String {
    format!(r#"{{"ok":true,"data":{{"expiresAt":{expires_ms}}}}}"#)
}

/// A join; `page` when missed events were asked for.
pub(super) fn joined(room: &Room, size: usize, offset: Offset, page: Option<&Page>) -> String {
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

/// A room that was joined with others.
#[derive(Debug)]
pub(super) struct JoinedRoom {
    pub(super) room: Room,
    pub(super) size: usize,
    pub(super) offset: Offset,
    /// Where missed events were asked for: whether there are all of them.
    pub(super) complete: Option<bool>,
}

/// A join of several rooms: `verdicts` in the order of the command, `joined` in that of their keys.
pub(super) fn joined_all(verdicts: &[(String, Result<Room, Refusal>)], joined: &[JoinedRoom], row: &Row) -> String {
    let mut body = r#"{"ok":true,"data":{"rooms":["#.to_owned();
    for (at, (name, verdict)) in verdicts.iter().enumerate() {
        body.push_str(if at == 0 { "" } else { "," });
        let found = verdict.as_ref().map(|room| joined.binary_search_by(|one| one.room.cmp(room)));
        match found {
            Ok(Ok(at)) => body.push_str(&one_joined(&joined[at])),
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

/// The name is the client's own, which may hold anything.
fn one_refused(name: &str, refusal: Refusal) -> String {
    format!(r#"{{"room":{},"error":"{}"}}"#, serde_json::Value::from(name), refusal.code())
}

/// A leave.
pub(super) fn left(room: &Room, size: usize) -> String {
    format!(r#"{{"ok":true,"data":{{"room":"{room}","roomSize":{size}}}}}"#)
}

/// Missed events.
pub(super) fn missed(page: &Page) -> String {
    let Page { offset, complete, has_more, .. } = page;
    let mut body = r#"{"ok":true,"data":{"events":"#.to_owned();
    page.write(&mut body);
    body + &format!(r#","offset":"{offset}","complete":{complete},"hasMore":{has_more}}}}}"#)
}
