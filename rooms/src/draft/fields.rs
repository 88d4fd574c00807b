//! The fields of an event's JSON object. Each name may be there once; unknown names are ignored.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::de::{Error, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::Meta;
use crate::event::Priority;

/// The error for a repeated name. It does not quote the name, which may be anything.
const DOUBLED: &str = "duplicate field: one of the event's own is given twice";

/// The fields of an event. `null` counts as absent, except in `payload`.
#[derive(Debug)]
pub(super) struct DraftFields<'a> {
    pub(super) id: Option<Cow<'a, str>>,
    pub(super) kind: Cow<'a, str>,
    pub(super) priority: Option<Priority>,
    pub(super) timestamp: Option<&'a RawValue>,
    pub(super) payload: &'a RawValue,
    pub(super) meta: Option<Meta<'a>>,
}

/// A string, borrowed unless it contains escapes.
#[derive(Deserialize)]
pub(super) struct MaybeOwned<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for DraftFields<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(FieldVisitor)
    }
}

struct FieldVisitor;

impl<'de> Visitor<'de> for FieldVisitor {
    type Value = DraftFields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<DraftFields<'de>, A::Error> {
        let (mut id, mut kind, mut priority) = (None, None, None);
        let (mut timestamp, mut payload, mut meta) = (None, None, None);
        let mut names = HashSet::new();
        while let Some(MaybeOwned(name)) = map.next_key()? {
            match name.as_ref() {
                "id" => id = map.next_value::<Option<MaybeOwned<'de>>>()?.map(|text| text.0),
                "type" => kind = Some(map.next_value::<MaybeOwned<'de>>()?.0),
                "priority" => priority = map.next_value()?,
                "timestamp" => timestamp = map.next_value()?,
                "payload" => payload = Some(map.next_value()?),
                "meta" => meta = map.next_value()?,
                // Clients are sent the fields above alone.
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
            // JSON readers disagree about which of two values counts.
            if !names.insert(name) {
                return Err(A::Error::custom(DOUBLED));
            }
        }
        let kind = kind.ok_or_else(|| A::Error::missing_field("type"))?;
        let payload = payload.ok_or_else(|| A::Error::missing_field("payload"))?;
        Ok(DraftFields { id, kind, priority, timestamp, payload, meta })
    }
}
