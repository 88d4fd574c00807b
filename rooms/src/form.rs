//! Forms: the shapes of room keys, such as `store:{storeId}:orders` (nomor: "Room Key Naming Conventions").

use std::cmp::Reverse;
use std::fmt;
use std::str::FromStr;

use crate::limits::ROOM_SEGMENT_CHARS;

/// The signs that an id may contain besides letters and digits, so that identity providers' names, e-mail addresses
/// and base64 are valid ids. Excluded are `:` as the separator, braces as Redis' hash tags, blanks as the separators
/// of a live message and of an ingest entry's `room`, and `"` and `\`, which JSON would escape.
pub const ID_SIGNS: &str = "_.~-|@+=%,!$&'()*;/";

/// The fifteen forms of the nomor document, in its order.
pub const BUILT_IN: [&str; 15] = [
    "user:{userId}",
    "order:{orderId}",
    "store:{storeId}",
    "store:{storeId}:orders",
    "zone:{zoneId}",
    "zone:{zoneId}:agents",
    "agent:{agentId}",
    "agent:{agentId}:orders",
    "product:{productId}",
    "variant:{variantId}",
    "orders:active",
    "agents:all",
    "stores:all",
    "store:{storeId}:zone:{zoneId}",
    "dashboard:admin",
];

/// One part of a form, between colons.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// A lower-case word, matched literally.
    Word(String),
    /// An id, with its name in policies.
    Id(String),
}

/// The shape of a room key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Form(Vec<Segment>);

/// A text is not a form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no room form: segments are joined by colons, each a lower-case word of at most 128 characters or a name in braces, as in store:{{storeId}}:orders"
)]
pub struct InvalidForm(String);

impl Form {
    /// The parts, in order.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.0
    }

    /// Whether a key has this shape: equal words, and ids of 1 to 128 letters, digits and [`ID_SIGNS`].
    #[must_use]
    pub fn matches(&self, key: &str) -> bool {
        let mut parts = key.split(':');
        // Segment by segment without an allocation: every key of every command passes here.
        self.0.iter().all(|segment| match (segment, parts.next()) {
            (Segment::Word(word), Some(part)) => word == part,
            (Segment::Id(_), Some(part)) => is_id(part),
            (_, None) => false,
        }) && parts.next().is_none()
    }

    /// The named ids of a key of this form, in order.
    pub fn ids_of<'a>(&'a self, key: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0.iter().zip(key.split(':')).filter_map(|(segment, part)| match segment {
            Segment::Word(_) => None,
            Segment::Id(name) => Some((name.as_str(), part)),
        })
    }

    /// Whether both have the same shape, whatever the names of their ids.
    #[must_use]
    pub fn same_shape(&self, other: &Self) -> bool {
        self.0.len() == other.0.len()
            && self.0.iter().zip(&other.0).all(|pair| match pair {
                (Segment::Word(a), Segment::Word(b)) => a == b,
                (Segment::Id(_), Segment::Id(_)) => true,
                _ => false,
            })
    }

    /// Whether it is one of the built-in forms.
    #[must_use]
    pub fn is_built_in(&self) -> bool {
        BUILT_IN.iter().filter_map(|form| form.parse().ok()).any(|form: Self| form.same_shape(self))
    }

    /// Whether every key of `other` has this form as well.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.0.len() == other.0.len()
            && self.0.iter().zip(&other.0).all(|pair| match pair {
                (Segment::Word(a), Segment::Word(b)) => a == b,
                (Segment::Id(_), _) => true,
                (Segment::Word(_), Segment::Id(_)) => false,
            })
    }

    /// Whether some key has both forms.
    #[must_use]
    pub fn overlaps_form(&self, other: &Self) -> bool {
        self.0.len() == other.0.len()
            && self.0.iter().zip(&other.0).all(|pair| match pair {
                (Segment::Word(a), Segment::Word(b)) => a == b,
                (Segment::Id(_), _) | (_, Segment::Id(_)) => true,
            })
    }

    /// The order in which forms are tried; the first match wins. More words come first; with equally many, a word
    /// further to the left; the rest is alphabetical. Only forms of the same shape are equal in it.
    #[must_use]
    pub fn precedence(&self) -> impl Ord {
        let words = self.0.iter().filter(|s| matches!(s, Segment::Word(_))).count();
        (Reverse(words), self.0.iter().map(Segment::rank).collect::<Vec<_>>())
    }

    /// Whether this form wins for a key that has both.
    #[must_use]
    pub fn precedes(&self, other: &Self) -> bool {
        self.precedence() < other.precedence()
    }
}

