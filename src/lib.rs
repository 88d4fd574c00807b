//! Hallway, the gateway: rooms over Socket.IO, events through Redis, missed events from streams.
//!
//! `ARCHITECTURE.md` tells how the modules hang together and what they promise each other.

pub mod api;
pub mod auth;
pub mod broker;
pub mod cli;
mod clock;
pub mod config;
pub mod connections;
pub mod doors;
mod essential;
pub mod fleet;
pub mod gateway;
pub mod hub;
pub mod ingest;
pub mod link;
pub mod logs;
pub mod memory;
pub mod metrics;
pub mod rate;
pub mod readiness;
pub mod redis;
pub mod service;
pub mod session;
pub mod sessions;
pub mod telemetry;
pub mod wire;
