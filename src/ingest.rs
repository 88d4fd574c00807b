//! What services write to Redis themselves, read at the door.

pub mod plain;
