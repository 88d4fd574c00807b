//! The body of `POST /v1/publish`: the event in it is the publisher's, member by member.

#![no_main]

use hallway::service::publish::PublishRequest;
use hallway_fuzz::{Members, composes};
use hallway_rooms::draft::Draft;
use hallway_rooms::envelope::Envelope;
use libfuzzer_sys::fuzz_target;

/// Those of the event; the others are about it.
const EVENT: [&str; 6] = ["type", "payload", "id", "priority", "timestamp", "meta"];

fn rooms(body: &Members) -> Vec<String> {
    let mut rooms: Vec<String> =
        body.get("rooms").map_or_else(Vec::new, |raw| serde_json::from_str(raw).expect("a list"));
    rooms.extend(body.get("room").map(|raw| serde_json::from_str::<String>(raw).expect("a text")));
    rooms
}

fuzz_target!(|text: &str| {
    let Ok(request) = PublishRequest::parse(text) else { return };
    let body = Members::of(text).expect("what is taken is an object");
    body.distinct_names();
    let event = Members::of(&request.text).expect("the event is an object");
    assert!(event.distinct_names().iter().all(|name| EVENT.contains(name)));
    for name in EVENT {
        assert_eq!(event.get(name), body.get(name), "{name}");
    }
    assert_eq!(request.rooms, rooms(&body));
    assert_eq!(request.requires_ack, body.get("requiresAck") == Some("true"));
    assert_eq!(request.delivery.is_some(), body.get("delivery").is_some());
    if let Ok(draft) = Draft::parse(request.text.as_bytes()) {
        composes(&draft, &Envelope::from_draft(&draft, "an-id", 1, request.requires_ack), &[]);
    }
});
