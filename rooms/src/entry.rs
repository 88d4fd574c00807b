//! Entries: an event with its offset in each of its rooms, in the text form in which brokers store and publish it.
//!
//! `1 <id> <timestamp> <ack> <room> <offset> <prev> …` on one line, then the publisher's JSON, untouched. The text
//! never begins with `{`, so a plain `PUBLISH` cannot pass for a stored entry. A room that stores nothing has `-` for
//! both offsets. A room that keeps the last event of each key has the stamp, and `~` with the key's digest. A room
//! that had the id already has `=` for the second.

use std::fmt::Write as _;

use crate::class::Classes;
use crate::event::EventId;
use crate::key::Room;
use crate::limits::ROOMS_PER_EVENT;
use crate::offset::Offset;

/// The relation of an event to one of its rooms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomPlace {
    /// The room.
    pub room: Room,
    /// What the room keeps of the event.
    pub keep: Retained,
}

/// What a room keeps of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retained {
    /// Nothing: only current members get it.
    Nothing,
    /// The last event of its key, beside the history and not linked into its chain.
    Newest(Stamp),
    /// An entry of the history.
    Stored(ChainLink),
}

/// The position of a `latest` event among those of its key in one room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Digest of the key: the type and, for instance, an agent.
    pub key: u64,
    /// When it was kept. It only grows for one key.
    pub at: Offset,
}

/// A link of a room's chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainLink {
    /// The entry's own offset.
    pub offset: Offset,
    /// The room's last offset before it: a gap shows when it is unknown to the reader.
    pub prev: Offset,
}

/// An event as the broker has it: stamped, with the publisher's text untouched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Set by the publisher or generated.
    pub id: EventId,
    /// Milliseconds since the Unix epoch, never ahead of the broker's clock.
    pub timestamp: u64,
    /// Whether receivers are asked to acknowledge it.
    pub requires_ack: bool,
    /// The rooms in the publisher's order.
    pub places: Vec<RoomPlace>,
    /// Further rooms that it was published to and that had the same id already. It has been delivered there.
    pub earlier: Vec<(Room, Offset)>,
    /// The publisher's JSON.
    pub text: Vec<u8>,
}

