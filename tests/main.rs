//! The gateway's promises, one file each, in one binary so that it is linked once.

mod config;
mod e2e;
mod fleet;
mod harness;
mod outage;
mod smoke;
mod tidy;
mod wire;
