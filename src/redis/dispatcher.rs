//! The dispatcher: passes each pub/sub message to the handler of its channel. The table is complete before the first
//! message and never changes, so a lookup takes no lock.
//!
//! Nearly all messages are events on room channels, of which a node may have a hundred thousand. These are recognized
//! by their form and never looked up.

use std::collections::HashMap;
use std::fmt;

use super::SharedRedis;
use super::complaints::Complaints;
use super::keys::RedisKeys;
use crate::logs;

/// Handles a message of a channel. False when the message is not for this handler.
type Handler = Box<dyn Fn(&str) -> bool + Send + Sync>;
/// Handles a message of a room's channel: the room's key, and the message.
type RoomHandler = Box<dyn Fn(&str, &[u8]) + Send + Sync>;
/// Called when the subscriptions have been renewed.
type RestoredHook = Box<dyn Fn() + Send + Sync>;

/// The table of handlers.
pub struct Dispatcher {
    keys: RedisKeys,
    rooms: RoomHandler,
    /// Several handlers may share a channel: the first one that accepts a message gets it.
    channels: HashMap<String, Vec<Handler>>,
    /// Called after each reconnect, since messages may have been lost before it.
    restored: Vec<RestoredHook>,
    complaints: Complaints,
}

impl fmt::Debug for Dispatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dispatcher({:?})", self.channels.keys())
    }
}

impl Dispatcher {
    /// A table without handlers.
    #[must_use]
    pub fn new(redis: &SharedRedis) -> Self {
        Self::of(redis.keys.clone())
    }

    fn of(keys: RedisKeys) -> Self {
        Self {
            keys,
            rooms: Box::new(|_, _| {}),
            channels: HashMap::new(),
            restored: Vec::new(),
            complaints: Complaints::default(),
        }
    }

    /// Adds a handler for a channel, behind its other ones.
    pub(crate) fn on_channel(&mut self, channel: &str, handler: impl Fn(&str) -> bool + Send + Sync + 'static) {
        self.channels.entry(channel.to_owned()).or_default().push(Box::new(handler));
    }

    /// Sets the handler for all room channels.
    pub(crate) fn on_rooms(&mut self, handler: impl Fn(&str, &[u8]) + Send + Sync + 'static) {
        self.rooms = Box::new(handler);
    }

    /// Adds a hook for renewed subscriptions: messages may have been lost before.
    pub(crate) fn on_restored(&mut self, hook: impl Fn() + Send + Sync + 'static) {
        self.restored.push(Box::new(hook));
    }

    /// The channels with handlers, those of rooms not included.
    pub(crate) fn channels(&self) -> Vec<String> {
        self.channels.keys().cloned().collect()
    }

    /// Calls the hooks: all channels are subscribed to on a new connection.
    pub(crate) fn run_restored(&self) {
        self.restored.iter().for_each(|hook| hook());
    }

    /// Passes a message on.
    pub(crate) fn dispatch_message(&self, channel: &str, payload: &[u8]) {
        match self.keys.room_of(channel) {
            Some(room) => (self.rooms)(room, payload),
            None => self.dispatch_to_node(channel, payload),
        }
    }

    fn dispatch_to_node(&self, channel: &str, payload: &[u8]) {
        // Messages of nodes are text. Other bytes come from elsewhere, and no handler takes an empty message.
        let text = std::str::from_utf8(payload).unwrap_or_default();
        let handlers = self.channels.get(channel).map(Vec::as_slice).unwrap_or_default();
        if !handlers.iter().any(|handler| handler(text)) && self.complaints.may_complain() {
            tracing::warn!(
                event = logs::ORDER_STRANGE,
                channel,
                "what came on this channel is of no node of this version, or too much of it"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    #[test]
    fn a_message_goes_to_its_room_or_to_the_first_handler_of_its_channel_that_takes_it() {
        let (seen, mut dispatcher) = (Arc::new(Mutex::new(Vec::new())), Dispatcher::of(RedisKeys::new("own")));
        let note = |what: &str| seen.lock().push(what.to_owned());
        let handler = |name: &'static str, takes: &'static str| {
            let seen = seen.clone();
            move |text: &str| {
                seen.lock().push(format!("{name} {text}"));
                text.starts_with(takes)
            }
        };
        dispatcher.on_channel("own:control", handler("first", "r"));
        dispatcher.on_channel("own:control", handler("second", "k"));
        dispatcher.on_channel("own:canary:me", handler("canary", "1"));
        let rooms = seen.clone();
        dispatcher.on_rooms(move |room, payload| rooms.lock().push(format!("room {room} {}", payload.len())));
        let hooked = seen.clone();
        dispatcher.on_restored(move || hooked.lock().push("restored".to_owned()));

        for (channel, payload) in [
            ("own:control", "r1"),
            ("own:control", "k1"),
            ("own:control", "x1"),
            ("own:canary:me", "1"),
            ("own:{user:1}", "12345"),
            ("other:{user:1}", "1"),
            ("own:canary:you", "1"),
        ] {
            dispatcher.dispatch_message(channel, payload.as_bytes());
            note("-");
        }
        dispatcher.run_restored();
        let expected = "first r1|-|first k1|second k1|-|first x1|second x1|-|canary 1|-|room user:1 5|-|-|-|restored";
        assert_eq!(seen.lock().join("|"), expected);
        let mut channels = dispatcher.channels();
        channels.sort_unstable();
        assert_eq!(channels, ["own:canary:me", "own:control"]);
    }
}
