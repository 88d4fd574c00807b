//! What several fuzz targets share: room classes as a fresh node has them, and naive readers to compare with.

use std::fmt;
use std::time::Duration;

use hallway_rooms::class::{Classes, Retention};
use hallway_rooms::draft::Draft;
use hallway_rooms::entry::RoomPlace;
use hallway_rooms::envelope::Envelope;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The built-in classes.
#[must_use]
pub fn classes() -> Classes {
    Classes::built_in(Retention { max_events: 9, ttl: Duration::from_secs(9) }, Duration::from_secs(99))
}

/// The members of a JSON object in their order, doubles too, each value as it is written.
#[derive(Debug)]
pub struct Members(pub Vec<(String, Box<RawValue>)>);

impl Members {
    /// Reads an object.
    #[must_use]
    pub fn of(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// The text of a member that is there and not null.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.get());
        found.filter(|text| *text != "null")
    }

    /// The names, which must not repeat.
    #[track_caller]
    pub fn distinct_names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.0.iter().map(|(name, _)| name.as_str()).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all, "a member is doubled: {names:?}");
        names
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(All)
    }
}

struct All;

impl<'de> Visitor<'de> for All {
    type Value = Members;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry::<String, Box<RawValue>>()? {
            members.push(member);
        }
        Ok(Members(members))
    }
}

/// Composes an event for a receiver in `places` and asserts that any client can read it, and that type and payload are
/// the publisher's, byte for byte.
#[track_caller]
pub fn composes(draft: &Draft<'_>, envelope: &Envelope, places: &[&RoomPlace]) {
    let mut argument = String::new();
    envelope.write_argument(places, &mut argument);
    // A tree, since raw values are lenient about surrogates. That it has no number beyond its floats is its own affair.
    if let Err(error) = serde_json::from_str::<serde_json::Value>(&argument) {
        assert!(error.to_string().starts_with("number out of range"), "{error}: {argument}");
    }
    assert!(!argument.bytes().any(|byte| byte == 0), "a NUL on the wire");
    let outer = Members::of(&argument).expect("the argument is an object");
    assert_eq!(outer.distinct_names(), ["event", "requiresAck"]);
    let event = Members::of(outer.get("event").expect("an event")).expect("the event is an object");
    assert_eq!(event.distinct_names(), ["id", "meta", "payload", "priority", "timestamp", "type"]);
    let payload = &event.0.iter().find(|(name, _)| name == "payload").expect("a payload").1;
    assert_eq!(payload.get(), draft.payload.get());
    let kind: String = serde_json::from_str(event.get("type").expect("a type")).expect("a text");
    assert_eq!(kind, draft.kind.as_str());
    let meta = Members::of(event.get("meta").expect("meta is there")).expect("meta is an object");
    assert!(meta.distinct_names().len() >= usize::from(!places.is_empty()));
    let text = |name| meta.get(name).map(|raw| serde_json::from_str::<String>(raw).expect("a text of ours"));
    let (room, offset) = (text("room"), text("offset"));
    assert_eq!(room.is_some(), !places.is_empty());
    if let Some(room) = room {
        let of_room = |place: &&&RoomPlace| place.room.key() == room;
        let place = places.iter().find(of_room).expect("a room of the receiver's");
        assert_eq!(offset, place.link().map(|link| link.offset.to_string()));
    }
}
