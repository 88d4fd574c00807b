//! What is written to standard error, and how.

use super::{rule::log_filter, section::section, value::words};

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object per line, for machines.
    Json,
    /// Coloured text, for a person at a terminal.
    Pretty,
}

words! { LogFormat: "json or pretty" { "json" => Json, "pretty" => Pretty, } }

section! {
    /// What is written to standard error, and how.
    pub struct Log for mode {
        /// "json", one object per line, for a log collector; or "pretty", for a person, which is the default of --dev.
        format: LogFormat = if mode.is_dev() { LogFormat::Pretty } else { LogFormat::Json };

        /// A level (off, error, warn, info, debug, trace), with exceptions by target after commas:
        /// `info,hallway::broker=debug`. At info a node says what it does. What passes through it is said at no level, so
        /// libraries, which would, say no more than `warn`, whatever is written here for them.
        level: String = "info".to_owned(), check log_filter;
    }
}