impl Segment {
    /// Words before ids, in alphabetical order.
    fn rank(&self) -> (bool, &str) {
        match self {
            Self::Word(word) => (false, word),
            Self::Id(_) => (true, ""),
        }
    }
}

/// Whether a text can be an id in a key: 1 to 128 letters, digits and [`ID_SIGNS`].
#[must_use]
pub fn is_id(part: &str) -> bool {
    (1..=ROOM_SEGMENT_CHARS).contains(&part.len())
        && part.bytes().all(|b| b.is_ascii_alphanumeric() || ID_SIGNS.as_bytes().contains(&b))
}

fn segment(text: &str) -> Option<Segment> {
    if let Some(name) = text.strip_prefix('{').and_then(|t| t.strip_suffix('}')) {
        // The name becomes a variable in policies.
        let named = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        return named.then(|| Segment::Id(name.to_owned()));
    }
    let mut bytes = text.bytes();
    let word = text.len() <= ROOM_SEGMENT_CHARS
        && bytes.next().is_some_and(|b| b.is_ascii_lowercase())
        && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b));
    word.then(|| Segment::Word(text.to_owned()))
}

impl FromStr for Form {
    type Err = InvalidForm;

    fn from_str(text: &str) -> Result<Self, InvalidForm> {
        let segments: Option<Vec<_>> = text.split(':').map(segment).collect();
        segments.map(Self).ok_or_else(|| InvalidForm(text.to_owned()))
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, segment) in self.0.iter().enumerate() {
            let colon = if i == 0 { "" } else { ":" };
            match segment {
                Segment::Word(word) => write!(f, "{colon}{word}")?,
                Segment::Id(name) => write!(f, "{colon}{{{name}}}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_form() -> impl Strategy<Value = Form> {
        let segments = prop::collection::vec(prop::sample::select(vec!["a", "b", "{x}"]), 1..4);
        segments.prop_map(|segments| segments.join(":").parse().expect("a form"))
    }

    /// Every key of up to three parts, of the words that forms have and one that none has.
    fn keys() -> Vec<String> {
        let longer =
            |keys: &[String]| keys.iter().flat_map(|key| ["a", "b", "c"].map(|part| format!("{key}:{part}"))).collect();
        let one: Vec<String> = ["a", "b", "c"].map(str::to_owned).into();
        let two: Vec<String> = longer(&one);
        let three: Vec<String> = longer(&two);
        [one, two, three].concat()
    }

    proptest! {
        #[test]
        fn a_form_covers_another_if_it_has_all_its_keys_and_meets_it_if_it_has_some(one in any_form(), other in any_form()) {
            let keys = keys();
            let mut of_other = keys.iter().filter(|key| other.matches(key));
            prop_assert_eq!(one.covers(&other), of_other.clone().all(|key| one.matches(key)));
            prop_assert_eq!(one.overlaps_form(&other), of_other.any(|key| one.matches(key)));
        }

        #[test]
        fn of_two_forms_one_is_tried_first_and_it_is_the_narrower(one in any_form(), other in any_form()) {
            let same = one.same_shape(&other);
            prop_assert_eq!(one.precedes(&other) || other.precedes(&one), !same);
            prop_assert!(!(one.precedes(&other) && other.precedes(&one)));
            prop_assert!(same || !one.covers(&other) || other.precedes(&one));
        }
    }

    #[test]
    fn a_built_in_form_is_one_whatever_its_ids_are_called() {
        let is = |text: &str| text.parse::<Form>().expect("a form").is_built_in();
        assert!(is("user:{id}") && is("orders:active"));
        assert!(!is("user:boss") && !is("orders:{id}"));
    }
}
