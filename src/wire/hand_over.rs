//! The hand-over: what the wire must know of a door to take a transport away from under the library.
//!
//! **The problem.** The library under a transport keeps two tasks, a timer and several buffers for each, though after
//! CONNECT it only reads frames and pings. That is several times what the session itself needs.
//!
//! **The rule.** When nothing is under way the wire tells the library that the peer has closed, so that it frees all it
//! has, and swallows what it still writes. Session, lanes and socket live on, and `compact` reads for the door's
//! [`Heir`]. Nothing is under way when, inside of a read of the library's,
//!
//! 1. the kernel has no byte for it,
//! 2. the peer's frames stand between two messages, and no attachment is awaited,
//! 3. the library's frames stand between two messages, no write of it was refused, and no lane is closed,
//! 4. as many answers to CONNECT have gone out as CONNECTs came in,
//! 5. no byte came together with the request of the upgrade: the wire would not have followed it.
//!
//! **Why it is right.** The library reads only when it holds no whole frame, and handles a message before its next read:
//! so with 1 and 2 it holds nothing back. What it would still write is an answer, which 4 excludes, or a ping, which the
//! reader sends in its place when it is due, or the end of the transport. Commands may be under way: their replies leave
//! by a lane, with or without the library.
//!
//! **Faults.** The library may have given the transport up in the same moment. It then reports another reason than the
//! end that it was told of, and the door closes the wire.

use std::fmt;
use std::time::Duration;

/// What the wire must know of a door's packets to do without the library.
#[derive(Clone, Copy, Debug)]
pub struct HandOver {
    /// Time between two pings to a peer.
    pub ping_interval: Duration,
    /// How long the peer may take to answer one.
    pub ping_timeout: Duration,
    /// The text of a ping.
    pub ping: &'static str,
    /// The text that tells a peer that the door gives it up; a close frame follows.
    pub farewell: &'static str,
    /// Whether a text of the peer that begins so answers a ping.
    pub beats: fn(u8) -> bool,
    /// Whether a text of the peer that begins so gets an answer of the library.
    pub asks: fn([u8; 2]) -> bool,
    /// Whether a text of the library that begins so is such an answer.
    pub answers: fn([u8; 2]) -> bool,
}

/// What is to be done after a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeirVerdict {
    /// Nothing.
    GoesOn,
    /// It answers a ping.
    Beat,
    /// The transport ends with a close frame.
    Ends,
    /// The transport ends with [`HandOver::farewell`] and a close frame.
    GivenUp,
}

/// What a door does with the messages of a transport from the hand-over on.
pub trait Heir: Send + Sync + fmt::Debug {
    /// Handles a text message.
    fn take_text(&self, text: &str) -> HeirVerdict;

    /// Handles a binary message.
    fn take_binary(&self, bytes: &[u8]) -> HeirVerdict;
}
