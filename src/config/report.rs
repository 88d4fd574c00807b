//! The list of a load's mistakes, and the origin of each key.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use super::{
    error::{Complaint, ConfigError, Origin},
    raw::{self, RawTable},
};

/// The findings of a load so far.
#[derive(Debug, Default)]
pub(super) struct LoadReport {
    /// In the order of discovery.
    errors: Vec<ConfigError>,
    /// Where each set key comes from.
    origins: BTreeMap<String, Origin>,
    /// Keys with a complaint: checks across keys skip them.
    broken: BTreeSet<String>,
    /// Whether the file's table is unknown, so that nothing can be said about missing keys.
    pub(super) file_unknown: bool,
}

impl LoadReport {
    /// Records that a key was set.
    pub(super) fn note_origin(&mut self, key: &str, origin: &Origin) {
        self.origins.insert(key.to_owned(), origin.clone());
    }

    /// Reports a mistake at its origin.
    pub(super) fn add(&mut self, key: &str, origin: Origin, complaint: Complaint) {
        self.broken.insert(key.to_owned());
        let Complaint { problem, remedy } = complaint;
        self.errors.push(ConfigError { key: key.to_owned(), problem, origin, remedy });
    }

    /// Reports a mistake in a key's value, wherever that came from.
    pub(super) fn reject_value(&mut self, key: &str, complaint: Complaint) {
        let origin = self.origins.get(key).cloned().unwrap_or(Origin::Default);
        self.add(key, origin, complaint);
    }

    /// Whether the operator has set the key.
    pub(super) fn is_set(&self, key: &str) -> bool {
        self.origins.contains_key(key)
    }

    /// Where the key was set, if it was.
    pub(super) fn origin(&self, key: &str) -> Option<&Origin> {
        self.origins.get(key)
    }

    /// Whether none of the keys has a complaint, so that a check across them is meaningful.
    pub(super) fn are_sound(&self, keys: &[&str]) -> bool {
        !keys.iter().any(|key| self.broken.contains(*key))
    }

    pub(super) fn into_errors(self) -> Vec<ConfigError> {
        self.errors
    }
}

/// Reads the file into a table. On failure it is empty, and the reasons are reported.
pub(super) fn read_file(path: &Path, report: &mut LoadReport) -> RawTable {
    let place = |line| Origin::File { path: path.to_owned(), line };
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            // Without it, every required key would be reported as missing too.
            report.file_unknown = true;
            let complaint = Complaint::new(format!("cannot be read: {error}"), "name a TOML file this user may read");
            report.add("(file)", place(None), complaint);
            return RawTable::new();
        }
    };
    raw::parse(&text).unwrap_or_else(|errors| {
        report.file_unknown = true;
        for (line, message) in errors {
            let complaint = Complaint::new(format!("is not TOML: {message}"), "correct that line");
            report.add("(file)", place(Some(line)), complaint);
        }
        RawTable::new()
    })
}