/// A text is not an entry of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an entry of this version: {0}")]
pub struct InvalidEntry(&'static str);

impl AsRef<Self> for Entry {
    fn as_ref(&self) -> &Self {
        self
    }
}

impl Entry {
    /// The text that is stored and published.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut head = format!("1 {} {} {}", self.id, self.timestamp, u8::from(self.requires_ack));
        for place in &self.places {
            let written = match place.keep {
                Retained::Stored(link) => write!(head, " {} {} {}", place.room, link.offset, link.prev),
                Retained::Newest(stamp) => write!(head, " {} {} ~{:016x}", place.room, stamp.at, stamp.key),
                Retained::Nothing => write!(head, " {} - -", place.room),
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

    /// Parses the text of [`encode`](Self::encode) or of the Redis function. The event's own text is not parsed.
    ///
    /// # Errors
    /// When the first line has another form or names no known room. Unknown rooms beside known ones are left out.
    pub fn parse(bytes: &[u8], classes: &Classes) -> Result<Self, InvalidEntry> {
        let end = bytes.iter().position(|b| *b == b'\n').ok_or(InvalidEntry("no first line"))?;
        let head = std::str::from_utf8(&bytes[..end]).map_err(|_| InvalidEntry("the first line is no text"))?;
        let mut words = head.split(' ');
        // Nodes of a later version may write another form during a rollout; half of it must not be guessed.
        if words.next() != Some("1") {
            return Err(InvalidEntry("another version"));
        }
        let mut word = || words.next().ok_or(InvalidEntry("the first line is cut short"));
        let id = word()?.parse().map_err(|_| InvalidEntry("the id"))?;
        let timestamp = word()?.parse().map_err(|_| InvalidEntry("the timestamp"))?;
        let requires_ack = word()? == "1";
        let (places, earlier) = parse_places(words, classes)?;
        Ok(Self { id, timestamp, requires_ack, places, earlier, text: bytes[end + 1..].to_vec() })
    }

    /// Its link in `room`, if it is stored there.
    #[must_use]
    pub fn link_in(&self, room: &Room) -> Option<ChainLink> {
        self.places.iter().find(|p| p.room == *room).and_then(RoomPlace::link)
    }

    /// Its stamp in `room`, if it is the last of its key there.
    #[must_use]
    pub fn stamp_in(&self, room: &Room) -> Option<Stamp> {
        self.places.iter().find(|p| p.room == *room).and_then(RoomPlace::stamp)
    }
}

impl RoomPlace {
    /// Its link, if it is stored.
    #[must_use]
    pub fn link(&self) -> Option<ChainLink> {
        match self.keep {
            Retained::Stored(link) => Some(link),
            Retained::Newest(_) | Retained::Nothing => None,
        }
    }

    /// Its stamp, if the room keeps only the last event of the key.
    #[must_use]
    pub fn stamp(&self) -> Option<Stamp> {
        match self.keep {
            Retained::Newest(stamp) => Some(stamp),
            Retained::Stored(_) | Retained::Nothing => None,
        }
    }
}

type RoomPlaces = (Vec<RoomPlace>, Vec<(Room, Offset)>);

fn parse_places<'a>(mut words: impl Iterator<Item = &'a str>, classes: &Classes) -> Result<RoomPlaces, InvalidEntry> {
    let (mut places, mut earlier) = (Vec::new(), Vec::new());
    while let Some(key) = words.next() {
        let (Some(offset), Some(prev)) = (words.next(), words.next()) else {
            return Err(InvalidEntry("a room without its offsets"));
        };
        // During a rollout another node may know this class: it has no members here, and the other rooms do.
        let Ok(room) = classes.find_room(key) else { continue };
        if prev == "=" {
            earlier.push((room, offset.parse().map_err(|_| InvalidEntry("an offset"))?));
        } else {
            places.push(RoomPlace { room, keep: parse_keep(offset, prev)? });
        }
    }
    if places.len() + earlier.len() > ROOMS_PER_EVENT {
        return Err(InvalidEntry("too many rooms"));
    }
    // An entry whose only known rooms had it before has nothing to deliver.
    if places.is_empty() { Err(InvalidEntry("no known room")) } else { Ok((places, earlier)) }
}

fn parse_keep(offset: &str, prev: &str) -> Result<Retained, InvalidEntry> {
    if offset == "-" {
        return Ok(Retained::Nothing);
    }
    let parse = |text: &str| text.parse::<Offset>().map_err(|_| InvalidEntry("an offset"));
    let offset = parse(offset)?;
    if let Some(digest) = prev.strip_prefix('~') {
        let key = u64::from_str_radix(digest, 16).map_err(|_| InvalidEntry("a key's digest"))?;
        return Ok(Retained::Newest(Stamp { key, at: offset }));
    }
    Ok(Retained::Stored(ChainLink { offset, prev: parse(prev)? }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::class::Retention;
    use proptest::prelude::*;
    use std::time::Duration;

    fn classes() -> Classes {
        let retention = Retention { max_events: 9, ttl: Duration::from_secs(9) };
        let mut classes = Classes::built_in(retention, Duration::from_secs(99));
        // Of which also `-`, `=` and `~0` are rooms.
        classes.configure("{any}", retention, |_| {}).expect("a form");
        classes
    }

    fn arbitrary_keep() -> impl Strategy<Value = Retained> {
        let at = |(ms, n)| Offset { ms, n };
        prop_oneof![
            Just(Retained::Nothing),
            any::<(u64, u64, u64)>().prop_map(move |(ms, n, key)| Retained::Newest(Stamp { key, at: at((ms, n)) })),
            any::<(u64, u64, u64)>().prop_map(move |(ms, n, p)| Retained::Stored(ChainLink {
                offset: at((ms, n)),
                prev: Offset::first_of_ms(p)
            })),
        ]
    }

    fn arbitrary_place() -> impl Strategy<Value = (String, Retained)> {
        ("((order|user|store):)?([~=*-]|[a-zA-Z0-9_.~|@+=%,!$&'()*;/-]{1,12})", arbitrary_keep())
    }

    proptest! {
        #[test]
        fn an_entry_comes_back_as_it_was_written(
            id in "[A-Za-z0-9_.:-]{1,128}", timestamp: u64, requires_ack: bool,
            places in proptest::collection::vec(arbitrary_place(), 1..5), earlier: Option<u64>, text: Vec<u8>,
        ) {
            let classes = classes();
            let place = |(key, keep): (String, Retained)| RoomPlace { room: classes.find_room(&key).expect("a room"), keep };
            let places = places.into_iter().map(place).collect();
            let earlier = earlier.map(|ms| (classes.find_room("zone:z").expect("a room"), Offset::first_of_ms(ms))).into_iter().collect();
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
