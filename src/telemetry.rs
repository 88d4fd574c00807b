//! Logs: JSON for machines or pretty for people, on stderr, never with a token in them.

use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};

/// Starts logging. Libraries that would print what clients send are held at `warn`, whatever the level.
///
/// # Errors
/// When the level is no filter, or logging was started before.
pub fn init(log: &Log) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut filter = EnvFilter::try_new(&log.level)?;
    for quiet in ["hyper=warn", "tungstenite=warn", "tokio_tungstenite=warn", "redis=warn"] {
        filter = filter.add_directive(quiet.parse()?);
    }
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match log.format {
        LogFormat::Json => logs.json().flatten_event(true).try_init(),
        LogFormat::Pretty => logs.compact().try_init(),
    }
}
