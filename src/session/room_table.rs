//! The rooms of a session, with its place in each. A node has many sessions, and most are in a few rooms: so it is a list in the
//! order of the keys, which is as long as it needs to be, and not a hash table, which is four times that.

use hallway_rooms::key::Room;

use super::JoinedMembership;

/// Rooms with the session's place in each. A search is of as many steps as the number of rooms has bits.
#[derive(Debug, Default)]
pub struct RoomTable(Vec<(Room, JoinedMembership)>);

impl RoomTable {
    /// How many rooms there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no room.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The rooms, in the order of their keys.
    pub fn keys(&self) -> impl Iterator<Item = &Room> {
        self.0.iter().map(|(room, _)| room)
    }

    /// The place in a room.
    #[must_use]
    pub fn get(&self, room: &Room) -> Option<&JoinedMembership> {
        self.find(room).ok().map(|at| &self.0[at].1)
    }

    pub(super) fn get_mut(&mut self, room: &Room) -> Option<&mut JoinedMembership> {
        self.find(room).ok().map(|at| &mut self.0[at].1)
    }

    /// Adds or replaces the place in a room. Gives the one before.
    pub(super) fn insert(&mut self, room: &Room, joined: JoinedMembership) -> Option<JoinedMembership> {
        match self.find(room) {
            Ok(at) => Some(std::mem::replace(&mut self.0[at].1, joined)),
            Err(at) => {
                self.make_place();
                self.0.insert(at, (room.clone(), joined));
                None
            }
        }
    }

    pub(super) fn remove(&mut self, room: &Room) -> Option<JoinedMembership> {
        let gone = self.find(room).ok().map(|at| self.0.remove(at).1);
        // A session that has left all its rooms keeps no memory for them.
        if self.0.is_empty() {
            self.0 = Vec::new();
        }
        gone
    }

    /// Grows by a half, and from one: a vector would begin with four places.
    fn make_place(&mut self) {
        if self.0.len() == self.0.capacity() {
            self.0.reserve_exact(self.0.len() / 2 + 1);
        }
    }

    fn find(&self, room: &Room) -> Result<usize, usize> {
        self.0.binary_search_by(|(other, _)| other.cmp(room))
    }
}

impl IntoIterator for RoomTable {
    type Item = (Room, JoinedMembership);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use hallway_rooms::class::{Classes, Retention};
    use hallway_rooms::offset::Offset;
    use proptest::prelude::*;

    use super::*;
    use crate::session::Membership;

    fn joined(slot: usize) -> JoinedMembership {
        JoinedMembership { membership: Membership::receiving_from(Offset::default()), slot }
    }

    proptest! {
        #[test]
        fn it_holds_what_a_map_holds(steps in prop::collection::vec((any::<bool>(), 0_usize..30), 0..200)) {
            let retention = Retention { max_events: 9, ttl: Duration::from_secs(9) };
            let classes = Classes::built_in(retention, Duration::from_secs(99));
            let (mut table, mut map) = (RoomTable::default(), BTreeMap::new());
            for (at, (adds, room)) in steps.into_iter().enumerate() {
                let room = classes.find_room(&format!("zone:z{room}")).expect("a room");
                let slot = |joined: Option<JoinedMembership>| joined.map(|joined| joined.slot);
                if adds {
                    prop_assert_eq!(slot(table.insert(&room, joined(at))), map.insert(room, at));
                } else {
                    prop_assert_eq!(slot(table.remove(&room)), map.remove(&room));
                }
                prop_assert!(table.keys().eq(map.keys()) && table.len() == map.len());
                prop_assert!(map.iter().all(|(room, slot)| table.get(room).is_some_and(|joined| joined.slot == *slot)));
            }
        }
    }
}
