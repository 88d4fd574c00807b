//! Room keys: validated names like `order:ord_123`, which no other code needs to check again.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use crate::form::ID_SIGNS;

/// The index of a room's class in its [`Classes`](crate::class::Classes).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClassId(pub(crate) u16);

impl ClassId {
    /// The class's index in [`Classes::all_classes`](crate::class::Classes::all_classes).
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A room's key with its class. Only [`Classes::find_room`](crate::class::Classes::find_room) makes one, so it is always valid.
/// Cheap to clone; compared, ordered and hashed by its key.
#[derive(Clone)]
pub struct Room {
    /// Shared: one allocation however many memberships and messages name the room.
    key: Arc<str>,
    /// Found once, so that no later step matches forms.
    class: ClassId,
}

/// A key has no known form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no room key: no room class has this form, with ids of letters, digits and {ID_SIGNS}")]
pub struct InvalidRoom(pub(crate) String);

impl Room {
    pub(crate) fn new(key: &str, class: ClassId) -> Self {
        Self { key: key.into(), class }
    }

    /// The key as text, without prefix or braces.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The room's class.
    #[must_use]
    pub fn class(&self) -> ClassId {
        self.class
    }
}

impl InvalidRoom {
    /// The refused key, cut to 64 characters for a message.
    pub(crate) fn for_key(key: &str) -> Self {
        Self(key.chars().take(64).collect())
    }
}

impl fmt::Display for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key)
    }
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Room({})", self.key)
    }
}

impl PartialEq for Room {
    fn eq(&self, other: &Self) -> bool {
        // The class follows from the key.
        self.key == other.key
    }
}

impl Eq for Room {}

impl PartialOrd for Room {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Room {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key.cmp(&other.key)
    }
}

impl std::hash::Hash for Room {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.key.hash(state);
    }
}

impl Borrow<str> for Room {
    fn borrow(&self) -> &str {
        &self.key
    }
}
