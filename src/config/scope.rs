//! One table while it is read: the file's keys, with the variables over them.

use std::path::Path;

use super::{
    environment::Variables,
    error::{Complaint, Origin},
    nearest::nearest,
    raw::{Raw, RawEntry, RawTable},
    report::LoadReport,
    rule::Rule,
    value::{ConfigValue, mismatch, toml_string},
};

/// The sources of a load. The file's path is kept for its errors.
#[derive(Debug)]
pub(super) struct ConfigSources<'a> {
    pub(super) path: &'a Path,
    pub(super) variables: &'a Variables,
}

/// One table of the file, with the variables over its keys.
#[derive(Debug)]
pub(super) struct ConfigTable<'a> {
    /// The table's path: `server`, `rooms."order:{orderId}"`.
    pub(super) path: String,
    /// None where the file does not have the table.
    table: Option<&'a RawTable>,
    sources: &'a ConfigSources<'a>,
    pub(super) report: &'a mut LoadReport,
}

impl<'a> ConfigTable<'a> {
    /// The whole file.
    pub(super) fn root(table: &'a RawTable, sources: &'a ConfigSources<'a>, report: &'a mut LoadReport) -> Self {
        Self { path: String::new(), table: Some(table), sources, report }
    }

    /// A table inside this one. It is empty, and reported, where the key has another type.
    pub(super) fn child(&mut self, name: &str) -> ConfigTable<'_> {
        let path = self.path_of(name);
        let table = match self.table.and_then(|table| table.get(name)) {
            None => None,
            Some(RawEntry { value: Raw::Table(table), .. }) => Some(table),
            Some(entry) => {
                let complaint = mismatch(entry.value.kind(), "a table");
                self.report.add(&path, self.sources.origin(entry), complaint);
                None
            }
        };
        ConfigTable { path, table, sources: self.sources, report: self.report }
    }

    /// Whether the file has no such table.
    pub(super) fn is_absent(&self) -> bool {
        self.table.is_none()
    }

    /// The keys of this table in the file.
    pub(super) fn names(&self) -> Vec<String> {
        self.table.map(|table| table.keys().cloned().collect()).unwrap_or_default()
    }

    /// The key's value: the variable's, else the file's, else the default. Both are checked, whichever wins.
    pub(super) fn key<T: ConfigValue>(&mut self, name: &str, default: T, rules: &[&dyn Rule<T>]) -> T {
        let path = self.path_of(name);
        let sources = self.sources;
        let entry = self.table.and_then(|table| table.get(name));
        // Also when a variable replaces it: the mistake would surface when the variable is removed.
        let from_file = entry.and_then(|entry| self.accept_value(&path, sources.origin(entry), &entry.value, rules));
        let variable = sources.variables.get(&path);
        let from_variable =
            variable.and_then(|(name, raw)| self.accept_value(&path, Origin::Environment(name.to_owned()), raw, rules));
        from_variable.or(from_file).unwrap_or(default)
    }

    fn accept_value<T: ConfigValue>(
        &mut self,
        path: &str,
        origin: Origin,
        raw: &Raw,
        rules: &[&dyn Rule<T>],
    ) -> Option<T> {
        // Before the parse: a key with a bad value counts as set, or a second complaint would call it missing.
        self.report.note_origin(path, &origin);
        let checked = T::parse(raw).and_then(|value| {
            rules.iter().try_for_each(|rule| rule.check_value(&value))?;
            Ok(value)
        });
        checked.map_err(|complaint| self.report.add(path, origin, complaint)).ok()
    }

    /// Reports every key of the file's table that is not in `known`.
    pub(super) fn refuse_unknown(&mut self, known: &[&str]) {
        for (name, entry) in self.table.into_iter().flatten().filter(|(name, _)| !known.contains(&name.as_str())) {
            let remedy = match nearest(name, known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "take it out, or see `hallway example-config` for every key".to_owned(),
            };
            // An unknown table is a misspelt section, and its keys are not reported one by one.
            let noun = if matches!(entry.value, Raw::Table(_)) { "section" } else { "key" };
            let complaint = Complaint::new(format!("is not a known {noun}"), remedy);
            self.report.add(&self.path_of(name), self.sources.origin(entry), complaint);
        }
    }

    /// Reports a mistake in the name of a key of this table.
    pub(super) fn refuse_name(&mut self, name: &str, complaint: Complaint) {
        if let Some(entry) = self.table.and_then(|table| table.get(name)) {
            self.report.add(&self.path_of(name), self.sources.origin(entry), complaint);
        }
    }

    fn path_of(&self, name: &str) -> String {
        // As TOML writes keys, so that an operator can search the file for the path.
        let bare = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        let name = if bare { name.to_owned() } else { toml_string(name).replace('\n', " ") };
        if self.path.is_empty() { name } else { format!("{}.{name}", self.path) }
    }
}

impl ConfigSources<'_> {
    fn origin(&self, entry: &RawEntry) -> Origin {
        Origin::File { path: self.path.to_owned(), line: Some(entry.line) }
    }
}
