//! Room classes: what all rooms of one form share, and the table that every key is looked up in.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::event::EventType;
use crate::form::{BUILT_IN, Form, InvalidForm};
use crate::key::{ClassId, InvalidRoom, Room};
use crate::limits::ROOM_KEY_BYTES;

/// How events of a class or a type are delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Delivery {
    /// Kept in the room's history and never skipped.
    Durable,
    /// Only the newest per key matters.
    Latest,
    /// Live only; may be dropped under backpressure, and is counted when it is.
    Ephemeral,
}

/// How much of its past a room keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Newest events kept; 0 turns the history off.
    pub max_events: u64,
    /// The whole stream expires this long after its last entry.
    pub ttl: Duration,
}

/// What all rooms of one form share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Class {
    /// The form of the keys.
    pub form: Form,
    /// How much history its rooms keep.
    pub retention: Retention,
    /// How its events are delivered when their type does not say otherwise.
    pub delivery: Delivery,
}

impl Class {
    /// Whether rooms of this class have a history at all.
    #[must_use]
    pub fn has_history(&self) -> bool {
        self.retention.max_events > 0 && self.delivery == Delivery::Durable
    }
}

/// Every class there is, and the types that say their own delivery.
#[derive(Clone, Debug)]
pub struct Classes {
    classes: Vec<Class>,
    types: BTreeMap<String, Delivery>,
    /// How long a room's last offset is kept: at least every `ttl`.
    memory: Duration,
}

impl Classes {
    /// The fifteen built-in classes, all durable, each with `retention`.
    ///
    /// # Panics
    /// Never: the built-in forms are tried by a test.
    #[must_use]
    pub fn built_in(retention: Retention, memory: Duration) -> Self {
        let class = |text: &&str| Class {
            form: text.parse().expect("a built-in form parses"),
            retention,
            delivery: Delivery::Durable,
        };
        let types = BTreeMap::from([("agent.location_updated".to_owned(), Delivery::Latest)]);
        let mut all = Self { classes: BUILT_IN.iter().map(class).collect(), types, memory };
        all.memory = all.memory.max(retention.ttl);
        all
    }

    /// Changes the class of that shape, or adds one of `retention`; `change` sees it before it counts.
    ///
    /// # Errors
    /// When `form` is no form.
    pub fn configure(
        &mut self,
        form: &str,
        retention: Retention,
        change: impl FnOnce(&mut Class),
    ) -> Result<(), InvalidForm> {
        let form: Form = form.parse()?;
        let at = match self.classes.iter().position(|c| c.form.same_shape(&form)) {
            Some(at) => at,
            None => {
                self.classes.push(Class { form, retention, delivery: Delivery::Durable });
                self.classes.len() - 1
            }
        };
        change(&mut self.classes[at]);
        self.memory = self.memory.max(self.classes[at].retention.ttl);
        Ok(())
    }

    /// Lets a type decide its own delivery, whatever the room.
    pub fn configure_type(&mut self, name: &str, delivery: Delivery) {
        self.types.insert(name.to_owned(), delivery);
    }

    /// Checks a key and finds its class. Of several forms that match, the one with the most words wins.
    ///
    /// # Errors
    /// When the key is over-long or has no known form.
    pub fn room(&self, key: &str) -> Result<Room, InvalidRoom> {
        if key.len() > ROOM_KEY_BYTES {
            return Err(InvalidRoom::of(key));
        }
        let found = self.classes.iter().enumerate().filter(|(_, c)| c.form.matches(key));
        let (at, _) = found.max_by_key(|(_, c)| c.form.words()).ok_or_else(|| InvalidRoom::of(key))?;
        let id = u16::try_from(at).map_err(|_| InvalidRoom::of(key))?;
        Ok(Room::new(key, ClassId(id)))
    }

    /// The class of a room.
    #[must_use]
    pub fn of(&self, room: &Room) -> &Class {
        &self.classes[usize::from(room.class().0)]
    }

    /// How an event of `kind` is delivered in `room`.
    #[must_use]
    pub fn delivery(&self, kind: &EventType, room: &Room) -> Delivery {
        let class = self.of(room);
        let wanted = self.types.get(kind.as_str()).copied().unwrap_or(class.delivery);
        if wanted == Delivery::Durable && class.retention.max_events == 0 { Delivery::Ephemeral } else { wanted }
    }

    /// Every class, built-in ones first.
    #[must_use]
    pub fn all(&self) -> &[Class] {
        &self.classes
    }

    /// The types that say their own delivery.
    pub fn types(&self) -> impl Iterator<Item = (&str, Delivery)> {
        self.types.iter().map(|(name, delivery)| (name.as_str(), *delivery))
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
        fn every_built_in_form_parses_prints_and_names_its_ids(id in "[A-Za-z0-9_.~-]{1,128}") {
            let classes = classes();
            for class in classes.all() {
                let key = key_of(&class.form, &id);
                let room = classes.room(&key).expect("the form is known");
                prop_assert_eq!(room.to_string(), key.clone());
                prop_assert_eq!(&classes.of(&room).form, &class.form);
                prop_assert!(class.form.parts(&key).all(|(_, part)| part == id));
            }
        }

        #[test]
        fn a_room_is_only_what_some_form_matches(key in "[a-z:{}A-Z0-9_ .~-]{0,40}") {
            let classes = classes();
            let known = classes.all().iter().any(|c| c.form.matches(&key));
            prop_assert_eq!(classes.room(&key).is_ok(), known);
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
            &long,
        ] {
            assert!(classes.room(key).is_err(), "{key:?}");
        }
    }

    #[test]
    fn a_form_with_more_words_wins() {
        let mut classes = classes();
        let retention = Retention { max_events: 7, ttl: Duration::from_secs(1) };
        classes.configure("orders:{id}", retention, |_| {}).expect("a form");
        let active = classes.room("orders:active").expect("a room");
        assert_eq!(classes.of(&active).form.to_string(), "orders:active");
        let other = classes.room("orders:x").expect("a room");
        assert_eq!(classes.of(&other).retention.max_events, 7);
    }

    #[test]
    fn a_built_in_class_is_changed_by_shape() {
        let mut classes = classes();
        let retention = classes.all()[0].retention;
        classes.configure("order:{whatever}", retention, |c| c.retention.max_events = 0).expect("a form");
        let room = classes.room("order:1").expect("a room");
        assert!(!classes.of(&room).has_history());
        assert_eq!(classes.all().len(), 15);
    }
}
