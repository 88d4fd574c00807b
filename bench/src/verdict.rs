//! What must hold: printed beside each figure, and the exit code for the caller.

use clap::Args;

use crate::Outcome;
use crate::report::say;

/// Whether a figure out of its bound is a failure.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Strictness {
    /// End with 1 when a bound of the contract does not hold.
    #[arg(long)]
    must: bool,
}

/// The bounds that did not hold.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    broken: Vec<String>,
}

impl Verdict {
    /// Says a figure and its bound.
    pub(crate) fn at_most(&mut self, what: &str, figure: f64, bound: f64) {
        let holds = figure <= bound;
        say(&format!("{} {what}: {figure:.2}, at most {bound:.2}", if holds { "holds  " } else { "BROKEN " }));
        if !holds {
            self.broken.push(what.to_owned());
        }
    }

    /// The end of a measurement.
    pub(crate) fn end(self, strictness: Strictness) -> Outcome<()> {
        if strictness.must && !self.broken.is_empty() {
            return Err(format!("does not hold: {}", self.broken.join("; ")).into());
        }
        Ok(())
    }
}
