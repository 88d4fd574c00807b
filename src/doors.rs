//! The doors: each translates its wire to the verbs of [`service`](crate::service), and nothing else.

pub mod socketio;
