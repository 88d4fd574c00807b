//! What the fuzz targets need of the wire: the follower, and the messages of a peer, which are private otherwise.

use std::ops::ControlFlow;

use super::compact::messages::{PeerMessage, PeerMessages};
use super::follower;
use super::incoming::Incoming;

/// A [`follower::StreamFollower`] that a fuzz target can drive.
#[derive(Debug)]
pub struct FuzzedFollower(follower::StreamFollower);

impl FuzzedFollower {
    /// Makes a follower that searches for `nonce` and captures `capture` leading bytes of each text message.
    #[must_use]
    pub fn armed(nonce: &str, capture: usize) -> Self {
        let mut follower = follower::StreamFollower::new();
        follower.arm_nonce(nonce);
        follower.set_capture(capture);
        Self(follower)
    }

    /// Consumes bytes and gives the leading bytes of each text message that they complete.
    pub fn follow(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut texts = Vec::new();
        self.0.follow_bytes(bytes, |text| texts.push(text.to_vec()));
        texts
    }

    /// Whether a frame of Hallway may begin here.
    #[must_use]
    pub fn at_boundary(&self) -> bool {
        self.0.at_boundary()
    }

    /// Whether the head of the upgrade has passed and the frames have not ended.
    #[must_use]
    pub fn is_framing(&self) -> bool {
        self.0.is_framing()
    }

    /// Whether no frame of Hallway can ever follow.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.0.is_over()
    }
}

/// A message of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FuzzedMessage {
    /// A text, whose bytes need not be UTF-8.
    Text(Vec<u8>),
    /// A binary message.
    Binary(Vec<u8>),
    /// A ping.
    Ping(Vec<u8>),
    /// A close frame, behind which nothing is read.
    Close(Vec<u8>),
    /// No frame of a client, behind which nothing is read.
    Violation,
}

/// A peer whose messages a fuzz target can read, as the compact reader does.
#[derive(Debug)]
pub struct FuzzedPeer {
    messages: PeerMessages,
    incoming: Incoming,
}

impl Default for FuzzedPeer {
    fn default() -> Self {
        Self { messages: PeerMessages::default(), incoming: Incoming::new(|_| 0, None) }
    }
}

impl FuzzedPeer {
    /// Reads bytes and gives the messages that they complete.
    pub fn read(&mut self, bytes: &[u8]) -> Vec<FuzzedMessage> {
        self.incoming.follow_bytes(bytes, u64::MAX);
        let (mut messages, mut unmasked) = (Vec::new(), bytes.to_vec());
        let _ = self.messages.read_bytes(&mut unmasked, |message| {
            let (message, goes_on) = match message {
                PeerMessage::Text(text) => (FuzzedMessage::Text(text.to_vec()), true),
                PeerMessage::Binary(bytes) => (FuzzedMessage::Binary(bytes.to_vec()), true),
                PeerMessage::Ping(payload) => (FuzzedMessage::Ping(payload.to_vec()), true),
                PeerMessage::Close(payload) => (FuzzedMessage::Close(payload.to_vec()), false),
                PeerMessage::Violation => (FuzzedMessage::Violation, false),
            };
            messages.push(message);
            if goes_on { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        messages
    }

    /// Whether the peer stands between two messages, where a hand-over may happen.
    #[must_use]
    pub fn at_rest(&self) -> bool {
        self.incoming.at_rest()
    }
}
