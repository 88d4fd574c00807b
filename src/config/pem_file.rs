//! PEM files of certificates and private keys for TLS, read and parsed with the configuration.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use super::{
    error::{CheckResult, Complaint},
    raw::Raw,
    secret_file::text,
    value::ConfigValue,
};

/// Bytes of the longest file: more than any bundle of authorities.
const LONGEST: u64 = 1024 * 1024;

/// A PEM file and its path. `Debug` prints the path alone.
#[derive(Clone, PartialEq, Eq)]
pub struct PemFile {
    /// For complaints and the displayed configuration.
    path: PathBuf,
    /// The text, which may be a private key.
    pem: String,
}

impl PemFile {
    /// The whole text.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Its certificates, in their order.
    ///
    /// # Errors
    /// When a certificate cannot be parsed, or there is none.
    pub(super) fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, Complaint> {
        let read = CertificateDer::pem_slice_iter(self.pem.as_bytes()).collect::<Result<Vec<_>, _>>();
        match read {
            Ok(all) if all.is_empty() => {
                Err(self.complaint("holds no certificate", "give one in PEM (BEGIN CERTIFICATE)"))
            }
            Ok(all) => Ok(all),
            Err(_) => Err(self.complaint("holds a damaged certificate", "give it whole, from BEGIN to END")),
        }
    }

    /// Its first private key.
    ///
    /// # Errors
    /// When there is no readable key.
    pub(super) fn private_key(&self) -> Result<PrivateKeyDer<'static>, Complaint> {
        // The parser would report a missing key, which hides the cause.
        if self.pem.contains("ENCRYPTED") {
            return Err(self.complaint("holds a private key under a password", "take that off with `openssl pkey`"));
        }
        let remedy = "give one in PEM (BEGIN PRIVATE KEY), whole and without a password";
        PrivateKeyDer::from_pem_slice(self.pem.as_bytes()).map_err(|_| self.complaint("holds no private key", remedy))
    }

    pub(super) fn complaint(&self, problem: &str, remedy: &str) -> Complaint {
        Complaint::new(format!("{:?} {problem}", self.path), remedy)
    }
}

impl fmt::Debug for PemFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.fmt(f)
    }
}

impl ConfigValue for PemFile {
    const KIND: &'static str = "a path";

    fn parse(raw: &Raw) -> Result<Self, Complaint> {
        let path = PathBuf::parse(raw)?;
        let pem = text(&path, LONGEST).map_err(|error| {
            Complaint::new(format!("{path:?} cannot be read: {error}"), "name a PEM file that this user may read")
        })?;
        match pem.contains("-----BEGIN ") {
            true => Ok(Self { path, pem }),
            false => Err(Complaint::new(
                format!("{path:?} {}", if pem.trim().is_empty() { "is empty" } else { "is not PEM" }),
                "give it in PEM, as text that begins with -----BEGIN",
            )),
        }
    }

    fn shown(&self) -> Option<String> {
        Path::to_path_buf(&self.path).shown()
    }
}

/// Checks that a file has certificates of authorities.
pub(super) fn authorities(file: &PemFile) -> CheckResult {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in file.certificates()? {
        // A leaf certificate cannot vouch for another; TLS would fail at every connect.
        if roots.add(certificate).is_err() {
            return Err(file.complaint("holds a certificate that is no authority's", "give that of the authority"));
        }
    }
    Ok(())
}

/// Checks that a file has a certificate, with those that link it to its authority.
pub(super) fn certificates(file: &PemFile) -> CheckResult {
    file.certificates().map(|_| ())
}

/// Checks that a file has a private key without a password.
pub(super) fn private_key(file: &PemFile) -> CheckResult {
    file.private_key().map(|_| ())
}
