//! A file that holds one secret, as Kubernetes and Docker mount them. It is read when the configuration is.

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use super::{
    error::Complaint,
    raw::Raw,
    secret::Secret,
    value::{Value, toml_string},
};

/// More than any secret has.
const LONGEST: u64 = 64 * 1024;

/// A secret and the file it was read from. Prints without the secret.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretFile {
    path: PathBuf,
    secret: Secret,
}

impl SecretFile {
    /// What the file holds, without line ends at its end.
    #[must_use]
    pub fn secret(&self) -> &Secret {
        &self.secret
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
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
        let path = PathBuf::parse(raw)?;
        let text = read(&path).map_err(|error| {
            Complaint::new(format!("{path:?} cannot be read: {error}"), "name a file that this user may read")
        })?;
        let wrong = |problem: &str| {
            Complaint::new(format!("{path:?} {problem}"), "put the key alone into it, on one line and without spaces")
        };
        let secret = text.trim_end_matches(['\r', '\n']);
        if secret.is_empty() {
            return Err(wrong("is empty"));
        }
        if secret.trim() != secret {
            return Err(wrong("begins or ends with white space"));
        }
        Ok(Self { secret: Secret::new(secret), path })
    }

    fn shown(&self) -> Option<String> {
        self.path.to_str().map(toml_string)
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(LONGEST + 1).read_to_string(&mut text)?;
    if text.len() as u64 > LONGEST {
        return Err(io::Error::other("it is longer than any key"));
    }
    Ok(text)
}
