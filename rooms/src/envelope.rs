//! The envelope: the one JSON argument of a delivered event (nomor: "Event Envelope (JSON Schema)").
//!
//! An event is composed once. Receivers differ only in the tail, in which `meta` names their rooms.

use std::fmt::Write as _;

use crate::draft::{Draft, InvalidEvent};
use crate::entry::{Entry, RoomPlace};
use crate::event::EventType;

/// A composed event: everything up to the gateway's own part of `meta`.
#[derive(Clone, Debug)]
pub struct Envelope {
    /// The event's name on the wire.
    kind: EventType,
    /// From `{"id":` up to the comma behind the publisher's last member of `meta`.
    head: String,
    requires_ack: bool,
}

impl Envelope {
    /// Composes the event of an entry.
    ///
    /// # Errors
    /// When the publisher's text breaks a rule. Such an entry remains a link of its chain and is delivered to no client.
    pub fn from_entry(entry: &Entry) -> Result<Self, InvalidEvent> {
        let draft = Draft::parse(&entry.text)?;
        Ok(Self::from_draft(&draft, entry.id.as_str(), entry.timestamp, entry.requires_ack))
    }

    /// Composes a draft with its stamps.
    #[must_use]
    pub fn from_draft(draft: &Draft<'_>, id: &str, timestamp: u64, requires_ack: bool) -> Self {
        let payload = draft.payload.get();
        // The payload, with space for the fixed members and a usual `meta`: one allocation.
        let mut head = String::with_capacity(payload.len() + 192);
        let written = write!(
            head,
            r#"{{"id":"{id}","type":"{}","priority":"{}","timestamp":{timestamp},"payload":{payload},"meta":{{"#,
            draft.kind,
            draft.priority.as_str(),
        );
        debug_assert!(written.is_ok(), "writing to a string cannot fail");
        draft.meta.write(&mut head);
        Self { kind: draft.kind.clone(), head, requires_ack }
    }

    /// Composes a notice: an event of the gateway itself, of no room and without acknowledgement.
    #[must_use]
    pub fn for_notice(name: &'static str, id: &str, timestamp: u64, payload: &serde_json::Value) -> Self {
        let head = format!(
            r#"{{"id":"{id}","type":"{name}","priority":"NORMAL","timestamp":{timestamp},"payload":{payload},"meta":{{"source":"hallway","#
        );
        Self { kind: EventType::for_notice(name), head, requires_ack: false }
    }

    /// The event's type, which is its name on the wire.
    #[must_use]
    pub fn event_type(&self) -> &EventType {
        &self.kind
    }

