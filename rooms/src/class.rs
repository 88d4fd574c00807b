//! Room classes: the properties that all rooms of one form share, and the table in which every key is looked up.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::draft::Draft;
use crate::event::EventType;
use crate::form::{BUILT_IN, Form, InvalidForm};
use crate::key::{ClassId, InvalidRoom, Room};
use crate::limits::{PAGE_EVENTS, ROOM_KEY_BYTES};

/// The delivery of a class's or a type's events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Delivery {
    /// Kept in the room's history; a member misses none.
    Durable,
    /// Only the last event per key matters; older ones may be skipped.
    Latest,
    /// Live only. It may be dropped under backpressure, and a drop is counted.
    Ephemeral,
}

impl Delivery {
    /// From the strongest promise on.
    pub const ALL: [Self; 3] = [Self::Durable, Self::Latest, Self::Ephemeral];

    /// As publishers and configurations write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Durable => "durable",
            Self::Latest => "latest",
            Self::Ephemeral => "ephemeral",
        }
    }
}

/// How much history a room keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// The number of last events kept; 0 turns the history off.
    pub max_events: u64,
    /// The whole history expires this long after its last entry.
    pub ttl: Duration,
}

/// The properties of all rooms of one form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Class {
    /// The form of their keys.
    pub form: Form,
    /// How much history each room keeps.
    pub retention: Retention,
    /// The delivery of their events, unless the type has a rule.
    pub delivery: Delivery,
}

impl Class {
    /// Whether rooms of this class keep anything that can be read later.
    #[must_use]
    pub fn has_history(&self) -> bool {
        match self.delivery {
            Delivery::Durable => self.retention.max_events > 0,
            // Kept by key and not by number, so `max_events` has no say.
            Delivery::Latest => true,
            Delivery::Ephemeral => false,
        }
    }
}

/// The delivery of a type's events in every room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeRule {
    /// The delivery.
    pub delivery: Delivery,
    /// The payload member that tells apart which of the type's events supersede each other, such as `agentId`.
    /// Without one, or where its value is not a string or a number, all events of the type have one key.
    pub key: Option<String>,
}

/// All room classes, and the types with a delivery of their own.
#[derive(Clone, Debug)]
pub struct Classes {
    /// In the order of [`Form::precedence`], so that the first match is the right one.
    classes: Vec<Class>,
    /// Rules by type, in a stable order, since the Redis function's text is rendered from them.
    types: BTreeMap<String, TypeRule>,
    /// How long a room's last offset is kept: at least as long as the longest `ttl`, so that it outlives every entry.
    memory: Duration,
    /// The most keys of `latest` events per room.
    max_latest: usize,
}

impl Classes {
    /// The fifteen built-in classes, all durable, with the same `retention`.
    ///
    /// # Panics
    /// Never: a test parses the built-in forms.
    #[must_use]
    pub fn built_in(retention: Retention, memory: Duration) -> Self {
        let class = |text: &&str| Class {
            form: text.parse().expect("a built-in form parses"),
            retention,
            delivery: Delivery::Durable,
        };
        let rule = TypeRule { delivery: Delivery::Latest, key: Some("agentId".to_owned()) };
        let types = BTreeMap::from([("agent.location_updated".to_owned(), rule)]);
        let mut classes: Vec<Class> = BUILT_IN.iter().map(class).collect();
        classes.sort_by(|a, b| a.form.precedence().cmp(&b.form.precedence()));
        let mut all = Self { classes, types, memory, max_latest: PAGE_EVENTS };
        // An offset that is forgotten before its entry could not prove the history complete.
        all.memory = all.memory.max(retention.ttl);
        all
    }

    /// Changes the class of this shape, or adds one with `retention`. `change` edits it before it is used. Rooms
    /// refer to classes by their index, so all calls come before the first [`find_room`](Self::find_room).
    ///
    /// # Errors
    /// When `form` is not a valid form.
    pub fn configure(
        &mut self,
        form: &str,
        retention: Retention,
        change: impl FnOnce(&mut Class),
    ) -> Result<(), InvalidForm> {
        let form: Form = form.parse()?;
        // By shape and not by text: `order:{id}` configures the built-in `order:{orderId}`.
        let at = match self.classes.iter().position(|c| c.form.same_shape(&form)) {
            Some(at) => at,
            None => {
                // In its place by precedence, since lookups take the first match.
                let at = self.classes.partition_point(|c| c.form.precedes(&form));
                self.classes.insert(at, Class { form, retention, delivery: Delivery::Durable });
                at
            }
        };
        change(&mut self.classes[at]);
        self.memory = self.memory.max(self.classes[at].retention.ttl);
        Ok(())
    }

