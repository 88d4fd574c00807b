//! A file with one secret, as Kubernetes and Docker mount them: an API key, a token key, a URL with a password.

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use super::{
    error::{CheckResult, Complaint},
    raw::Raw,
    secret::Secret,
    value::{ConfigValue, toml_string},
};

/// Bytes of the longest file: more than any secret.
pub(super) const LONGEST: u64 = 64 * 1024;

/// A secret and the file it was read from. `Debug` hides the secret.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretFile {
    path: PathBuf,
    secret: Secret,
}

impl SecretFile {
    /// The file's content, without the white space at its ends.
    #[must_use]
    pub fn secret(&self) -> &Secret {
        &self.secret
    }

    /// Reads a file. White space around the secret is removed: editors, `echo` and orchestrators' tools leave some.
    pub(super) fn read(path: PathBuf) -> Result<Self, Complaint> {
        let text = text(&path, LONGEST).map_err(|error| {
            Complaint::new(format!("{path:?} cannot be read: {error}"), "name a file of text that this user may read")
        })?;
        match text.trim() {
            "" => Err(Complaint::new(format!("{path:?} is empty"), "put the secret alone into it, on one line")),
            secret => Ok(Self { secret: Secret::new(secret), path }),
        }
    }

    /// Applies a rule to the secret, and names the file in its complaint.
    pub(super) fn check_secret(&self, rule: impl Fn(&Secret) -> CheckResult) -> CheckResult {
        let path = &self.path;
        rule(&self.secret)
            .map_err(|Complaint { problem, remedy }| Complaint::new(format!("{path:?} {problem}"), remedy))
    }
}

impl fmt::Debug for SecretFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} ({})", self.path, self.secret)
    }
}

impl ConfigValue for SecretFile {
    const KIND: &'static str = "a path";

    fn parse(raw: &Raw) -> Result<Self, Complaint> {
        Self::read(PathBuf::parse(raw)?)
    }

    fn shown(&self) -> Option<String> {
        self.path.to_str().map(toml_string)
    }
}

/// The text of a file with a secret or a key. At most `longest` bytes are read: a longer file was named by mistake.
pub(super) fn text(path: &Path, longest: u64) -> io::Result<String> {
    let mut text = String::new();
    // One more than allowed, which tells a file of exactly that length from a longer one.
    File::open(path)?.take(longest + 1).read_to_string(&mut text)?;
    if text.len() as u64 > longest {
        return Err(io::Error::other("it is longer than any key"));
    }
    Ok(text)
}
