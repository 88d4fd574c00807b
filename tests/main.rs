//! The gateway's promises, one file each, in one binary so that it is linked once.

mod broker;
mod catch_up;
mod commands;
mod config;
mod dart;
mod e2e;
mod events;
mod expiry;
mod fleet;
mod frames;
mod handshake;
mod harness;
mod heartbeat;
mod idle;
mod keys;
mod missed;
mod outage;
mod payloads;
mod refusals;
mod resume;
mod several_rooms;
mod smoke;
mod stalled;
mod tidy;
mod tokens;
mod wire;
