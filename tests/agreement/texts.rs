//! Texts that are nearly events and names that are nearly rooms, for two readers who are to agree on them.

use std::fmt;

use proptest::prelude::*;

/// What a service may publish.
#[derive(Clone)]
pub(super) struct Text(pub(super) Vec<u8>);

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

impl Text {
    pub(super) fn of(text: impl Into<String>) -> Self {
        Self(text.into().into_bytes())
    }
}

/// Names of members, some of them with escapes, and some that are no events' own.
const NAMES: [&str; 14] = [
    "id",
    "type",
    "priority",
    "timestamp",
    "payload",
    "meta",
    "more",
    "k",
    "agentId",
    r"\u0069d",
    r"t\u0079pe",
    r"pay\u006coad",
    r"met\u0061",
    r#"\"meta"#,
];

/// Values of one token.
const SCALARS: [&str; 42] = [
    "1",
    "0",
    "-0",
    "-1",
    "1.5",
    "1.0",
    "1e3",
    "1E+3",
    "1e-3",
    "-1.5e10",
    "1e400",
    "-1e400",
    "1e-400",
    "0.0",
    "0e5",
    "9007199254740991",
    "9007199254740992",
    "9007199254740993",
    "9007199254740994",
    "18446744073709551615",
    "18446744073709551616",
    "12345678901234567",
    "12345678901234568",
    "1735689600000",
    "1735689600000.5",
    "1735689600123.000001",
    "4102444800001",
    "null",
    "true",
    "false",
    r#""t""#,
    r#""u""#,
    r#""LOW""#,
    r#""low""#,
    r#""a b""#,
    r#""""#,
    r#""payload""#,
    r#""agent.location_updated""#,
    r#""\ud83d\ude00""#,
    r#""\u0000""#,
    r#""a\"b\\""#,
    "\"\u{7f}é\u{10ffff}\"",
];

/// What looks like a value and is none.
const NO_VALUES: [&str; 22] = [
    "01",
    "-01",
    "1.",
    ".5",
    "-.5",
    "+1",
    "1e",
    "1e+",
    "-",
    "0x10",
    "1e5.5",
    "1.e5",
    "NaN",
    "nan",
    "Infinity",
    "-inf",
    "nul",
    "True",
    r#""\ud800""#,
    r#""\udc00\ud800""#,
    r#""\x""#,
    "'x'",
];

/// Bytes that break a text when they come where they should not.
const BYTES: &[u8] = b"\"\\{}[]:,0123.eE+- \t\n\r\x00\x01\x1f\x7f\x80\xc3\xa9\xed\xa0\xf0\xffatu/";

fn number() -> impl Strategy<Value = String> {
    let digits =
        |count: std::ops::Range<usize>| prop::collection::vec(prop::sample::select(b"0123456789".to_vec()), count);
    let text = |digits: Vec<u8>| String::from_utf8(digits).expect("digits");
    prop_oneof![
        digits(1..20).prop_map(text),
        (digits(13..15), digits(1..9)).prop_map(move |(whole, part)| format!("1{}.{}", text(whole), text(part))),
        (95..103_usize).prop_map(|count| "9".repeat(count)),
        (95..103_usize).prop_map(|count| format!("-{}", "8".repeat(count))),
        (95..103_usize).prop_map(|count| format!("0.{}", "7".repeat(count))),
        (95..103_usize).prop_map(|count| format!("1e-{}", "0".repeat(count))),
    ]
}

fn value() -> impl Strategy<Value = String> {
    let scalar = prop_oneof![
        40 => prop::sample::select(SCALARS.to_vec()).prop_map(str::to_owned),
        1 => prop::sample::select(NO_VALUES.to_vec()).prop_map(str::to_owned),
        9 => number(),
        1 => (60..67_usize).prop_map(|depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth))),
        4 => Just("[]".to_owned()),
        4 => Just("{}".to_owned()),
    ];
    scalar.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..4).prop_map(|values| format!("[{}]", values.join(","))),
            prop::collection::vec((prop::sample::select(NAMES.to_vec()), inner), 1..5)
                .prop_map(|members| object(&members)),
        ]
    })
}

fn object(members: &[(&str, String)]) -> String {
    let members: Vec<String> = members.iter().map(|(name, value)| format!("\"{name}\" : {value}")).collect();
    format!("{{{}}}", members.join(" ,"))
}

