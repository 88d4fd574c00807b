//! What commands are answered with: one map, `{"ok":true,…}` or `{"ok":false,"error":"…"}`.

use hallway_rooms::close::Refusal;
use hallway_rooms::key::Room;
use hallway_rooms::offset::Offset;

use super::page::Page;

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
        body.push_str(&page.list());
        body.push_str(if page.complete { r#","complete":true"# } else { r#","complete":false"# });
        if page.has_more {
            body.push_str(r#","hasMore":true"#);
        }
    }
    body.push_str("}}");
    body
}

/// A leave.
pub(super) fn left(room: &Room, size: usize) -> String {
    format!(r#"{{"ok":true,"data":{{"room":"{room}","roomSize":{size}}}}}"#)
}

/// Missed events.
pub(super) fn missed(page: &Page) -> String {
    let Page { offset, complete, has_more, .. } = page;
    let events = page.list();
    format!(
        r#"{{"ok":true,"data":{{"events":{events},"offset":"{offset}","complete":{complete},"hasMore":{has_more}}}}}"#
    )
}
