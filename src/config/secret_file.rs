//! A file that holds one secret, as Kubernetes and Docker mount them: an API key, a key of tokens, a URL with a password.

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use super::{
    error::{Complaint, Verdict},
    raw::Raw,
    secret::Secret,
    value::{Value, toml_string},
};

/// More than any secret has, in bytes.
const LONGEST: u64 = 64 * 1024;

/// A secret and the file it was read from. Prints without the secret.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretFile {
    path: PathBuf,
    secret: Secret,
}

/// What may stand around a secret in its file without being of it.
#[derive(Clone, Copy)]
pub(super) enum Around {
    /// A line end behind it; other white space is a slip.
    LineEnd,
    /// White space of any kind.
    WhiteSpace,
}

impl SecretFile {
    /// What the file holds, without what stands around it.
    #[must_use]
    pub fn secret(&self) -> &Secret {
        &self.secret
    }

    /// Reads a file.
    pub(super) fn read(path: PathBuf, around: Around) -> Result<Self, Complaint> {
        let text = text(&path).map_err(|error| {
            Complaint::new(format!("{path:?} cannot be read: {error}"), "name a file of text that this user may read")
        })?;
        let secret = match around {
            Around::LineEnd => without_line_end(&text),
            Around::WhiteSpace => text.trim(),
        };
        let problem = match secret.trim() {
            "" => "is empty",
            trimmed if trimmed != secret => "begins or ends with white space",
            _ => return Ok(Self { secret: Secret::new(secret), path }),
        };
        let remedy = "put the secret alone into it, on one line and without spaces";
        Err(Complaint::new(format!("{path:?} {problem}"), remedy))
    }

    /// What a rule says of the secret, with the file named.
    pub(super) fn obeys(&self, rule: impl Fn(&Secret) -> Verdict) -> Verdict {
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

impl Value for SecretFile {
    const KIND: &'static str = "a path";

    fn parse(raw: &Raw) -> Result<Self, Complaint> {
        Self::read(PathBuf::parse(raw)?, Around::LineEnd)
    }

    fn shown(&self) -> Option<String> {
        self.path.to_str().map(toml_string)
    }
}

/// The text of a file that holds a secret. No more of it is read than any secret has: another file was named by mistake.
pub(super) fn text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(LONGEST + 1).read_to_string(&mut text)?;
    if text.len() as u64 > LONGEST {
        return Err(io::Error::other("it is longer than any key"));
    }
    Ok(text)
}

/// A text without the line end that an editor puts behind it.
fn without_line_end(text: &str) -> &str {
    text.trim_end_matches(['\r', '\n'])
}
