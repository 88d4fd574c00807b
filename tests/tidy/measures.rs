//! Numbers of the whole house, each against a bound: they say what no single line shows.

use std::collections::BTreeMap;

use super::{Source, nothing_wrong, sources, word};

/// Most of all functions, in percent, whose name is one word. It does not say what is done with what.
const ONE_WORD_FUNCTIONS: f64 = 35.0;
/// Most of all type names, in percent, that stand for two things.
const TYPES_NAMED_TWICE: f64 = 1.0;
/// Most of the functions of `LONG_FUNCTION` lines, in percent, without a comment inside.
const SILENT_FUNCTIONS: f64 = 5.0;
/// Most methods of the trait `Broker`.
const BROKER_METHODS: usize = 9;

/// From how many lines on a function needs a reason on the way.
const LONG_FUNCTION: usize = 20;
/// How many offenders a failure lists.
const LISTED: usize = 60;

const VISIBILITY: [&str; 4] = ["pub ", "pub(crate) ", "pub(super) ", "pub(in "];
const QUALIFIERS: [&str; 4] = ["const ", "async ", "unsafe ", "extern \"C\" "];
const TYPES: [&str; 5] = ["struct ", "enum ", "trait ", "type ", "union "];

struct Function {
    name: String,
    place: String,
    lines: usize,
    /// No comment stands in its body.
    silent: bool,
}

fn measured() -> Vec<Source> {
    [sources("src"), sources("rooms/src")].into_iter().flatten().collect()
}

/// A declaration without who may see it.
fn bare(line: &str) -> &str {
    let line = line.trim_start();
    match VISIBILITY.iter().find_map(|lead| line.strip_prefix(lead)) {
        Some(rest) if line.starts_with("pub(in ") => rest.split_once(") ").map_or(rest, |(_, rest)| rest),
        Some(rest) => rest,
        None => line,
    }
}

fn function_name(line: &str) -> Option<String> {
    let mut rest = bare(line);
    while let Some(shorter) = QUALIFIERS.iter().find_map(|lead| rest.strip_prefix(lead)) {
        rest = shorter;
    }
    rest.strip_prefix("fn ").map(word)
}

/// Types of a module; an associated type, which is indented, belongs to its trait.
fn type_name(line: &str) -> Option<String> {
    let associated = line.starts_with(' ') && bare(line).starts_with("type ");
    let rest = TYPES.iter().find_map(|lead| bare(line).strip_prefix(lead)).filter(|_| !associated)?;
    Some(word(rest)).filter(|name| !name.is_empty())
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// A URL in a string is no comment.
fn is_commented(line: &str) -> bool {
    line.trim_start().starts_with("//") || line.contains(" // ")
}

/// The last line of a function that begins at `from`: rustfmt puts its brace below its first letter.
fn end_of(lines: &[String], from: usize) -> usize {
    let depth = indent(&lines[from]);
    let closes = |line: &String| indent(line) == depth && (line.trim() == "}" || line.ends_with(';'));
    let one_line = lines[from].ends_with('}') || lines[from].ends_with(';');
    if one_line { from } else { (from + 1..lines.len()).find(|at| closes(&lines[*at])).unwrap_or(lines.len() - 1) }
}

fn functions(source: &Source) -> Vec<Function> {
    let named = source.lines.iter().enumerate().filter_map(|(at, line)| Some((at, function_name(line)?)));
    let measure = |(at, name): (usize, String)| {
        let end = end_of(&source.lines, at);
        let silent = !source.lines[at + 1..end.max(at + 1)].iter().any(|line| is_commented(line));
        Function { name, place: format!("{}:{}", source.path, at + 1), lines: end - at + 1, silent }
    };
    named.map(measure).collect()
}

fn all_functions() -> Vec<Function> {
    measured().iter().flat_map(functions).collect()
}

#[expect(clippy::cast_precision_loss, reason = "a house has fewer functions than a float has whole numbers")]
fn percent(part: usize, whole: usize) -> f64 {
    100.0 * part as f64 / whole.max(1) as f64
}

/// Fails with the figure and its first offenders, worst first.
#[track_caller]
fn at_most(bound: f64, figure: f64, of: &str, offenders: Vec<String>) {
    if figure > bound {
        let listed = offenders.into_iter().take(LISTED);
        nothing_wrong([format!("{figure:.2} % of {of}, at most {bound} %")].into_iter().chain(listed).collect());
    }
}

#[test]
fn few_functions_have_a_name_of_one_word() {
    let all = all_functions();
    let mut counts = BTreeMap::<&str, Vec<&str>>::new();
    for function in all.iter().filter(|function| !function.name.trim_matches('_').contains('_')) {
        counts.entry(&function.name).or_default().push(&function.place);
    }
    let short = counts.values().map(Vec::len).sum();
    let mut worst: Vec<_> = counts.into_iter().collect();
    worst.sort_by_key(|(_, places)| std::cmp::Reverse(places.len()));
    let listed = worst.iter().map(|(name, places)| format!("{name}: {} times, as in {}", places.len(), places[0]));
    at_most(ONE_WORD_FUNCTIONS, percent(short, all.len()), "all functions have names of one word", listed.collect());
}

#[test]
fn a_type_name_means_one_thing() {
    let mut places = BTreeMap::<String, Vec<String>>::new();
    for source in measured() {
        for (at, name) in source.code().filter_map(|(at, line)| Some((at, type_name(line)?))) {
            places.entry(name).or_default().push(format!("{}:{at}", source.path));
        }
    }
    let all = places.len();
    let mut twice: Vec<_> = places.into_iter().filter(|(_, places)| places.len() > 1).collect();
    twice.sort_by_key(|(_, places)| std::cmp::Reverse(places.len()));
    let figure = percent(twice.len(), all);
    let listed = twice.iter().map(|(name, places)| format!("{name}: {}", places.join(", ")));
    at_most(TYPES_NAMED_TWICE, figure, "all type names mean two things", listed.collect());
}

#[test]
fn a_long_function_says_why_somewhere_inside() {
    let mut long: Vec<_> = all_functions().into_iter().filter(|function| function.lines >= LONG_FUNCTION).collect();
    let all = long.len();
    long.retain(|function| function.silent);
    long.sort_by_key(|function| std::cmp::Reverse(function.lines));
    let figure = percent(long.len(), all);
    let listed = long.iter().map(|f| format!("{}: {} has {} lines and no comment", f.place, f.name, f.lines));
    at_most(SILENT_FUNCTIONS, figure, "long functions have no comment inside", listed.collect());
}

#[test]
fn the_broker_does_few_things() {
    let file = sources("src").into_iter().find(|source| source.path == "src/broker.rs").expect("there is a broker");
    let inside = file.lines.iter().skip_while(|line| !line.starts_with("pub trait Broker"));
    let methods: Vec<_> = inside.take_while(|line| *line != "}").filter_map(|line| function_name(line)).collect();
    assert!(!methods.is_empty(), "the trait is in src/broker.rs");
    let count = methods.len();
    assert!(count <= BROKER_METHODS, "{count} methods, at most {BROKER_METHODS}: {}", methods.join(", "));
}
