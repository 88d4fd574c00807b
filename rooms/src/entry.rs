//! Entries: an event with its place in each of its rooms, and the text in which brokers store and pass it on.
//!
//! `1 <id> <timestamp> <ack> <room> <offset> <prev> …` on one line, then the publisher's JSON, untouched. It never
//! begins with `{`, so that no plain `PUBLISH` can pass for a stored entry. A room that stores nothing has `-` for both
//! offsets; one where the id stood already has `=` for the second.

use std::fmt::Write as _;

use crate::class::Classes;
use crate::event::EventId;
use crate::key::Room;
use crate::limits::ROOMS_PER_EVENT;
use crate::offset::Offset;

/// An event's place in the history of one room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The room.
    pub room: Room,
    /// Where it is stored, with the offset that came before it; none where the room keeps nothing of it.
    pub link: Option<Link>,
}

/// A link of a room's chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// The entry's own offset.
    pub offset: Offset,
    /// The room's last offset before it.
    pub prev: Offset,
}

/// An event as the broker has it: stamped once, its publisher's text untouched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Given by the publisher or the broker.
    pub id: EventId,
    /// Milliseconds since the Unix epoch, never ahead of the broker's clock.
    pub timestamp: u64,
    /// Whether its receivers are asked to acknowledge it.
    pub requires_ack: bool,
    /// Its rooms, in the publisher's order.
    pub places: Vec<Place>,
    /// Further rooms that it was published to, where the same id stood already: there it has been delivered.
    pub earlier: Vec<(Room, Offset)>,
    /// The publisher's JSON.
    pub text: Vec<u8>,
}

/// A text is no entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an entry of this version: {0}")]
pub struct InvalidEntry(&'static str);

impl Entry {
    /// The text that is stored and passed on.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut head = format!("1 {} {} {}", self.id, self.timestamp, u8::from(self.requires_ack));
        for place in &self.places {
            let written = match place.link {
                Some(link) => write!(head, " {} {} {}", place.room, link.offset, link.prev),
                None => write!(head, " {} - -", place.room),
            };
            debug_assert!(written.is_ok(), "writing to a string cannot fail");
        }
        for (room, offset) in &self.earlier {
            let written = write!(head, " {room} {offset} =");
            debug_assert!(written.is_ok(), "writing to a string cannot fail");
        }
        head.push('\n');
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(&self.text);
        bytes
    }

    /// Reads what [`encode`](Self::encode) or the Redis function wrote. The event's own text is not looked into.
    ///
    /// # Errors
    /// When the first line is not of this form or names no known room.
    pub fn parse(bytes: &[u8], classes: &Classes) -> Result<Self, InvalidEntry> {
        let end = bytes.iter().position(|b| *b == b'\n').ok_or(InvalidEntry("no first line"))?;
        let head = std::str::from_utf8(&bytes[..end]).map_err(|_| InvalidEntry("the first line is no text"))?;
        let mut words = head.split(' ');
        if words.next() != Some("1") {
            return Err(InvalidEntry("another version"));
        }
        let mut word = || words.next().ok_or(InvalidEntry("the first line is cut short"));
        let id = word()?.parse().map_err(|_| InvalidEntry("the id"))?;
        let timestamp = word()?.parse().map_err(|_| InvalidEntry("the timestamp"))?;
        let requires_ack = word()? == "1";
        let (places, earlier) = places(words, classes)?;
        Ok(Self { id, timestamp, requires_ack, places, earlier, text: bytes[end + 1..].to_vec() })
    }

    /// Its link in `room`, if it is stored there.
    #[must_use]
    pub fn link(&self, room: &Room) -> Option<Link> {
        self.places.iter().find(|p| p.room == *room).and_then(|p| p.link)
    }
}

type Places = (Vec<Place>, Vec<(Room, Offset)>);

fn places<'a>(mut words: impl Iterator<Item = &'a str>, classes: &Classes) -> Result<Places, InvalidEntry> {
    let (mut places, mut earlier) = (Vec::new(), Vec::new());
    while let Some(key) = words.next() {
        let (Some(offset), Some(prev)) = (words.next(), words.next()) else {
            return Err(InvalidEntry("a room without its offsets"));
        };
        let room = classes.room(key).map_err(|_| InvalidEntry("an unknown room"))?;
        if prev == "=" {
            earlier.push((room, offset.parse().map_err(|_| InvalidEntry("an offset"))?));
        } else {
            places.push(Place { room, link: link(offset, prev)? });
        }
    }
    if places.len() + earlier.len() > ROOMS_PER_EVENT {
        return Err(InvalidEntry("too many rooms"));
    }
    if places.is_empty() { Err(InvalidEntry("no room")) } else { Ok((places, earlier)) }
}

fn link(offset: &str, prev: &str) -> Result<Option<Link>, InvalidEntry> {
    if offset == "-" {
        return Ok(None);
    }
    let parse = |text: &str| text.parse::<Offset>().map_err(|_| InvalidEntry("an offset"));
    Ok(Some(Link { offset: parse(offset)?, prev: parse(prev)? }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::class::Retention;
    use proptest::prelude::*;
    use std::time::Duration;

    fn classes() -> Classes {
        Classes::built_in(Retention { max_events: 9, ttl: Duration::from_secs(9) }, Duration::from_secs(99))
    }

    fn arbitrary_place() -> impl Strategy<Value = (String, Option<(u64, u64, u64)>)> {
        ("(order|user|store):[a-zA-Z0-9_.~-]{1,12}", proptest::option::of(any::<(u64, u64, u64)>()))
    }

    proptest! {
        #[test]
        fn an_entry_comes_back_as_it_was_written(
            id in "[A-Za-z0-9_.:-]{1,128}", timestamp: u64, requires_ack: bool,
            places in proptest::collection::vec(arbitrary_place(), 1..5), earlier: Option<u64>, text: Vec<u8>,
        ) {
            let classes = classes();
            let place = |(key, link): (String, Option<(u64, u64, u64)>)| Place {
                room: classes.room(&key).expect("a room"),
                link: link.map(|(ms, n, p)| Link { offset: Offset { ms, n }, prev: Offset::at(p) }),
            };
            let places = places.into_iter().map(place).collect();
            let earlier = earlier.map(|ms| (classes.room("zone:z").expect("a room"), Offset::at(ms))).into_iter().collect();
            let entry = Entry { id: id.parse().expect("an id"), timestamp, requires_ack, places, earlier, text };
            prop_assert_eq!(Entry::parse(&entry.encode(), &classes), Ok(entry));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = Entry::parse(&bytes, &classes());
        }
    }

    #[test]
    fn a_plain_event_is_no_entry() {
        assert!(Entry::parse(b"{\"type\":\"x\",\"payload\":1}\n", &classes()).is_err());
    }
}
