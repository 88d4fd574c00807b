//! Some claims out of their JSON, the others passed over: a condition names few of them, and to make values of all would cost more
//! than to judge it.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};

/// Reads the members whose names are `wanted`; none of a text that is no object.
pub(super) fn select_members(json: &str, wanted: &impl Fn(&str) -> bool) -> Map<String, Value> {
    serde_json::Deserializer::from_str(json).deserialize_map(WantedMembers(wanted)).unwrap_or_default()
}

struct WantedMembers<'w, F>(&'w F);

impl<'de, F: Fn(&str) -> bool> Visitor<'de> for WantedMembers<'_, F> {
    type Value = Map<String, Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut selected = Map::new();
        while let Some(name) = members.next_key_seed(WantedName(self.0))? {
            match name {
                Some(name) => drop(selected.insert(name, members.next_value()?)),
                None => drop(members.next_value::<IgnoredAny>()?),
            }
        }
        Ok(selected)
    }
}

/// Gives a name that is wanted, and makes no string of any other.
struct WantedName<'w, F>(&'w F);

impl<'de, F: Fn(&str) -> bool> DeserializeSeed<'de> for WantedName<'_, F> {
    type Value = Option<String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<F: Fn(&str) -> bool> Visitor<'_> for WantedName<'_, F> {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok((self.0)(name).then(|| name.to_owned()))
    }
}
