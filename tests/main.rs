//! The gateway's promises, one file each, in one binary so that it is linked once.

mod broker;
mod config;
mod fleet;
mod harness;
mod outage;
mod resume;
mod smoke;
mod stalled;
