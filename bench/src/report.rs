//! Numbers as people read them.

use std::time::Duration;

/// A line for the person who runs this.
#[expect(clippy::print_stdout, reason = "stdout is what this program is for")]
pub(crate) fn say(line: &str) {
    println!("{line}");
}

/// Why it stopped.
#[expect(clippy::print_stderr, reason = "this is for a person")]
pub(crate) fn complain(problem: &str) {
    eprintln!("hallway-bench: {problem}");
}

/// How long deliveries took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Latency {
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
}

impl Latency {
    /// Of nothing.
    pub(crate) const fn unknown() -> Self {
        Self { p50_ms: f64::INFINITY, p99_ms: f64::INFINITY }
    }

    /// Of so many microseconds each.
    pub(crate) fn of(mut micros: Vec<u32>) -> Self {
        micros.sort_unstable();
        let at = |percent: usize| micros.get(micros.len() * percent / 100).map_or(0.0, |us| f64::from(*us) / 1000.0);
        Self { p50_ms: at(50), p99_ms: at(99) }
    }
}

/// The middle one.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// How many a second.
pub(crate) fn rate(count: u32, took: Duration) -> f64 {
    f64::from(count) / took.as_secs_f64()
}
