//! Entries of the ingest stream: what is taken is an event with just the members that its fields name.

#![no_main]

use arbitrary::Arbitrary;
use hallway::ingest::fuzzing::read;
use hallway_fuzz::{Members, composes};
use hallway_rooms::draft::Draft;
use hallway_rooms::envelope::Envelope;
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    at: (u64, u64),
    fields: Vec<(Name<'a>, Value<'a>)>,
}

#[derive(Arbitrary, Debug)]
enum Name<'a> {
    Room,
    Type,
    Payload,
    Id,
    Priority,
    Timestamp,
    Meta,
    RequiresAck,
    Delivery,
    Event,
    Other(&'a [u8]),
}

#[derive(Arbitrary, Debug)]
enum Value<'a> {
    Bytes(&'a [u8]),
    Text(&'a str),
    Number(i64),
    Flag(bool),
    Delivery(u8),
}

impl Name<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Room => b"room",
            Self::Type => b"type",
            Self::Payload => b"payload",
            Self::Id => b"id",
            Self::Priority => b"priority",
            Self::Timestamp => b"timestamp",
            Self::Meta => b"meta",
            Self::RequiresAck => b"requires_ack",
            Self::Delivery => b"delivery",
            Self::Event => b"event",
            Self::Other(name) => name,
        }
    }
}

impl Value<'_> {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Bytes(bytes) => bytes.to_vec(),
            Self::Text(text) => text.as_bytes().to_vec(),
            Self::Number(number) => number.to_string().into_bytes(),
            Self::Flag(flag) => flag.to_string().into_bytes(),
            Self::Delivery(at) => ["durable", "latest", "ephemeral"][usize::from(at % 3)].as_bytes().to_vec(),
        }
    }
}

type Fields = [(Vec<u8>, Vec<u8>)];

fn field<'a>(fields: &'a Fields, name: &str) -> Option<&'a str> {
    let value = fields.iter().find(|(known, _)| known == name.as_bytes())?;
    Some(std::str::from_utf8(&value.1).expect("what is taken is UTF-8"))
}

/// The members of the event are those of the fields, and no field has brought more.
fn same_as_flat(text: &str, rooms: &[String], fields: &Fields) {
    let members = Members::of(text).expect("an object");
    let raw = |name: &str| members.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.get());
    let names = ["type", "payload", "id", "priority", "timestamp", "meta"];
    let mut given: Vec<&str> = names.into_iter().filter(|name| field(fields, name).is_some()).collect();
    given.sort_unstable();
    assert_eq!(members.distinct_names(), given);
    for name in ["payload", "timestamp", "meta"] {
        let trimmed = field(fields, name).map(|text| text.trim_matches([' ', '\t', '\r', '\n']));
        assert_eq!(raw(name), trimmed, "{name}");
    }
    for name in ["type", "id", "priority"] {
        let text = raw(name).map(|raw| serde_json::from_str::<String>(raw).expect("a text"));
        assert_eq!(text.as_deref(), field(fields, name), "{name}");
    }
    let keys = field(fields, "room").unwrap_or_default().split(' ').filter(|key| !key.is_empty());
    assert!(keys.eq(rooms.iter().map(String::as_str)));
}

fuzz_target!(|input: Input<'_>| {
    let id = format!("{}-{}", input.at.0, input.at.1);
    let fields: Vec<_> = input.fields.iter().map(|(name, value)| (name.bytes().to_vec(), value.bytes())).collect();
    let Ok(request) = read(&id, &fields) else { return };
    assert_eq!(request.spare_id.expect("one is derived").as_str(), format!("ingest:{id}"));
    if field(&fields, "event").is_none() {
        same_as_flat(&request.text, &request.rooms, &fields);
    }
    if let Ok(draft) = Draft::parse(request.text.as_bytes()) {
        composes(&draft, &Envelope::from_draft(&draft, "an-id", 1, request.requires_ack), &[]);
    }
});