    /// Sets the delivery of a type's events in every room.
    pub fn configure_type(&mut self, name: &str, rule: TypeRule) {
        self.types.insert(name.to_owned(), rule);
    }

    /// Sets the most keys of which a room keeps the last `latest` event, at least 1.
    pub fn keep_latest(&mut self, max_latest: usize) {
        self.max_latest = max_latest.max(1);
    }

    /// The most keys of `latest` events per room.
    #[must_use]
    pub fn max_latest(&self) -> usize {
        self.max_latest
    }

    /// Validates a key and finds its class: the first of [`all_classes`](Self::all_classes) whose form matches.
    ///
    /// # Errors
    /// When the key is too long or has no known form.
    pub fn find_room(&self, key: &str) -> Result<Room, InvalidRoom> {
        // Before the forms: a long key must not cost a match against each of them.
        if key.len() > ROOM_KEY_BYTES {
            return Err(InvalidRoom::for_key(key));
        }
        let at = self.classes.iter().position(|c| c.form.matches(key)).ok_or_else(|| InvalidRoom::for_key(key))?;
        let id = u16::try_from(at).map_err(|_| InvalidRoom::for_key(key))?;
        Ok(Room::new(key, ClassId(id)))
    }

    /// The class of a room. The room must come from the same `Classes`.
    #[must_use]
    pub fn class_of(&self, room: &Room) -> &Class {
        &self.classes[usize::from(room.class().0)]
    }

    /// The delivery of an event of type `kind` in `room`: the type's, or else the class's. It is lowered to ephemeral
    /// where the class keeps nothing of that sort.
    #[must_use]
    pub fn delivery_of(&self, kind: &EventType, room: &Room) -> Delivery {
        let class = self.class_of(room);
        let wanted = self.types.get(kind.as_str()).map_or(class.delivery, |rule| rule.delivery);
        let kept = match wanted {
            Delivery::Durable => class.retention.max_events > 0,
            Delivery::Latest => class.has_history(),
            Delivery::Ephemeral => false,
        };
        if kept { wanted } else { Delivery::Ephemeral }
    }

    /// The key by which an event supersedes others: its type, with the value of the payload member that the type's
    /// rule names.
    #[must_use]
    pub fn latest_key(&self, draft: &Draft<'_>) -> String {
        let member = self.types.get(draft.kind.as_str()).and_then(|rule| rule.key.as_deref());
        let value = member.and_then(|member| draft.payload_text(member));
        value.map_or_else(|| draft.kind.to_string(), |value| format!("{} {value}", draft.kind))
    }

    /// All classes in the order in which a key is looked up among their forms. This is the only place that decides
    /// it; the Redis function gets the list in this order.
    #[must_use]
    pub fn all_classes(&self) -> &[Class] {
        &self.classes
    }

    /// The types with a delivery of their own.
    pub fn type_rules(&self) -> impl Iterator<Item = (&str, &TypeRule)> {
        self.types.iter().map(|(name, rule)| (name.as_str(), rule))
    }

