//! The list that every mistake of a load goes to, and who set what.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use super::{
    error::{Complaint, ConfigError, Origin},
    raw::{self, Table},
};

/// What a load has found so far: mistakes, and who set what.
#[derive(Debug, Default)]
pub(super) struct Report {
    errors: Vec<ConfigError>,
    origins: BTreeMap<String, Origin>,
    broken: BTreeSet<String>,
    /// The file's table is not known, so nothing can be said about what it leaves out.
    pub(super) file_unknown: bool,
}

impl Report {
    /// Somebody set the key.
    pub(super) fn set(&mut self, key: &str, origin: &Origin) {
        self.origins.insert(key.to_owned(), origin.clone());
    }

    /// A mistake at a place.
    pub(super) fn add(&mut self, key: &str, origin: Origin, complaint: Complaint) {
        self.broken.insert(key.to_owned());
        let Complaint { problem, remedy } = complaint;
        self.errors.push(ConfigError { key: key.to_owned(), problem, origin, remedy });
    }

    /// A mistake in the value of a key, wherever that came from.
    pub(super) fn blame(&mut self, key: &str, complaint: Complaint) {
        let origin = self.origins.get(key).cloned().unwrap_or(Origin::Default);
        self.add(key, origin, complaint);
    }

    /// Whether the operator has set the key.
    pub(super) fn is_set(&self, key: &str) -> bool {
        self.origins.contains_key(key)
    }

    /// Who has set the key, if anybody.
    pub(super) fn origin(&self, key: &str) -> Option<&Origin> {
        self.origins.get(key)
    }

    /// Whether all these keys have the values they were given, so that a check on them says something.
    pub(super) fn sound(&self, keys: &[&str]) -> bool {
        !keys.iter().any(|key| self.broken.contains(*key))
    }

    pub(super) fn into_errors(self) -> Vec<ConfigError> {
        self.errors
    }
}

/// Reads the file into a table; empty, with the reasons reported, where that fails.
pub(super) fn read_file(path: &Path, report: &mut Report) -> Table {
    let place = |line| Origin::File { path: path.to_owned(), line };
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            report.file_unknown = true;
            let complaint = Complaint::new(format!("cannot be read: {error}"), "name a TOML file this user may read");
            report.add("(file)", place(None), complaint);
            return Table::new();
        }
    };
    raw::parse(&text).unwrap_or_else(|errors| {
        report.file_unknown = true;
        for (line, message) in errors {
            let complaint = Complaint::new(format!("is not TOML: {message}"), "correct that line");
            report.add("(file)", place(Some(line)), complaint);
        }
        Table::new()
    })
}
