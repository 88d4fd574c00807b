//! What is known of a metric, and the page of documentation that comes of it.

use std::fmt::Write as _;

use metrics::{Label, Unit, counter, describe_counter, describe_gauge, describe_histogram, histogram};

/// Metrics of one theme.
#[derive(Debug)]
pub struct Group {
    /// Its heading.
    pub title: &'static str,
    /// What belongs to it.
    pub metrics: &'static [Metric],
}

/// A metric: what is known of it before it moves.
#[derive(Debug)]
pub struct Metric {
    /// Its name in `/metrics`; a histogram's has `_bucket`, `_sum` and `_count` behind it there.
    pub name: &'static str,
    /// How it moves.
    pub kind: Kind,
    /// What it counts or measures.
    pub unit: &'static str,
    /// Its labels, each with every value it can have. None at all: those that the configuration or the build name.
    pub labels: &'static [(&'static str, &'static [&'static str])],
    /// What it means, in lines.
    pub meaning: &'static [&'static str],
}

/// How a metric moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Up only, from 0 at the node's start.
    Counter,
    /// Up and down.
    Gauge,
    /// By observations.
    Histogram,
}

/// Makes a constant of each metric's name, and of all of them [`TABLE`](super::TABLE).
macro_rules! table {
    ($($title:literal { $(
        $(#[doc = $line:literal])+
        $constant:ident = $kind:ident($name:literal, $unit:literal $(, $label:ident = $values:expr)*);
    )+ })+) => {
        $($($(#[doc = $line])+ pub const $constant: &str = $name;)+)+

        /// Every metric, by theme.
        pub const TABLE: &[Group] = &[$(Group {
            title: $title,
            metrics: &[$(Metric {
                name: $name,
                kind: Kind::$kind,
                unit: $unit,
                labels: &[$((stringify!($label), $values)),*],
                meaning: &[$($line),+],
            }),+],
        }),+];
    };
}

pub(super) use table;

impl Metric {
    /// What it means.
    #[must_use]
    pub fn help(&self) -> String {
        self.meaning.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
    }

    /// Tells the recorder what it means. A counter starts at 0 with each value of its label, and a histogram without an
    /// observation: of one that comes into being with its first step, that step is not seen by who looks at increases.
    pub(super) fn announce(&self) {
        let unit = match self.unit {
            "seconds" => Unit::Seconds,
            "bytes" => Unit::Bytes,
            _ => Unit::Count,
        };
        match self.kind {
            Kind::Counter => describe_counter!(self.name, unit, self.help()),
            Kind::Gauge => describe_gauge!(self.name, unit, self.help()),
            Kind::Histogram => describe_histogram!(self.name, unit, self.help()),
        }
        match (self.kind, self.labels) {
            (Kind::Counter, []) => counter!(self.name).increment(0),
            (Kind::Counter, [(label, values)]) => {
                values.iter().for_each(|value| counter!(self.name, vec![Label::new(*label, *value)]).increment(0));
            }
            (Kind::Histogram, []) => drop(histogram!(self.name)),
            _ => {}
        }
    }

    fn row(&self) -> String {
        let labels: Vec<String> = self.labels.iter().map(|(label, values)| labelled(label, values)).collect();
        format!("| `{}` | {:?} | {} | {} | {} |", self.name, self.kind, self.unit, labels.join("; "), self.help())
    }
}

fn labelled(label: &str, values: &[&str]) -> String {
    let values: Vec<String> = values.iter().map(|value| format!("`{value}`")).collect();
    if values.is_empty() { format!("`{label}`") } else { format!("`{label}`: {}", values.join(", ")) }
}

/// The page of documentation.
#[must_use]
pub fn page(groups: &[Group]) -> String {
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
