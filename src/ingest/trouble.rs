//! What keeps the stream from being read: said once when it begins, with what mends it, and once when it is over.

use redis::RedisError;

/// Why events wait in the stream.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// The stream cannot be read.
    #[error("the ingest stream cannot be read: {0}")]
    Stream(#[from] RedisError),
    /// Its events cannot be published.
    #[error("its events cannot be published, because the broker is out of reach")]
    Broker,
}

impl Trouble {
    fn remedy(&self) -> &'static str {
        match self {
            Self::Stream(error) => remedy(error),
            Self::Broker => "see what is said about Redis",
        }
    }
}

/// What mends an error of Redis here. That of a transaction holds the errors of its commands.
pub(super) fn remedy(error: &RedisError) -> &'static str {
    let text = error.to_string();
    let remedies = [
        ("WRONGTYPE", "a key of the ingest stream holds something else: rename or delete it"),
        ("NOPERM", "give the user in redis.url ~<prefix>:* &<prefix>:* +@all -@dangerous +info"),
        ("OOM", "raise maxmemory of Redis, or shorten the histories"),
    ];
    let known = remedies.iter().find(|(code, _)| text.contains(code));
    known.map_or("see redis.url and whether Redis runs", |(_, remedy)| remedy)
}

/// The trouble that was told last.
#[derive(Debug, Default)]
pub(super) struct Told(Option<&'static str>);

impl Told {
    /// Tells of trouble, unless its like was told last.
    pub(super) fn of(&mut self, trouble: &Trouble) {
        let remedy = trouble.remedy();
        if self.0.replace(remedy) != Some(remedy) {
            tracing::error!(%trouble, remedy, "events wait in the ingest stream; they are published when this is mended");
        }
    }

    /// Tells that it is over.
    pub(super) fn over(&mut self) {
        if self.0.take().is_some() {
            tracing::info!("the ingest stream is read again");
        }
    }

    /// It is another node's now.
    pub(super) fn forget(&mut self) {
        self.0 = None;
    }
}
