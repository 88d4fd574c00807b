//! Logging: JSON or readable text on stderr, never with a token in it.

use tracing::{Level, Metadata};
use tracing_subscriber::filter::{FilterExt, LevelFilter, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt};

use crate::config::{Log, LogFormat};

/// Starts logging. Libraries log no more than `warn`, whatever the level and its exceptions: below that they log client
/// input.
///
/// # Errors
/// When the level is no valid filter, or logging was started before.
pub fn init(log: &Log) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    // A filter without a hint would leave the combination without one, and each disabled `trace!` would cost a check.
    let discreet = filter_fn(is_discreet).with_max_level_hint(LevelFilter::TRACE);
    let filter = EnvFilter::try_new(&log.level)?.and(discreet);
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match log.format {
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
        LogFormat::Pretty => lines.compact().boxed(),
    };
    Ok(tracing_subscriber::registry().with(lines.with_filter(filter)).try_init()?)
}

/// Whether a line or a span is Hallway's own, whose texts are chosen here, or a warning. A directive of the filter
/// cannot do this: a more specific one would win. Spans count too, since their fields are printed with the lines inside
/// them.
fn is_discreet(metadata: &Metadata<'_>) -> bool {
    let ours = metadata.target().split("::").next() == Some(env!("CARGO_CRATE_NAME"));
    ours || *metadata.level() <= Level::WARN
}
