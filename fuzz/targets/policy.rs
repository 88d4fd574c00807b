//! Conditions of policies: whatever text comes is refused or judged, in bounded time, and nothing of ours panics.

#![no_main]

use std::panic;
use std::sync::LazyLock;

use arbitrary::Arbitrary;
use hallway::auth::claims::Claims;
use hallway::auth::policy::{Expression, Policy, PolicyRule, RuleSubject};
use hallway_fuzz::classes;
use hallway_rooms::class::Classes;
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value};

#[derive(Arbitrary, Debug)]
enum Input<'a> {
    Text(&'a str),
    Made { words: Vec<Word<'a>>, claims: Vec<(&'a str, Json<'a>)>, staff: bool },
}

#[derive(Arbitrary, Debug)]
enum Word<'a> {
    Known(u8),
    Text(&'a str),
    Number(i64),
    Any(&'a str),
    Nested(u8, u8),
}

#[derive(Arbitrary, Debug)]
enum Json<'a> {
    Text(&'a str),
    Number(f64),
    Whole(i64),
    Flag(bool),
    Long(u16),
    Many(u16),
    Deep(u8),
    List(Vec<Json<'a>>),
    Written(&'a str),
}

const WORDS: [&str; 48] = [
    "claims",
    ".",
    "sub",
    "roles",
    "room",
    "orderId",
    "key",
    "now",
    "staff",
    "agent",
    "id",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ",",
    ":",
    "?",
    "&&",
    "||",
    "!",
    "==",
    "!=",
    "<",
    "+",
    "-",
    "*",
    "/",
    "%",
    "in",
    "has",
    "size",
    "x",
    "y",
    "all",
    "exists",
    "map",
    "filter",
    "startsWith",
    "contains",
    "matches",
    "string",
    "int",
    "true",
    "null",
    "0",
];

impl Word<'_> {
    fn text(&self) -> String {
        match self {
            Self::Known(at) => WORDS[usize::from(*at) % WORDS.len()].to_owned(),
            Self::Text(text) => Value::from(*text).to_string(),
            Self::Number(number) => number.to_string(),
            Self::Any(text) => (*text).to_owned(),
            Self::Nested(at, times) => {
                ["(", "!", "-", "[", "{1:", "x.all(y,", "true?", "a."][usize::from(*at % 8)].repeat((*times).into())
            }
        }
    }
}

impl Json<'_> {
    fn value(&self) -> Value {
        match self {
            Self::Text(text) => (*text).into(),
            Self::Number(number) => (*number).into(),
            Self::Whole(number) => (*number).into(),
            Self::Flag(flag) => (*flag).into(),
            Self::Long(length) => "x".repeat(usize::from(*length % 8_000)).into(),
            Self::Many(items) => (0..items % 2_000).map(Value::from).collect(),
            Self::Deep(levels) => (0..*levels).fold(Value::Null, |inner, _| vec![inner].into()),
            Self::List(items) => items.iter().map(Self::value).collect(),
            Self::Written(text) => serde_json::from_str(text).unwrap_or_default(),
        }
    }
}

static CLASSES: LazyLock<Classes> = LazyLock::new(|| {
    // A panic of the library is caught where it is called, and denies; one of ours is a finding.
    let abort = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if !info.location().is_some_and(|place| place.file().contains("/registry/src/")) {
            abort(info);
        }
    }));
    classes()
});

fn judge(text: &str, claims: &Claims) {
    if let Ok(condition) = Expression::compile(text, RuleSubject::User) {
        assert_eq!(condition.text(), text);
        let policy = Policy::new(Vec::new(), condition, vec!["staff".to_owned()]);
        let judged = policy.may_locate(claims);
        // The clock may go on in between, so only what does not look at it is judged the same again.
        assert!(text.contains("now") || judged == policy.may_locate(claims), "{text} is judged twice, differently");
    }
    let room = CLASSES.find_room("order:o|1@x.~-_%'$").expect("a room");
    let order = &CLASSES.class_of(&room).form;
    let Ok(join) = Expression::compile(text, RuleSubject::Room(order)) else { return };
    let mut rules: Vec<PolicyRule> =
        CLASSES.all_classes().iter().map(|class| PolicyRule::default_of(&class.form).expect("a default")).collect();
    rules[room.class().index()].join = join;
    let locate = Expression::compile("false", RuleSubject::User).expect("a condition");
    let policy = Policy::new(rules, locate, vec!["staff".to_owned()]);
    let _ = policy.rule_allows(claims, &room);
    assert!(!policy.may_locate(claims));
}

fuzz_target!(|input: Input<'_>| {
    let (text, more, staff) = match &input {
        Input::Text(text) => ((*text).to_owned(), &[][..], false),
        Input::Made { words, claims, staff } => {
            (words.iter().map(Word::text).collect::<Vec<_>>().join(" "), claims.as_slice(), *staff)
        }
    };
    let _ = &*CLASSES;
    let mut all: Map<String, Value> = more.iter().map(|(name, json)| ((*name).to_owned(), json.value())).collect();
    all.insert("sub".to_owned(), "u1".into());
    all.insert("roles".to_owned(), vec!["a", "b"].into());
    if staff {
        all.insert("role".to_owned(), "staff".into());
    }
    let json = Value::from(all).to_string().into();
    let claims = Claims { subject: "u1".into(), expires_ms: 1, issued_ms: None, token_id: None, json };
    judge(&text, &claims);
});
