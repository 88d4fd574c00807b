//! What a client sends: the packet of a command, and the head of its request.

#![no_main]

use arbitrary::Arbitrary;
use hallway::auth::token::MAX_TOKEN_BYTES;
use hallway::doors::socketio::fuzzing::{PacketOutcome, read};
use hallway::doors::socketio::head::{rewrite_request, transport_of};
use hallway_rooms::limits::ROOM_KEY_BYTES;
use http::{Request, Uri};
use libfuzzer_sys::fuzz_target;
use percent_encoding::percent_decode_str;
use serde_json::Value;

/// Stands in queries for what no log may see.
const TOKEN: &str = "planted-token";

#[derive(Arbitrary, Debug)]
enum Sent<'a> {
    Packet(&'a str),
    Command { name: Name<'a>, members: Vec<(Member<'a>, Json<'a>)>, behind: &'a str },
    Head { pairs: Vec<Pair<'a>>, raw: &'a str, upgrade: bool },
}

#[derive(Arbitrary, Debug)]
enum Name<'a> {
    Join,
    JoinAll,
    Leave,
    Missed,
    Locate,
    Ack,
    Refresh,
    Other(&'a str),
}

#[derive(Arbitrary, Debug)]
enum Member<'a> {
    Room,
    Rooms,
    After,
    Since,
    Limit,
    EventId,
    Status,
    Error,
    Token,
    Lat,
    Lng,
    Accuracy,
    Other(&'a str),
}

#[derive(Arbitrary, Debug)]
enum Json<'a> {
    Null,
    Whole(i64),
    Float(f64),
    Text(&'a str),
    Offset(u64, u64),
    Written(&'a str),
    Listed(Vec<(&'a str, u64, u64)>),
    Deep(u16),
}

#[derive(Arbitrary, Debug)]
enum Pair<'a> {
    Token,
    Encoded,
    Transport,
    Engine,
    Other(&'a str, &'a str),
}

impl Name<'_> {
    fn text(&self) -> &str {
        match self {
            Self::Join => "join_room",
            Self::JoinAll => "join_rooms",
            Self::Leave => "leave_room",
            Self::Missed => "get_missed_events",
            Self::Locate => "update_location",
            Self::Ack => "event_ack",
            Self::Refresh => "refresh_token",
            Self::Other(name) => name,
        }
    }
}

impl Member<'_> {
    fn text(&self) -> &str {
        match self {
            Self::Room => "room",
            Self::Rooms => "rooms",
            Self::After => "after",
            Self::Since => "since",
            Self::Limit => "limit",
            Self::EventId => "eventId",
            Self::Status => "status",
            Self::Error => "error",
            Self::Token => "token",
            Self::Lat => "lat",
            Self::Lng => "lng",
            Self::Accuracy => "accuracy",
            Self::Other(name) => name,
        }
    }
}

impl Json<'_> {
    fn text(&self) -> String {
        match self {
            Self::Null => "null".to_owned(),
            Self::Whole(number) => number.to_string(),
            Self::Float(number) => Value::from(*number).to_string(),
            Self::Text(text) => Value::from(*text).to_string(),
            Self::Offset(ms, n) => format!("\"{ms}-{n}\""),
            Self::Written(text) => (*text).to_owned(),
            Self::Listed(rooms) => {
                let one =
                    |(room, ms, n): &(&str, u64, u64)| format!("{{\"room\":{},\"after\":\"{ms}-{n}\"}}", string(room));
                format!("[{}]", rooms.iter().map(one).collect::<Vec<_>>().join(","))
            }
            Self::Deep(levels) => {
                let levels = usize::from(*levels % 300);
                format!("{}{}", "[".repeat(levels), "]".repeat(levels))
            }
        }
    }
}

impl Pair<'_> {
    fn text(&self) -> String {
        match self {
            Self::Token => format!("token={TOKEN}"),
            Self::Encoded => format!("%74oke%6E={TOKEN}"),
            Self::Transport => "transport=polling".to_owned(),
            Self::Engine => "EIO=4".to_owned(),
            Self::Other(name, value) => format!("{name}={value}"),
        }
    }
}

