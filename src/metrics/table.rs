//! The description of a metric, and the documentation page that is made from all of them.

use std::fmt::Write as _;

use metrics::{Label, Unit, counter, describe_counter, describe_gauge, describe_histogram, histogram};

/// Metrics of one theme.
#[derive(Debug)]
pub struct MetricGroup {
    /// The heading.
    pub title: &'static str,
    /// The metrics.
    pub metrics: &'static [Metric],
}

/// A metric's description.
#[derive(Debug)]
pub struct Metric {
    /// Its name in `/metrics`. A histogram's series end in `_bucket`, `_sum` and `_count` there.
    pub name: &'static str,
    /// Its kind.
    pub kind: MetricKind,
    /// What it counts or measures.
    pub unit: &'static str,
    /// Its labels, each with all values. An empty list stands for values from the configuration or the build.
    pub labels: &'static [(&'static str, &'static [&'static str])],
    /// Its meaning, line by line.
    pub meaning: &'static [&'static str],
}

/// The kind of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows, from 0 at the node's start.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Counts observations by size.
    Histogram,
}

/// Generates a constant of each metric's name, and [`TABLE`](super::TABLE) of all metrics.
macro_rules! table {
    ($($title:literal { $(
        $(#[doc = $line:literal])+
        $constant:ident = $kind:ident($name:literal, $unit:literal $(, $label:ident = $values:expr)*);
    )+ })+) => {
        $($($(#[doc = $line])+ pub const $constant: &str = $name;)+)+

        /// Every metric, by theme.
        pub const TABLE: &[MetricGroup] = &[$(MetricGroup {
            title: $title,
            metrics: &[$(Metric {
                name: $name,
                kind: MetricKind::$kind,
                unit: $unit,
                labels: &[$((stringify!($label), $values)),*],
                meaning: &[$($line),+],
            }),+],
        }),+];
    };
}

pub(super) use table;

impl Metric {
    /// The meaning in one line.
    #[must_use]
    pub fn help(&self) -> String {
        self.meaning.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
    }

    /// Describes the metric to the recorder. A counter starts at 0 with each value of its label, and a histogram
    /// without observations: the first step of a series that begins with it is invisible to `increase`.
    pub(super) fn register_metric(&self) {
        let unit = match self.unit {
            "seconds" => Unit::Seconds,
            "bytes" => Unit::Bytes,
            _ => Unit::Count,
        };
        match self.kind {
            MetricKind::Counter => describe_counter!(self.name, unit, self.help()),
            MetricKind::Gauge => describe_gauge!(self.name, unit, self.help()),
            MetricKind::Histogram => describe_histogram!(self.name, unit, self.help()),
        }
        match (self.kind, self.labels) {
            (MetricKind::Counter, []) => counter!(self.name).increment(0),
            // With one label its values are all series. Products of several labels would be mostly empty.
            (MetricKind::Counter, [(label, values)]) => {
                values.iter().for_each(|value| counter!(self.name, vec![Label::new(*label, *value)]).increment(0));
            }
            (MetricKind::Histogram, []) => drop(histogram!(self.name)),
            // A gauge has no steps, and labels without a closed set of values cannot be announced.
            _ => {}
        }
    }

    fn row(&self) -> String {
        let labels: Vec<String> = self.labels.iter().map(|(label, values)| describe_label(label, values)).collect();
        format!("| `{}` | {:?} | {} | {} | {} |", self.name, self.kind, self.unit, labels.join("; "), self.help())
    }
}

fn describe_label(label: &str, values: &[&str]) -> String {
    let values: Vec<String> = values.iter().map(|value| format!("`{value}`")).collect();
    if values.is_empty() { format!("`{label}`") } else { format!("`{label}`: {}", values.join(", ")) }
}

/// Renders the documentation page.
#[must_use]
pub fn page(groups: &[MetricGroup]) -> String {
    let mut page = HEAD.to_owned();
    for group in groups {
        let rows: Vec<String> = group.metrics.iter().map(Metric::row).collect();
        let _ = write!(page, "\n## {}\n\n{COLUMNS}\n{}\n", group.title, rows.join("\n"));
    }
    page
}

const HEAD: &str = "<!-- Written by `hallway reference metrics`. -->
# What does `/metrics` show?

```
hallway_connections 1024
hallway_deliveries_total 73512
```

What `/metrics` of the admin listener (`admin.listen`) shows, in the text format of Prometheus. Counters and histograms
start at 0 when the node starts, with each value of their label. So do gauges, except those of something that may not be there
(Redis, a JWKS, a limit that is not set). Histograms have the
buckets 0.5 ms, 1 ms, 2.5 ms, 5 ms, 10 ms, 25 ms, 50 ms, 0.1 s, 0.25 s, 1 s, 5 s and 30 s. No label holds a room, a user or
anything else that a client chooses.
";

const COLUMNS: &str = "| Metric | Kind | Unit | Labels | Meaning |\n| --- | --- | --- | --- | --- |";
