//! The gateway's promises, one file each, in one binary so that it is linked once.

mod catch_up;
mod commands;
mod config;
mod expiry;
mod handshake;
mod harness;
mod keys;
mod missed;
mod smoke;
mod tokens;
