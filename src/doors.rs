//! The doors: each translates a client protocol to the verbs of [`service`](crate::service), and does nothing else.

pub mod socketio;
