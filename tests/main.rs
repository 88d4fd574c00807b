//! The gateway's promises, one file each, in one binary so that it is linked once.

mod catch_up;
mod commands;
mod config;
mod e2e;
mod expiry;
mod fleet;
mod handshake;
mod harness;
mod keys;
mod missed;
mod outage;
mod resume;
mod smoke;
mod tidy;
mod tokens;
mod wire;
