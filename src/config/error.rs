//! The mistakes of a configuration, described so that one start of the gateway is enough to fix all of them.

use std::{error::Error, fmt, path::PathBuf};

/// Every mistake found in one load, in the order of the sections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(Vec<ConfigError>);

/// One mistake: its place, its description and its remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The key as written in TOML (`redis.url`, `rooms."order:{orderId}".delivery`), or the file or variable itself.
    pub key: String,
    /// The problem. Never quotes a secret.
    pub problem: String,
    /// Where the value came from.
    pub origin: Origin,
    /// The remedy, in one sentence without its full stop.
    pub remedy: String,
}

/// The place a value was taken from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The file, with the line (from 1) where one is known.
    File {
        /// The file's path as given.
        path: PathBuf,
        /// The line of the value.
        line: Option<usize>,
    },
    /// An environment variable, by name.
    Environment(String),
    /// The key was not set.
    Default,
}

/// The verdict on one value, which does not know its key or its origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Complaint {
    pub(super) problem: String,
    pub(super) remedy: String,
}

/// The verdict of a check.
pub(super) type CheckResult = Result<(), Complaint>;

impl Complaint {
    pub(super) fn new(problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { problem: problem.into(), remedy: remedy.into() }
    }
}

impl ConfigErrors {
    /// `errors` must not be empty, since an empty list is not a failure.
    pub(super) fn new(errors: Vec<ConfigError>) -> Self {
        // A failure without a reason would leave the operator without a remedy.
        debug_assert!(!errors.is_empty(), "a failed load names its errors");
        Self(errors)
    }

    /// The mistakes one by one.
    pub fn iter(&self) -> impl Iterator<Item = &ConfigError> {
        self.0.iter()
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} (from {}); {}", self.key, self.problem, self.origin, self.remedy)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line: Some(line) } => write!(f, "{}:{line}", path.display()),
            Self::File { path, line: None } => write!(f, "{}", path.display()),
            Self::Environment(name) => f.write_str(name),
            Self::Default => f.write_str("the default"),
        }
    }
}

impl Error for ConfigErrors {}
impl Error for ConfigError {}
