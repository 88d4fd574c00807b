//! The log on standard error, and its form.

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
    /// The log on standard error, and its form.
    pub struct Log for mode {
        /// "json", one object per line, for a log collector; or "pretty", for a person, which is the default of --dev.
        format: LogFormat = if mode.is_dev() { LogFormat::Pretty } else { LogFormat::Json };

        /// A level (off, error, warn, info, debug, trace), with exceptions by target after commas:
        /// `info,hallway::broker=debug`. At info a node reports what it does. The events that pass through it are
        /// logged at no level, so libraries, which would log them, are held at `warn`, whatever is written here for
        /// them.
        level: String = "info".to_owned(), check log_filter;
    }
}
