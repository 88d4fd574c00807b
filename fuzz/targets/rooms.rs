//! Room keys and forms against a model that reads them letter by letter.

#![no_main]

use arbitrary::Arbitrary;
use hallway_fuzz::classes;
use hallway_rooms::class::Retention;
use hallway_rooms::form::{BUILT_IN, Form};
use libfuzzer_sys::fuzz_target;
use std::cmp::Ordering;
use std::time::Duration;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    forms: Vec<Text<'a>>,
    key: Text<'a>,
}

#[derive(Arbitrary, Debug)]
enum Text<'a> {
    Any(&'a str),
    Of(Vec<Part<'a>>),
}

#[derive(Arbitrary, Debug)]
enum Part<'a> {
    Word(u8),
    Id(&'a str),
    Named(&'a str),
    Long(u16),
}

impl Text<'_> {
    fn text(&self) -> String {
        match self {
            Self::Any(text) => (*text).to_owned(),
            Self::Of(parts) => parts.iter().map(Part::text).collect::<Vec<_>>().join(":"),
        }
    }
}

impl Part<'_> {
    fn text(&self) -> String {
        const WORDS: [&str; 11] =
            ["user", "order", "store", "orders", "zone", "agents", "agent", "all", "active", "dashboard", "admin"];
        match self {
            Self::Word(at) => WORDS[usize::from(*at) % WORDS.len()].to_owned(),
            Self::Id(id) => (*id).to_owned(),
            Self::Named(name) => format!("{{{name}}}"),
            Self::Long(length) => "x".repeat(usize::from(*length % 2000)),
        }
    }
}

/// A form as a list: a word, or none for an id.
type Shape = Vec<Option<String>>;

fn shape(form: &str) -> Option<Shape> {
    form.split(':').map(segment).collect()
}

fn segment(text: &str) -> Option<Option<String>> {
    let letters: Vec<char> = text.chars().collect();
    match letters.as_slice() {
        ['{', name @ .., '}'] => {
            let fine = !name.is_empty() && name.iter().all(|c| matches!(c, 'a'..='z' | 'A'..='Z' | '0'..='9' | '_'));
            fine.then_some(None)
        }
        ['a'..='z', rest @ ..] => {
            let fine = letters.len() <= 128 && rest.iter().all(|c| matches!(c, 'a'..='z' | '0'..='9' | '_' | '-'));
            fine.then(|| Some(text.to_owned()))
        }
        _ => None,
    }
}

fn fits(shape: &Shape, key: &str) -> bool {
    let parts: Vec<&str> = key.split(':').collect();
    let id = |part: &str| {
        let letter = |c: char| c.is_ascii_alphanumeric() || "_.~-|@+=%,!$&'()*;/".contains(c);
        !part.is_empty() && part.chars().count() <= 128 && part.chars().all(letter)
    };
    parts.len() == shape.len()
        && shape.iter().zip(parts).all(|(segment, part)| match segment {
            Some(word) => word == part,
            None => id(part),
        })
}

/// Which of two shapes that fit the same key is meant: that with more words, or with the first word that the other lacks.
fn is_meant(one: &Shape, other: &Shape) -> Ordering {
    let words = |shape: &Shape| shape.iter().flatten().count();
    let lacks = || one.iter().zip(other).find(|(a, b)| a.is_some() != b.is_some());
    let further_left =
        || lacks().map_or(Ordering::Equal, |(a, _)| if a.is_some() { Ordering::Greater } else { Ordering::Less });
    words(one).cmp(&words(other)).then_with(further_left)
}

fuzz_target!(|input: Input<'_>| {
    let mut classes = classes();
    let mut shapes: Vec<Shape> = BUILT_IN.iter().map(|form| shape(form).expect("a form")).collect();
    let retention = Retention { max_events: 1, ttl: Duration::from_secs(1) };
    for form in input.forms.iter().take(20).map(Text::text) {
        let (read, modelled) = (form.parse::<Form>(), shape(&form));
        assert_eq!(read.is_ok(), modelled.is_some(), "{form:?}");
        let (Ok(read), Some(modelled)) = (read, modelled) else { continue };
        assert_eq!(read.to_string(), form);
        assert!(read.same_shape(&read));
        classes.configure(&form, retention, |_| {}).expect("it is a form");
        if !shapes.contains(&modelled) {
            shapes.push(modelled);
        }
    }
    assert_eq!(classes.all_classes().len(), shapes.len());
    let key = input.key.text();
    let fitting: Vec<&Shape> = shapes.iter().filter(|shape| key.len() <= 1024 && fits(shape, &key)).collect();
    match classes.find_room(&key) {
        Err(refused) => {
            assert!(fitting.is_empty(), "{key:?} is refused");
            assert!(refused.to_string().len() < 1000, "a refusal repeats no more than the beginning of a key");
        }
        Ok(room) => {
            assert!(!fitting.is_empty(), "{key:?} is taken");
            assert!(!key.bytes().any(|b| b" \"\\{}".contains(&b) || !b.is_ascii_graphic()), "{key:?}");
            assert_eq!((room.to_string(), room.key()), (key.clone(), key.as_str()));
            let form = &classes.class_of(&room).form;
            assert!(form.matches(&key));
            let meant = fitting.iter().max_by(|one, other| is_meant(one, other)).expect("one fits");
            assert_eq!(shape(&form.to_string()).as_ref(), Some(*meant), "{key:?}");
            assert!(form.ids_of(&key).all(|(name, id)| !name.is_empty() && (1..=128).contains(&id.len())));
        }
    }
});
