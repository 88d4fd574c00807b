//! The words and rules of Hallway's rooms: keys and classes, events and their envelope, offsets, and the chain that
//! proves a history complete.
//!
//! Everything here is a calculation without a clock, IO or randomness: time and ids are arguments, so that every rule
//! can be tested against a naive model in microseconds.

pub mod class;
pub mod close;
pub mod draft;
pub mod entry;
pub mod envelope;
pub mod event;
pub mod form;
pub mod history;
pub mod json;
pub mod key;
pub mod limits;
pub mod location;
pub mod merge;
pub mod offset;
pub mod position;
pub mod revocation;
