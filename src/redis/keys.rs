//! The names of things in Redis (design: "Redis contract"). The room is the hash tag, so that everything of a room
//! lies in one slot of a cluster.

use aws_lc_rs::digest::{SHA256, digest};
use hallway_rooms::key::Room;

/// Key names under one prefix.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    prefix: String,
}

impl Keys {
    pub(crate) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The live channel of a room; also its short key for the function.
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

    /// When the data began.
    pub(crate) fn birth(&self) -> String {
        format!("{}:birth", self.prefix)
    }

    /// How long last offsets are remembered, and since when at least so long.
    pub(crate) fn memory(&self) -> String {
        format!("{}:memory", self.prefix)
    }

    /// The highest time seen, and when it was set back.
    pub(crate) fn clock(&self) -> String {
        format!("{}:clock", self.prefix)
    }

    /// The nodes, each with a counter that it bumps.
    pub(crate) fn nodes(&self) -> String {
        format!("{}:nodes", self.prefix)
    }

    /// How many members of a room each node has.
    pub(crate) fn members(&self, room: &Room) -> String {
        format!("{}:{{{room}}}:members", self.prefix)
    }

    /// Every revocation, by its end, and the revision of the list.
    pub(crate) fn revoked(&self) -> String {
        format!("{}:revoked", self.prefix)
    }

    /// The channel on which nodes tell each other of revocations and kicks.
    pub(crate) fn control(&self) -> String {
        format!("{}:control", self.prefix)
    }

    /// How many sockets of a user each node has. The name is any text, so its digest stands for it.
    pub(crate) fn sockets(&self, user: &str) -> String {
        let digest = digest(&SHA256, user.as_bytes());
        let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{}:user:{{{hex}}}:sockets", self.prefix)
    }

    /// The channel of one node alone, for canaries and answers.
    pub(crate) fn canary(&self, node: &str) -> String {
        format!("{}:canary:{node}", self.prefix)
    }

    /// Keys of a room's history, last offset, latest events and members, of what is no room: to try rights on.
    pub(crate) fn trial(&self) -> [String; 4] {
        ["history", "last", "latest", "members"].map(|what| format!("{}:{{canary}}:{what}", self.prefix))
    }

    /// The channel of what is no room.
    pub(crate) fn trial_channel(&self) -> String {
        format!("{}:{{canary}}", self.prefix)
    }

    /// The room of a live channel.
    pub(crate) fn room_of<'a>(&self, channel: &'a str) -> Option<&'a str> {
        channel.strip_prefix(&self.prefix)?.strip_prefix(":{")?.strip_suffix('}')
    }
}
