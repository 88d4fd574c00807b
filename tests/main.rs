//! The gateway's promises, one file each, in one binary so that it is linked once.

mod broker;
mod catch_up;
mod commands;
mod config;
mod e2e;
mod expiry;
mod fleet;
mod handshake;
mod harness;
mod hostile;
mod idle;
mod keys;
mod missed;
mod outage;
mod resume;
mod smoke;
mod stalled;
mod tidy;
mod tokens;
mod wire;
