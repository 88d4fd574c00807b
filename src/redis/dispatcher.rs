//! The dispatcher: passes each pub/sub message to the handler of its channel. The table is complete before the first
//! message and never changes, so a lookup takes no lock.
//!
//! Nearly all messages are events on room channels, of which a node may have a hundred thousand. These are recognized
//! by their form and never looked up.

use std::collections::HashMap;
use std::fmt;

use super::Redis;
use super::complaints::Complaints;
use super::keys::Keys;
use crate::logs;

/// Handles a message of a channel. False when the message is not for this handler.
type Handler = Box<dyn Fn(&str) -> bool + Send + Sync>;
/// Handles a message of a room's channel: the room's key, and the message.
type RoomHandler = Box<dyn Fn(&str, &[u8]) + Send + Sync>;
/// Called when the subscriptions have been renewed.
type Hook = Box<dyn Fn() + Send + Sync>;

/// The table of handlers.
pub struct Dispatcher {
    keys: Keys,
    rooms: RoomHandler,
    /// Several handlers may share a channel: the first one that accepts a message gets it.
    channels: HashMap<String, Vec<Handler>>,
    /// Called after each reconnect, since messages may have been lost before it.
    restored: Vec<Hook>,
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
    pub fn new(redis: &Redis) -> Self {
        Self {
            keys: redis.keys.clone(),
            rooms: Box::new(|_, _| {}),
            channels: HashMap::new(),
            restored: Vec::new(),
            complaints: Complaints::default(),
        }
    }

    /// Adds a handler for a channel, behind its other ones.
    pub(crate) fn on(&mut self, channel: &str, handler: impl Fn(&str) -> bool + Send + Sync + 'static) {
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

    /// The channels with handlers, without those of rooms.
    pub(crate) fn channels(&self) -> Vec<String> {
        self.channels.keys().cloned().collect()
    }

    /// Calls the hooks, once all channels are subscribed on another connection.
    pub(crate) fn restored(&self) {
        self.restored.iter().for_each(|hook| hook());
    }

    /// Passes a message on.
    pub(crate) fn dispatch(&self, channel: &str, payload: &[u8]) {
        match self.keys.room_of(channel) {
            Some(room) => (self.rooms)(room, payload),
            None => self.dispatch_to_node(channel, payload),
        }
    }

    fn dispatch_to_node(&self, channel: &str, payload: &[u8]) {
        // Nodes send text only. Anything else comes from no node, and no handler accepts an empty message.
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
