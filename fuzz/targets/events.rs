//! What publishers write and what brokers store: what is accepted can be sent to any client, and comes back as it was.

#![no_main]

use arbitrary::Arbitrary;
use hallway_fuzz::{classes, composes};
use hallway_rooms::draft::Draft;
use hallway_rooms::entry::{ChainLink, Entry, Retained, RoomPlace, Stamp};
use hallway_rooms::envelope::Envelope;
use hallway_rooms::offset::Offset;
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
enum Input<'a> {
    Event(&'a [u8]),
    Members(Vec<(Member<'a>, Json<'a>)>),
    Stored(&'a [u8]),
    Line {
        words: Vec<Word<'a>>,
        text: &'a [u8],
    },
    Written {
        id: &'a str,
        timestamp: u64,
        ack: bool,
        places: Vec<(u8, Kept)>,
        earlier: Option<(u64, u64)>,
        text: &'a [u8],
    },
}

#[derive(Arbitrary, Debug)]
enum Member<'a> {
    Id,
    Type,
    Priority,
    Timestamp,
    Payload,
    Meta,
    Other(&'a str),
}

#[derive(Arbitrary, Debug)]
enum Json<'a> {
    Written(&'a str),
    Text(&'a str),
    Number(i64),
    Float(f64),
    Urgent(u8),
    Object(Vec<(&'a str, Box<Json<'a>>)>),
    Deep(u8),
    Nines(u8),
}

#[derive(Arbitrary, Debug)]
enum Word<'a> {
    One,
    Room(u8),
    Number(u64),
    Offset(u64, u64),
    None,
    Earlier,
    Digest(u64),
    Any(&'a str),
}

#[derive(Arbitrary, Debug)]
enum Kept {
    Nothing,
    Newest(u64, u64, u64),
    Stored(u64, u64, u64, u64),
}

impl Member<'_> {
    fn text(&self) -> &str {
        match self {
            Self::Id => "id",
            Self::Type => "type",
            Self::Priority => "priority",
            Self::Timestamp => "timestamp",
            Self::Payload => "payload",
            Self::Meta => "meta",
            Self::Other(name) => name,
        }
    }
}

impl Json<'_> {
    fn text(&self) -> String {
        match self {
            Self::Written(text) => (*text).to_owned(),
            Self::Text(text) => serde_json::Value::from(*text).to_string(),
            Self::Number(number) => number.to_string(),
            Self::Float(number) => serde_json::Value::from(*number).to_string(),
            Self::Urgent(at) => ["\"LOW\"", "\"NORMAL\"", "\"HIGH\"", "\"CRITICAL\""][usize::from(at % 4)].to_owned(),
            Self::Object(members) => object(members.iter().map(|(name, json)| (*name, json.text()))),
            Self::Nines(count) => format!("-{}", "9".repeat(usize::from(*count) + 1)),
            Self::Deep(levels) => {
                let levels = usize::from(*levels);
                format!("{}1{}", "[".repeat(levels), "]".repeat(levels))
            }
        }
    }
}

fn object<'a>(members: impl Iterator<Item = (&'a str, String)>) -> String {
    let members = members.map(|(name, json)| format!("{}:{json}", serde_json::Value::from(name)));
    format!("{{{}}}", members.collect::<Vec<_>>().join(","))
}

const ROOMS: [&str; 5] = ["order:1", "user:auth0|u-1", "store:s:zone:z", "orders:active", "order:a+b/c=%'()*;$"];

fn room(at: u8) -> &'static str {
    ROOMS[usize::from(at) % ROOMS.len()]
}

impl Word<'_> {
    fn text(&self) -> String {
        match self {
            Self::One => "1".to_owned(),
            Self::Room(at) => room(*at).to_owned(),
            Self::Number(number) => number.to_string(),
            Self::Offset(ms, n) => format!("{ms}-{n}"),
            Self::None => "-".to_owned(),
            Self::Earlier => "=".to_owned(),
            Self::Digest(key) => format!("~{key:016x}"),
            Self::Any(text) => (*text).to_owned(),
        }
    }
}

