//! What was measured, kept as JSON: of each scenario, peer and figure all values and their median.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Map, Value, json};

use crate::Outcome;
use crate::report::{median, say};

/// Where results go.
#[derive(Args, Clone, Debug)]
pub(crate) struct Keeping {
    /// Also write the figures into this file, beside those of other scenarios.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// The figures of one scenario.
#[derive(Debug)]
pub(crate) struct Figures {
    scenario: &'static str,
    of: Vec<(String, &'static str, Vec<f64>)>,
}

impl Figures {
    pub(crate) const fn new(scenario: &'static str) -> Self {
        Self { scenario, of: Vec::new() }
    }

    /// Adds what one run gave, and says it.
    pub(crate) fn add(&mut self, peer: &str, figure: &'static str, value: f64) {
        say(&format!("{peer:<14} {figure:<48} {value:>12.2}"));
        match self.of.iter_mut().find(|(of, what, _)| of == peer && *what == figure) {
            Some((_, _, values)) => values.push(value),
            None => self.of.push((peer.to_owned(), figure, vec![value])),
        }
    }

    /// The median of a figure; infinite where none was taken, so that no bound holds by accident.
    pub(crate) fn median_of(&self, peer: &str, figure: &str) -> f64 {
        let values = self.of.iter().find(|(of, what, _)| of == peer && *what == figure);
        values.map_or(f64::INFINITY, |(_, _, values)| median(values.clone()))
    }

    /// Whether this peer was measured.
    pub(crate) fn has(&self, peer: &str) -> bool {
        self.of.iter().any(|(of, _, _)| of == peer)
    }

    /// Says the medians, and keeps everything if that was asked for.
    pub(crate) fn keep(&self, keeping: &Keeping, load: &str) -> Outcome<()> {
        say(&format!("medians of {} ({load}):", self.scenario));
        for (peer, figure, values) in &self.of {
            say(&format!("{peer:<14} {figure:<48} {:>12.2}", median(values.clone())));
        }
        let Some(path) = &keeping.json else { return Ok(()) };
        let mut all = if path.exists() { read_results(path)? } else { Map::new() };
        let figures = self.of.iter().map(|(peer, figure, values)| {
            json!({"peer": peer, "figure": figure, "median": median(values.clone()), "values": values})
        });
        let scenario = json!({"load": load, "figures": figures.collect::<Vec<_>>()});
        all.insert(self.scenario.to_owned(), scenario);
        Ok(std::fs::write(path, serde_json::to_string_pretty(&Value::Object(all))?)?)
    }
}

/// All scenarios of a file.
pub(crate) fn read_results(path: &Path) -> Outcome<Map<String, Value>> {
    Ok(serde_json::from_slice(&std::fs::read(path)?)?)
}
