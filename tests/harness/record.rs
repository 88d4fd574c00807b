//! What a gateway says of itself, in logs and metrics, held against the tables that document it.

use hallway::metrics::{Metric, MetricKind};
use hallway::{logs, metrics};
use serde_json::Value;

/// Whether a line says that a listener is open.
pub fn says_listening(line: &str, address: &str) -> bool {
    let said = |said: Value| said["event"] == logs::LISTENING && said["address"] == address;
    line == format!("listening on {address}") || serde_json::from_str(line).is_ok_and(said)
}

/// What is wrong with the lines of a log: one of ours has a name of the table, and the level that stands there.
pub fn unknown_lines(log: &[String]) -> Vec<&String> {
    let known: Vec<(&str, String)> = logs::TABLE
        .iter()
        .flat_map(|group| group.events)
        .map(|event| (event.name, format!("{:?}", event.level).to_uppercase()))
        .collect();
    let strange = |line: &&String| {
        let Ok(said) = serde_json::from_str::<Value>(line) else { return false };
        let ours = said["target"].as_str().is_some_and(|target| target.starts_with("hallway"));
        ours && !known.iter().any(|(name, level)| said["event"] == *name && said["level"] == *level)
    };
    log.iter().filter(strange).collect()
}

/// Whether a metric counts observations.
pub fn is_histogram(name: &str) -> bool {
    let mut all = metrics::TABLE.iter().flat_map(|group| group.metrics);
    all.find(|metric| metric.name == name).expect("a metric of the table").kind == MetricKind::Histogram
}

/// What is wrong with the text of `/metrics`: each series is of a metric of the table, with its labels and their values.
pub fn unknown_series(text: &str) -> Vec<&str> {
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#') && !is_known(line)).collect()
}

fn is_known(line: &str) -> bool {
    let (series, _) = line.rsplit_once(' ').expect("a value");
    let (name, labels) = series.split_once('{').map_or((series, ""), |(name, rest)| (name, rest.trim_end_matches('}')));
    let mut all = metrics::TABLE.iter().flat_map(|group| group.metrics);
    let Some(metric) = all.find(|metric| shown_as(metric, name)) else { return false };
    let labels: Vec<(&str, &str)> = labels.split(',').filter_map(|label| label.split_once('=')).collect();
    let named = labels.iter().filter(|(label, _)| *label != "le");
    let fits = |(label, value): &(&str, &str)| {
        let known = metric.labels.iter().find(|(known, _)| known == label);
        known.is_some_and(|(_, values)| values.is_empty() || values.contains(&value.trim_matches('"')))
    };
    named.clone().all(fits) && named.count() == metric.labels.len()
}

fn shown_as(metric: &Metric, name: &str) -> bool {
    let behind = name.strip_prefix(metric.name);
    match metric.kind {
        MetricKind::Counter | MetricKind::Gauge => behind == Some(""),
        MetricKind::Histogram => matches!(behind, Some("_bucket" | "_sum" | "_count")),
    }
}
