//! The compact reader: one task that reads for all wires of a listener that were handed over, and pings their peers.
//!
//! A wire costs no task, no timer and no buffer here. It is its own waker: the kernel's news of it put it on the list of
//! ready wires, at most once each, which bounds the list. The task reads each ready wire into one scratch buffer, keeps
//! only a part of a message that is not whole, and goes on to the next wire after a budget of bytes, so that a peer
//! that floods waits for its turn. What is not news of the kernel comes the same way: a kill, a resume.
//!
//! It ends when its listener has been dropped and its last wire has closed.

mod adopted;
mod arrivals;
mod frames;
mod heartbeat;
pub(in crate::wire) mod messages;
mod schedule;
mod task;

pub(super) use adopted::{Adopted, Estate};
pub(super) use arrivals::Arrivals;
pub(super) use heartbeat::Heartbeat;
pub(super) use task::{StartedReader, start_reader};
