//! `bench/RESULTS.md` with a plot for each scenario, made of the JSON that the scenarios kept.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::Value;

use crate::Outcome;
use crate::report::say;
use crate::results::read_results;

const ROW: usize = 22;
const LEFT: usize = 120;
const WIDTH: usize = 420;
const TOTAL: usize = LEFT + WIDTH + 100;

/// Which results.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// What `--json` wrote.
    results: PathBuf,
    /// Where `RESULTS.md` and `plots/` go.
    #[arg(long, default_value = "bench")]
    folder: PathBuf,
}

pub(crate) fn run(arguments: &Arguments) -> Outcome<()> {
    let plots = arguments.folder.join("plots");
    std::fs::create_dir_all(&plots)?;
    let mut page = "# Results\n\nMade by `hallway-bench report`; `README.md` says what each scenario does. Medians; the server on core 0, the load on core 1.\n".to_owned();
    for (name, scenario) in &read_results(&arguments.results)? {
        let figures = scenario["figures"].as_array().ok_or("a scenario has figures")?;
        write_plot(&plots.join(format!("{name}.svg")), figures)?;
        let load = scenario["load"].as_str().unwrap_or_default();
        write!(page, "\n## {name}\n\n{load}\n\n![{name}](plots/{name}.svg)\n\n")?;
        page.push_str("| figure | peer | median | runs |\n| --- | --- | ---: | ---: |\n");
        for figure in figures {
            let runs = figure["values"].as_array().map_or(0, Vec::len);
            writeln!(
                page,
                "| {} | {} | {:.2} | {runs} |",
                text(figure, "figure"),
                text(figure, "peer"),
                median(figure)
            )?;
        }
    }
    std::fs::write(arguments.folder.join("RESULTS.md"), page)?;
    say(&format!("{} and {} are written", arguments.folder.join("RESULTS.md").display(), plots.display()));
    Ok(())
}

fn text<'a>(figure: &'a Value, field: &str) -> &'a str {
    figure[field].as_str().unwrap_or_default()
}

/// JSON has no infinity: a figure without a value counts as none.
fn median(figure: &Value) -> f64 {
    figure["median"].as_f64().unwrap_or_default()
}

/// A group of bars for each figure, a bar for each peer; the longest of a group has the whole width.
fn write_plot(path: &Path, figures: &[Value]) -> Outcome<()> {
    let mut names: Vec<&str> = figures.iter().map(|figure| text(figure, "figure")).collect();
    names.sort_unstable();
    names.dedup();
    let (mut bars, mut top) = (String::new(), 0);
    for name in names {
        let group: Vec<&Value> = figures.iter().filter(|figure| text(figure, "figure") == name).collect();
        let most = group.iter().map(|figure| median(figure)).fold(f64::MIN_POSITIVE, f64::max);
        top += ROW;
        writeln!(bars, r#"<text x="4" y="{top}" font-weight="bold">{}</text>"#, escaped(name))?;
        for figure in group {
            let width = median(figure) / most * WIDTH as f64;
            let (peer, end) = (text(figure, "peer"), LEFT as f64 + width + 6.0);
            // Our own bar stands out.
            let colour = if peer.starts_with("hallway") { "#2563eb" } else { "#94a3b8" };
            let (bar, label) = (top + 6, top + ROW);
            writeln!(bars, r#"<rect x="{LEFT}" y="{bar}" width="{width:.1}" height="18" fill="{colour}"/>"#)?;
            writeln!(bars, r#"<text x="4" y="{label}">{}</text>"#, escaped(peer))?;
            writeln!(bars, r#"<text x="{end:.1}" y="{label}">{:.2}</text>"#, median(figure))?;
            top += ROW;
        }
        top += ROW / 2;
    }
    let head = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{TOTAL}" height="{0}" viewBox="0 0 {TOTAL} {0}" font-family="sans-serif" font-size="13"><rect width="100%" height="100%" fill="#fff"/>"##,
        top + ROW
    );
    Ok(std::fs::write(path, format!("{head}\n{bars}</svg>\n"))?)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
