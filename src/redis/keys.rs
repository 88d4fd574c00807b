//! The names of keys and channels in Redis (design: "Redis contract"). The room is the hash tag, so that all keys of
//! a room are in one slot of a cluster.

use aws_lc_rs::digest::{SHA256, digest};
use hallway_rooms::key::Room;

/// Key names with one prefix.
#[derive(Clone, Debug)]
pub(crate) struct RedisKeys {
    prefix: String,
}

impl RedisKeys {
    pub(crate) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// A room's channel, which is also its short key for the function.
    pub(crate) fn channel(&self, room: &Room) -> String {
        format!("{}:{{{room}}}", self.prefix)
    }

    pub(crate) fn history(&self, room: &Room) -> String {
        format!("{}:{{{room}}}:history", self.prefix)
    }

    pub(crate) fn last(&self, room: &Room) -> String {
        format!("{}:{{{room}}}:last", self.prefix)
    }

    pub(crate) fn latest(&self, room: &Room) -> String {
        format!("{}:{{{room}}}:latest", self.prefix)
    }

    /// The time at which the data began.
    pub(crate) fn birth(&self) -> String {
        format!("{}:birth", self.prefix)
    }

    /// How long last offsets are kept, and since when at least that long.
    pub(crate) fn memory(&self) -> String {
        format!("{}:memory", self.prefix)
    }

    /// The highest time seen, and the last interval by which the clock was set back.
    pub(crate) fn clock(&self) -> String {
        format!("{}:clock", self.prefix)
    }

    /// The nodes, each with its heartbeat counter.
    pub(crate) fn nodes(&self) -> String {
        format!("{}:nodes", self.prefix)
    }

    /// Members of a room per node.
    pub(crate) fn members(&self, room: &Room) -> String {
        format!("{}:{{{room}}}:members", self.prefix)
    }

    /// The revocations by their end, and the list's revision.
    pub(crate) fn revoked(&self) -> String {
        format!("{}:revoked", self.prefix)
    }

    /// The channel for revocations and kicks.
    pub(crate) fn control(&self) -> String {
        format!("{}:control", self.prefix)
    }

    /// Sockets of a user per node. User names are free text, so the key has their digest.
    pub(crate) fn sockets(&self, user: &str) -> String {
        let digest = digest(&SHA256, user.as_bytes());
        let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{}:user:{{{hex}}}:sockets", self.prefix)
    }

    /// A node's own channel, for canaries and replies to kicks.
    pub(crate) fn node_channel(&self, node: &str) -> String {
        format!("{}:canary:{node}", self.prefix)
    }

    /// Keys like a room's history, last offset, latest events and members, but of no room: for the check of rights.
    pub(crate) fn trial_keys(&self) -> [String; 4] {
        ["history", "last", "latest", "members"].map(|what| format!("{}:{{canary}}:{what}", self.prefix))
    }

    /// A channel of no room, for the same check.
    pub(crate) fn trial_channel(&self) -> String {
        format!("{}:{{canary}}", self.prefix)
    }

    /// The room of a live channel.
    pub(crate) fn room_of<'a>(&self, channel: &'a str) -> Option<&'a str> {
        channel.strip_prefix(&self.prefix)?.strip_prefix(":{")?.strip_suffix('}')
    }
}