fn string(text: &str) -> String {
    Value::from(text).to_string()
}

fn packet(text: &str) {
    let read = read(text);
    // A tree has a bound on its depth that raw values do not have; beyond it there is nothing to compare with.
    let Ok(tree) = serde_json::from_str::<Value>(text) else { return };
    let parts = tree.as_array().filter(|parts| parts.first().is_some_and(Value::is_string));
    let Some(parts) = parts else { return assert_eq!(read, PacketOutcome::Malformed) };
    let said = |name| parts.get(1).and_then(|argument| argument.get(name)).and_then(Value::as_str);
    match read {
        PacketOutcome::Malformed => panic!("an array that begins with a text is a packet"),
        PacketOutcome::Refused(_) => {}
        PacketOutcome::Command { shown, rooms, token } => {
            let named: Vec<&str> = match parts.get(1).and_then(|argument| argument.get("rooms")) {
                Some(Value::Array(list)) if parts[0] == "join_rooms" => {
                    list.iter().map(|one| one["room"].as_str().expect("a room")).collect()
                }
                _ => said("room").into_iter().collect(),
            };
            for (room, whole) in rooms.iter().zip(&named) {
                assert!(kept(room, whole, ROOM_KEY_BYTES), "{room}");
            }
            assert!(rooms.is_empty() || rooms.len() == named.len(), "{rooms:?}");
            if let Some(token) = token {
                assert_eq!(shown, "Refresh(Token(***))");
                assert!(kept(&token, said("token").expect("a token"), MAX_TOKEN_BYTES), "{token}");
            }
        }
    }
}

/// Whether a text is there whole, or cut where it is longer than any good one.
fn kept(text: &str, whole: &str, longest: usize) -> bool {
    text == whole || (text.len() > longest && whole.starts_with(text))
}

fn name_of(pair: &str) -> String {
    let name = pair.split('=').next().unwrap_or_default();
    percent_decode_str(name).decode_utf8_lossy().into_owned()
}

fn head(pairs: &[Pair<'_>], raw: &str, upgrade: bool) {
    let query = pairs.iter().map(Pair::text).chain([raw.to_owned()]).collect::<Vec<_>>().join("&");
    let Ok(uri) = Uri::try_from(format!("/socket.io/?{query}")) else { return };
    let mut request = Request::builder().uri(&uri).header("authorization", "Bearer planted-header");
    if upgrade {
        request = request.header("sec-websocket-key", "x");
    }
    let Ok(request) = request.body(()) else { return };
    let entered = rewrite_request(request);
    let mine = |uri: &Uri| uri.query().unwrap_or_default().split('&').map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(entered.uri().path(), "/socket.io/");
    let kept: Vec<String> = mine(entered.uri()).into_iter().filter(|pair| !pair.is_empty()).collect();
    assert!(kept.iter().all(|pair| name_of(pair) != "token"), "a token is left in {}", entered.uri());
    let meant = |pair: &String| {
        if upgrade && pair == "transport=polling" { "transport=websocket".into() } else { pair.clone() }
    };
    let expected = mine(&uri).into_iter().filter(|pair| !pair.is_empty() && name_of(pair) != "token");
    assert_eq!(kept, expected.map(|pair| meant(&pair)).collect::<Vec<_>>());
    assert!(!entered.headers().contains_key("authorization"));
    let tokens = &transport_of(entered.extensions()).expect("it is always there").tokens;
    assert!(!format!("{tokens:?}").contains("planted"));
    assert_eq!(tokens.query.is_some(), mine(&uri).iter().any(|pair| name_of(pair) == "token" && pair.contains('=')));
}

fuzz_target!(|sent: Sent<'_>| match sent {
    Sent::Packet(text) => packet(&text),
    Sent::Command { name, members, behind } => {
        let members: Vec<String> =
            members.iter().map(|(m, json)| format!("{}:{}", string(m.text()), json.text())).collect();
        packet(&format!("[{},{{{}}}{behind}]", string(name.text()), members.join(",")));
    }
    Sent::Head { pairs, raw, upgrade } => head(&pairs, &raw, upgrade),
});