/// An event, with one thing more that is right or wrong.
fn event() -> impl Strategy<Value = String> {
    let kind = prop::sample::select(vec![r#""t""#, r#""u""#, r#""agent.location_updated""#]).prop_map(str::to_owned);
    let more = prop::collection::vec((prop::sample::select(NAMES.to_vec()), value()), 0..3);
    (kind, value(), more, any::<bool>()).prop_map(|(kind, payload, more, first)| {
        let own = vec![("type", kind), ("payload", payload)];
        object(&if first { [more, own].concat() } else { [own, more].concat() })
    })
}

/// Perhaps with a byte or two put in, taken away or changed.
fn text() -> impl Strategy<Value = Text> {
    let change = (any::<prop::sample::Index>(), 0..3_u8, prop::sample::select(BYTES.to_vec()));
    let changes = prop_oneof![4 => Just(Vec::new()), 1 => prop::collection::vec(change, 1..3)];
    let whole = prop_oneof![6 => event(), 1 => value()];
    (whole, changes).prop_map(|(whole, changes)| {
        let mut bytes = whole.into_bytes();
        for (at, how, byte) in changes {
            let at = at.index(bytes.len().max(1));
            match how {
                0 => bytes.insert(at, byte),
                1 if at < bytes.len() => drop(bytes.remove(at)),
                _ if at < bytes.len() => bytes[at] = byte,
                _ => {}
            }
        }
        Text(bytes)
    })
}

pub(super) fn texts() -> impl Strategy<Value = Vec<Text>> {
    prop::collection::vec(text(), 1..40)
}

/// Names of rooms: of known words and ids, or of anything.
pub(super) fn keys() -> impl Strategy<Value = Vec<String>> {
    let word =
        prop::sample::select(vec!["x", "b", "c", "a-b", "axb", "user", "orders", "*", "-", "", "é", "x{", "a b"]);
    let segment = prop_oneof![
        4 => word.prop_map(str::to_owned),
        3 => "[A-Za-z0-9_.~|@+=%,!$&'()*;/-]{1,8}",
        1 => "[ -~]{1,4}",
        1 => (126..131_usize).prop_map(|count| "y".repeat(count)),
    ];
    let key = prop_oneof![
        9 => prop::collection::vec(segment, 1..6).prop_map(|segments| segments.join(":")),
        1 => (5..9_usize).prop_map(|count| vec!["z".repeat(128); count].join(":")),
    ];
    prop::collection::vec(key, 1..60)
}

/// Texts that one reader took and the other refused, or that they took for different events.
pub(super) fn known() -> Vec<Text> {
    let long = |count: usize| "9".repeat(count);
    let of = |rest: &str| Text::of(format!(r#"{{"type":"t","payload":1,{rest}}}"#));
    let in_payload = |payload: &str| Text::of(format!(r#"{{"type":"t","payload":{payload}}}"#));
    let shifted = (0..110).flat_map(|by| [100, 101].map(|count| (" ".repeat(by), long(count))));
    let shifted = shifted.flat_map(|(by, number)| {
        [
            Text::of(format!(r#"{{"type":"t",{by}"payload":{number}}}"#)),
            in_payload(&format!("[1e5,{by}-{},2{by}]", &number[1..])),
        ]
    });
    let mut texts = vec![
        of(r#""id":null,"priority":null,"timestamp":null,"meta":null"#),
        of(r#""more":1,"more":2"#),
        of(r#""more":"\ud800""#),
        of(&format!(r#""more":{}{}"#, "[".repeat(65), "]".repeat(65))),
        of(r#""timestamp":9007199254740993"#),
        of(r#""timestamp":9007199254740994"#),
        of(&format!(r#""timestamp":{}"#, long(101))),
        of(&format!(r#""more":[{}]"#, long(101))),
        of(&format!(r#""meta":{{"n":{}}}"#, long(101))),
        in_payload(&long(100)),
        in_payload(&long(101)),
        in_payload(&format!("\"{}\"", long(101))),
        in_payload(&format!(r#"{{"k":{}}}"#, long(100))),
        in_payload(r#"{"k":12345678901234567}"#),
        in_payload(r#"{"k":12345678901234568}"#),
        in_payload(r#"{"k":1.0}"#),
        in_payload(r#"{"n":[{"k":2}],"m":{"k":3},"k":4,"s":"k","k":-5e0}"#),
        Text::of(r#"{"payload":{"payload":7,"k":8},"type":"u"}"#),
        Text::of(r#"{"more":[{"payload":{"k":1}}],"payload":{"\u006b":2},"type":"t"}"#),
    ];
    texts.extend(shifted);
    texts.extend(escaped());
    texts
}

/// Strings with escapes near to each other and far apart, before and behind what may not stand in a string.
fn escaped() -> Vec<Text> {
    const ESCAPES: [&str; 8] = [r#"\""#, r"\\", r"\n", r"\u005c", r"\u0022", r#"\\\""#, r"\ud83d\ude00", r"\ud800"];
    const MORE: [&str; 9] = ["", "é", "\u{7f}", "\u{1}", "\n", "{[:,", r#"","more":["\\"],"k":""#, "\"", "\\"];
    let gaps = [0, 1, 14, 15, 16, 17, 40].map(|count| "z".repeat(count));
    let mut texts = Vec::new();
    for (escape, gap) in ESCAPES.iter().flat_map(|escape| gaps.iter().map(move |gap| (escape, gap))) {
        for (more, count) in MORE.iter().flat_map(|more| [1, 2, 5].map(|count| (more, count))) {
            let run = format!("{gap}{escape}").repeat(count);
            let strings = [format!("{run}{more}"), format!("{more}{run}"), format!("{run}{more}{gap}{escape}{escape}")];
            texts.extend(strings.map(|string| Text::of(format!(r#"{{"type":"t","payload":"{string}"}}"#))));
        }
    }
    texts
}
