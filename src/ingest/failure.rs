//! Failures to read the stream: each is reported once when it begins, with its remedy, and once when it is over.

use redis::RedisError;

use super::IngestStatus;
use crate::link::remedy::SEE_URL;
use crate::logs;

/// Why events wait in the stream.
#[derive(Debug, thiserror::Error)]
pub(super) enum IngestFailure {
    /// The stream cannot be read.
    #[error("the ingest stream cannot be read: {0}")]
    Stream(#[from] RedisError),
    /// Its events cannot be published.
    #[error("its events cannot be published, because the broker is out of reach")]
    Broker,
}

impl IngestFailure {
    fn remedy(&self) -> &'static str {
        match self {
            Self::Stream(error) => remedy(error),
            Self::Broker => "see what is said about Redis",
        }
    }
}

/// The remedy for an error of Redis here. The error of a transaction contains those of its commands, so the text is
/// searched.
pub(super) fn remedy(error: &RedisError) -> &'static str {
    let text = error.to_string();
    let remedies = [
        ("WRONGTYPE", "a key of the ingest stream holds something else: rename or delete it"),
        ("NOPERM", RIGHTS),
        ("NoPerm", RIGHTS), // as the client library writes it where the refusal is the whole answer
        ("OOM", "raise maxmemory of Redis, or shorten the histories"),
    ];
    // The first match: a transaction's text may contain several codes.
    let known = remedies.iter().find(|(code, _)| text.contains(code));
    known.map_or(SEE_URL, |(_, remedy)| remedy)
}

const RIGHTS: &str = "`hallway redis-function` prints the ACL line of a node's user";

/// The failures that were reported last, in the log and to `/readyz`.
#[derive(Debug)]
/// Remedy of the open failure, which identifies it: the error's text may change with each attempt.
pub(super) struct ReportedFailure {
    /// The same for putting entries aside.
    last: Option<&'static str>,
    rejects: Option<&'static str>,
    status: IngestStatus,
}

impl ReportedFailure {
    pub(super) fn new(status: IngestStatus) -> Self {
        Self { last: None, rejects: None, status }
    }

    /// Whether a reported failure is still open.
    pub(super) fn is_open(&self) -> bool {
        self.last.is_some()
    }

    /// Reports a failure, unless one with the same remedy was reported last.
    pub(super) fn report_trouble(&mut self, trouble: &IngestFailure) {
        let remedy = trouble.remedy();
        // The status is set each time, as its text may have changed; the log is not repeated.
        self.status.set_stuck(Some(format!("{trouble}: {remedy}")));
        if self.last.replace(remedy) != Some(remedy) {
            tracing::error!(event = logs::INGEST_STUCK, %trouble, remedy, "events wait in the ingest stream; they are published when this is mended");
        }
    }

    /// Reports the end of the failure.
    pub(super) fn report_recovery(&mut self) {
        if self.last.take().is_some() {
            self.status.set_stuck(None);
            tracing::info!(event = logs::INGEST_RESUMED, "the ingest stream is read again");
        }
    }

    /// Reports that bad entries cannot be put aside in the stream `key`, unless that is open already.
    pub(super) fn of_rejects(&mut self, error: &RedisError, key: &str) {
        let remedy = remedy(error);
        if self.rejects.replace(remedy) != Some(remedy) {
            let problem = format!("bad entries cannot be put aside in {key}: {error}: {remedy}");
            self.status.rejects_stuck(Some(problem));
            tracing::error!(event = logs::REJECTS_STUCK, %error, key, remedy, "bad ingest entries cannot be put aside; they wait until this is mended");
        }
    }

    /// Reports that they can be put aside.
    pub(super) fn over_for_rejects(&mut self) {
        if self.rejects.take().is_some() {
            self.status.rejects_stuck(None);
            tracing::info!(event = logs::REJECTS_RESUMED, "bad ingest entries are put aside again");
        }
    }

    /// Clears everything without a report, as another node leads.
    pub(super) fn clear_reports(&mut self) {
        (self.last, self.rejects) = (None, None);
        self.status.set_stuck(None);
        self.status.rejects_stuck(None);
    }
}

#[cfg(test)]
mod tests {
    use ::redis::{ErrorKind, ServerErrorKind};

    use super::*;

    #[test]
    fn a_right_that_the_user_lacks_is_told_as_such_however_the_library_writes_it() {
        let whole =
            RedisError::from((ErrorKind::Server(ServerErrorKind::NoPerm), "refused", "no 'evalsha'".to_owned()));
        let in_transaction = ::redis::make_extension_error("EXECABORT".to_owned(), Some("NOPERM no 'xadd'".to_owned()));
        assert_eq!(remedy(&whole), RIGHTS);
        assert_eq!(remedy(&in_transaction), RIGHTS);
    }
}