    /// How long a room's last offset is kept.
    #[must_use]
    pub fn memory(&self) -> Duration {
        self.memory
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn classes() -> Classes {
        let retention = Retention { max_events: 100, ttl: Duration::from_secs(3600) };
        Classes::built_in(retention, Duration::from_secs(7 * 86_400))
    }

    fn key_of(form: &Form, id: &str) -> String {
        form.to_string().split(':').map(|s| if s.starts_with('{') { id } else { s }).collect::<Vec<_>>().join(":")
    }

    proptest! {
        #[test]
        fn every_built_in_form_parses_prints_and_names_its_ids(id in "[A-Za-z0-9_.~|@+=%,!$&'()*;/-]{1,128}") {
            let classes = classes();
            for class in classes.all_classes() {
                let key = key_of(&class.form, &id);
                let room = classes.find_room(&key).expect("the form is known");
                prop_assert_eq!(room.to_string(), key.clone());
                prop_assert_eq!(&classes.class_of(&room).form, &class.form);
                prop_assert!(class.form.ids_of(&key).all(|(_, part)| part == id));
            }
        }

        #[test]
        fn a_room_is_only_what_some_form_matches(key in "[a-z:{}A-Z0-9_ .~|@%/-]{0,40}") {
            let classes = classes();
            let known = classes.all_classes().iter().any(|c| c.form.matches(&key));
            prop_assert_eq!(classes.find_room(&key).is_ok(), known);
        }
    }

    #[test]
    fn odd_keys_are_no_rooms() {
        let classes = classes();
        let long = format!("order:{}", "x".repeat(129));
        for key in [
            "",
            "order",
            "order:",
            "order:a:b",
            "Order:1",
            "order:{1}",
            "order:a b",
            "order:é",
            "orders:all",
            "user:1:",
            ":1",
            "order:1\n",
            "order:\"1\"",
            "order:a\\b",
            "order:a?",
            "order:[a]",
            "order|a:1",
            &long,
        ] {
            assert!(classes.find_room(key).is_err(), "{key:?}");
        }
    }

    #[test]
    fn a_form_with_more_words_wins() {
        let mut classes = classes();
        let retention = Retention { max_events: 7, ttl: Duration::from_secs(1) };
        classes.configure("orders:{id}", retention, |_| {}).expect("a form");
        let active = classes.find_room("orders:active").expect("a room");
        assert_eq!(classes.class_of(&active).form.to_string(), "orders:active");
        let other = classes.find_room("orders:x").expect("a room");
        assert_eq!(classes.class_of(&other).retention.max_events, 7);
    }

    #[test]
    fn of_as_many_words_the_form_with_a_word_further_to_the_left_wins_whatever_was_configured_first() {
        let retention = classes().all_classes()[0].retention;
        let mut forms = ["x:b:{d}", "x:{a}:c", "{e}:b:c"];
        for _ in 0..2 {
            let mut classes = classes();
            for form in forms {
                classes.configure(form, retention, |_| {}).expect("a form");
            }
            let of = |key: &str| classes.class_of(&classes.find_room(key).expect("a room")).form.to_string();
            assert_eq!(["x:b:c", "x:a:c", "y:b:c", "x:b:d"].map(of), ["x:b:{d}", "x:{a}:c", "{e}:b:c", "x:b:{d}"]);
            forms.reverse();
        }
    }

    #[test]
    fn a_class_that_keeps_nothing_makes_every_delivery_ephemeral() {
        let mut classes = classes();
        let none = Retention { max_events: 0, ttl: Duration::from_secs(1) };
        classes.configure("order:{id}", none, |c| c.retention = none).expect("a form");
        classes.configure("zone:{id}", none, |c| (c.retention, c.delivery) = (none, Delivery::Latest)).expect("a form");
        let delivery = |kind: &str, key: &str| {
            let kind = kind.parse().expect("a type");
            classes.delivery_of(&kind, &classes.find_room(key).expect("a room"))
        };
        assert_eq!(delivery("order.created", "order:1"), Delivery::Ephemeral);
        assert_eq!(delivery("agent.location_updated", "order:1"), Delivery::Ephemeral);
        assert_eq!(delivery("agent.location_updated", "agent:1"), Delivery::Latest);
        assert_eq!(delivery("weather", "zone:1"), Delivery::Latest);
        assert_eq!(delivery("weather", "user:1"), Delivery::Durable);
    }

    #[test]
    fn the_key_of_a_latest_event_is_its_type_and_what_its_payload_names() {
        let classes = classes();
        let key = |text: &str| classes.latest_key(&Draft::parse(text.as_bytes()).expect("an event"));
        let located = |payload: &str| key(&format!(r#"{{"type":"agent.location_updated","payload":{payload}}}"#));
        assert_eq!(located(r#"{"agentId":"a 1","location":{"agentId":"x"}}"#), "agent.location_updated a 1");
        assert_eq!(located(r#"{"agentId":17}"#), "agent.location_updated 17");
        assert_eq!(located(r#"{"agentId":12345678901234567890123}"#), "agent.location_updated 12345678901234567890123");
        assert_eq!(located(r#"{"beyond":1e400,"agentId":"a"}"#), "agent.location_updated a");
        for payload in [r#"{"agentId":null}"#, r#"{"agentId":["a"]}"#, "{}", "[]", "5", r#""agentId""#] {
            assert_eq!(located(payload), "agent.location_updated", "{payload}");
        }
        assert_eq!(key(r#"{"type":"weather","payload":{"agentId":"a"}}"#), "weather");
    }

    #[test]
    fn a_built_in_class_is_changed_by_shape() {
        let mut classes = classes();
        let retention = classes.all_classes()[0].retention;
        classes.configure("order:{whatever}", retention, |c| c.retention.max_events = 0).expect("a form");
        let room = classes.find_room("order:1").expect("a room");
        assert!(!classes.class_of(&room).has_history());
        assert_eq!(classes.all_classes().len(), 15);
    }
}