impl Kept {
    fn keep(&self) -> Retained {
        match *self {
            Self::Nothing => Retained::Nothing,
            Self::Newest(key, ms, n) => Retained::Newest(Stamp { key, at: Offset { ms, n } }),
            Self::Stored(ms, n, before, m) => {
                Retained::Stored(ChainLink { offset: Offset { ms, n }, prev: Offset { ms: before, n: m } })
            }
        }
    }
}

/// The longest of the numbers, or of what is made of their letters, outside of texts.
fn longest_number(text: &str) -> usize {
    let (mut longest, mut run, mut inside, mut escaped) = (0, 0, false, false);
    for letter in text.chars() {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = inside,
            '"' => inside = !inside,
            _ => {}
        }
        run = if !inside && "0123456789+-.eE".contains(letter) { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    longest
}

fn event(text: &[u8]) {
    let Ok(draft) = Draft::parse(text) else { return };
    let whole = std::str::from_utf8(text).expect("what is read is UTF-8");
    assert!(whole.contains(draft.payload.get()), "the payload is a part of the text");
    assert!(draft.timestamp.is_none_or(|ms| ms <= 1 << 53));
    composes(&draft, &Envelope::from_draft(&draft, "an-id", 1, true), &[]);
    let members = hallway_fuzz::Members::of(whole).expect("an object");
    let raw = members.0.iter().find(|(name, _)| name == "payload").expect("a payload").1.get();
    assert_eq!(raw, draft.payload.get());
    members.distinct_names();
    assert!(longest_number(whole) <= 100, "a number that some clients cannot read");
}

fn stored(bytes: &[u8]) {
    let classes = classes();
    let Ok(entry) = Entry::parse(bytes, &classes) else { return };
    assert_ne!(bytes.first(), Some(&b'{'), "a plain event passes for an entry");
    assert_eq!(Entry::parse(&entry.encode(), &classes).as_ref(), Ok(&entry));
    assert!(bytes.ends_with(&entry.text));
    let (Ok(envelope), Ok(draft)) = (Envelope::from_entry(&entry), Draft::parse(&entry.text)) else {
        assert!(Draft::parse(&entry.text).is_err(), "what can be read can be composed");
        return;
    };
    composes(&draft, &envelope, &[]);
    let places: Vec<&RoomPlace> = entry.places.iter().collect();
    composes(&draft, &envelope, &places[..1]);
    composes(&draft, &envelope, &places);
}

fuzz_target!(|input: Input<'_>| match input {
    Input::Event(text) => event(&text),
    Input::Members(members) => event(object(members.iter().map(|(m, json)| (m.text(), json.text()))).as_bytes()),
    Input::Stored(bytes) => stored(&bytes),
    Input::Line { words, text } => {
        let line = words.iter().map(Word::text).collect::<Vec<_>>().join(" ");
        stored(&[line.as_bytes(), b"\n", &text].concat());
    }
    Input::Written { id, timestamp, ack, places, earlier, text } => {
        let classes = classes();
        let Ok(id) = id.parse() else { return };
        let at = |key| classes.find_room(key).expect("a room");
        let place = |(key, kept): &(u8, Kept)| RoomPlace { room: at(room(*key)), keep: kept.keep() };
        let places: Vec<RoomPlace> = places.iter().take(60).map(place).collect();
        let earlier = earlier.map(|(ms, n)| (at("zone:z"), Offset { ms, n })).into_iter().collect();
        let entry = Entry { id, timestamp, requires_ack: ack, places, earlier, text: text.to_vec() };
        if entry.places.is_empty() {
            return;
        }
        assert_eq!(Entry::parse(&entry.encode(), &classes).as_ref(), Ok(&entry));
        stored(&entry.encode());
    }
});