    /// Appends the event as one receiver gets it. `places` are the receiver's rooms, in the publisher's order.
    /// `meta.room` and `meta.offset` are those of the first durable place; with several, `meta.offsets` lists all.
    pub fn write_event(&self, places: &[&RoomPlace], out: &mut String) {
        out.push_str(&self.head);
        // A client resumes by `meta.offset`, so a room with an offset is preferred to the first one.
        let first = places.iter().find(|p| p.link().is_some()).or_else(|| places.first());
        if let Some(place) = first {
            push_formatted(out, format_args!(r#""room":"{}""#, place.room));
            if let Some(link) = place.link() {
                push_formatted(out, format_args!(r#","offset":"{}""#, link.offset));
            }
        }
        write_offsets(places, out);
        // The head ends with the comma of the publisher's `meta`, and a notice has nothing to follow it.
        if out.ends_with(',') {
            out.pop();
        }
        out.push_str("}}");
    }

    /// Appends the whole argument, `{"event":{…},"requiresAck":…}`.
    pub fn write_argument(&self, places: &[&RoomPlace], out: &mut String) {
        out.push_str(r#"{"event":"#);
        self.write_event(places, out);
        push_formatted(out, format_args!(r#","requiresAck":{}}}"#, self.requires_ack));
    }
}

fn write_offsets(places: &[&RoomPlace], out: &mut String) {
    let stored = || places.iter().filter_map(|p| p.link().map(|link| (&p.room, link.offset)));
    // With a single room `meta.offset` says the same.
    if stored().count() < 2 {
        return;
    }
    out.push_str(r#","offsets":{"#);
    for (i, (room, offset)) in stored().enumerate() {
        let comma = if i == 0 { "" } else { "," };
        push_formatted(out, format_args!(r#"{comma}"{room}":"{offset}""#));
    }
    out.push('}');
}

fn push_formatted(out: &mut String, text: std::fmt::Arguments<'_>) {
    let written = out.write_fmt(text);
    debug_assert!(written.is_ok(), "writing to a string cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::class::{Classes, Retention};
    use crate::entry::{ChainLink, Retained};
    use crate::offset::Offset;
    use std::time::Duration;

    fn entry(text: &str, rooms: &[(&str, Option<u64>)]) -> Entry {
        let classes =
            Classes::built_in(Retention { max_events: 9, ttl: Duration::from_secs(9) }, Duration::from_secs(99));
        let place = |(key, ms): &(&str, Option<u64>)| RoomPlace {
            room: classes.find_room(key).expect("a room"),
            keep: ms.map_or(Retained::Nothing, |ms| {
                Retained::Stored(ChainLink { offset: Offset::first_of_ms(ms), prev: Offset::first_of_ms(0) })
            }),
        };
        Entry {
            id: "u1".parse().expect("an id"),
            timestamp: 1_735_689_600_000,
            requires_ack: false,
            places: rooms.iter().map(place).collect(),
            earlier: Vec::new(),
            text: text.as_bytes().to_vec(),
        }
    }

    fn argument(entry: &Entry, only: &[usize]) -> String {
        let places: Vec<&RoomPlace> = only.iter().map(|i| &entry.places[*i]).collect();
        let mut out = String::new();
        Envelope::from_entry(entry).expect("a valid event").write_argument(&places, &mut out);
        out
    }

    #[test]
    fn the_envelope_is_the_one_of_the_seed() {
        let text = r#"{"type":"order.status_changed","payload":{"orderId":"ord_123","status":"confirmed"},"meta":{"source":"api"}}"#;
        let entry = entry(text, &[("order:ord_123", Some(1_735_689_600_000))]);
        assert_eq!(
            argument(&entry, &[0]),
            r#"{"event":{"id":"u1","type":"order.status_changed","priority":"NORMAL","timestamp":1735689600000,"payload":{"orderId":"ord_123","status":"confirmed"},"meta":{"source":"api","room":"order:ord_123","offset":"1735689600000-0"}},"requiresAck":false}"#
        );
    }

    #[test]
    fn several_rooms_give_the_offsets_of_those_the_receiver_is_in() {
        let entry =
            entry(r#"{"type":"x","payload":1}"#, &[("store:s", Some(5)), ("product:p", Some(7)), ("user:u", Some(9))]);
        let both = argument(&entry, &[0, 1]);
        assert!(
            both.contains(r#""meta":{"room":"store:s","offset":"5-0","offsets":{"store:s":"5-0","product:p":"7-0"}}"#),
            "{both}"
        );
        let one = argument(&entry, &[1]);
        assert!(one.contains(r#""meta":{"room":"product:p","offset":"7-0"}"#), "{one}");
    }

    #[test]
    fn the_first_durable_room_names_the_copy() {
        let entry = entry(r#"{"type":"x","payload":1}"#, &[("store:s", None), ("product:p", Some(7))]);
        assert!(argument(&entry, &[0, 1]).contains(r#""meta":{"room":"product:p","offset":"7-0"}"#));
        assert!(argument(&entry, &[0]).contains(r#""meta":{"room":"store:s"}"#));
    }

    #[test]
    fn a_notice_is_an_event_of_no_room() {
        let payload = serde_json::json!({"reconnectInMs": 1200});
        let mut out = String::new();
        Envelope::for_notice("server.draining", "n1", 1_735_689_600_000, &payload).write_argument(&[], &mut out);
        assert_eq!(
            out,
            r#"{"event":{"id":"n1","type":"server.draining","priority":"NORMAL","timestamp":1735689600000,"payload":{"reconnectInMs":1200},"meta":{"source":"hallway"}},"requiresAck":false}"#
        );
    }

    #[test]
    fn a_payload_passes_byte_for_byte() {
        let payload = r#"{ "b":9007199254740993, "a":1e-7,"s":"😀 é  x","n":[[[]]] }"#;
        let entry = entry(&format!(r#"{{"type":"x","payload":{payload}}}"#), &[("order:1", Some(1))]);
        let argument = argument(&entry, &[0]);
        assert!(argument.contains(payload), "{argument}");
        assert!(serde_json::from_str::<serde_json::Value>(&argument).is_ok());
    }
}
