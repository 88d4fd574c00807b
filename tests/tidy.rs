//! The house rules as tests: how long a file may be, who may import whom, and that what is generated is fresh.

mod circles;
mod dependencies;
mod english;
mod measures;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use hallway::config::Config;

const LINES_PER_FILE: usize = 500;
const LINES_OF_MAIN: usize = 45;
const LINES_OF_ARCHITECTURE: usize = 150;
const LINES_OF_README: usize = 150;
const LINES_OF_STYLE: usize = 120;

/// Names that say nothing about what a file is for.
const EMPTY_NAMES: [&str; 7] = ["mod", "util", "utils", "manager", "common", "helper", "helpers"];

/// What may not stand outside of tests, and what to do instead.
const FORBIDDEN: [(&str, &str); 5] = [
    ("tokio::spawn(", "spawn on a TaskTracker, so that somebody owns the task"),
    ("unbounded_channel", "give the queue a cap, a metric and a policy"),
    (".unwrap()", "handle it, or `expect` with the reason why it cannot fail"),
    ("todo!", "finish it"),
    ("unimplemented!", "finish it"),
];

/// What every module may use.
const NEUTRAL: [&str; 4] = ["clock", "essential", "logs", "metrics"];

/// Who may import whom; `gateway` may import everybody, because it builds everything.
const MAY_IMPORT: [(&str, &[&str]); 23] = [
    ("lib", &[]),
    ("cli", &["config", "gateway", "telemetry", "auth"]),
    ("doors", &["service", "session", "auth", "wire", "readiness", "connections", "rate", "memory"]),
    ("api", &["service", "session", "auth", "wire", "readiness", "rate"]),
    ("ingest", &["service", "session", "auth", "link"]),
    ("service", &["hub", "broker", "fleet", "auth", "session", "sessions", "rate"]),
    ("hub", &["broker", "fleet", "session", "wire"]),
    ("session", &["auth", "wire", "rate"]),
    ("sessions", &["auth", "session"]),
    // Siblings, neither of which knows of the other: what both need of Redis is in `redis`.
    ("broker", &["redis", "link"]),
    ("fleet", &["redis", "link"]),
    ("redis", &["link"]),
    ("link", &[]),
    ("memory", &[]),
    ("rate", &[]),
    ("readiness", &["service", "ingest", "connections", "broker", "fleet", "auth"]),
    ("connections", &["rate", "wire"]),
    ("telemetry", &["config"]),
    ("wire", &["rate", "memory"]),
    ("auth", &[]),
    ("config", &["auth"]),
    ("logs", &[]),
    ("metrics", &[]),
];

/// What the rules of rooms may not touch: they are calculations.
const IMPURE: [&str; 8] =
    ["tokio", "std::net", "std::fs", "std::thread", "SystemTime", "Instant", "rand::", "crate::clock"];

struct Source {
    /// From the top of the repository.
    path: String,
    /// Without its test modules.
    lines: Vec<String>,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path} cannot be read: {error}"))
}

fn files_under(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of the repository") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files_under(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

/// Every file of a folder, tests inside it left out.
fn sources(folder: &str) -> Vec<Source> {
    let mut paths = Vec::new();
    files_under(&root().join(folder), &mut paths);
    paths.sort();
    let is_test = |path: &str| path.ends_with("/tests.rs") || path.contains("/tests/");
    let relative = |path: &PathBuf| path.strip_prefix(root()).expect("inside").to_str().expect("UTF-8").to_owned();
    let paths = paths.iter().map(relative).filter(|path| !is_test(path));
    paths.map(|path| Source { lines: without_tests(&read(&path)), path }).collect()
}

/// The text of every Rust file of a folder.
pub(crate) fn texts(folder: &str) -> Vec<String> {
    let mut paths = Vec::new();
    files_under(&root().join(folder), &mut paths);
    paths.iter().map(|path| fs::read_to_string(path).expect("it can be read")).collect()
}

fn house() -> Vec<Source> {
    [sources("src"), sources("rooms/src"), sources("bench/src"), sources("guards/src")].into_iter().flatten().collect()
}

fn without_tests(text: &str) -> Vec<String> {
    let (mut kept, mut inside) = (Vec::new(), false);
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let opens =
            line == "#[cfg(test)]" && lines.peek().is_some_and(|next| next.starts_with("mod ") && next.ends_with('{'));
        inside |= opens;
        if !inside {
            kept.push(line.to_owned());
        }
        inside &= line != "}";
    }
    kept
}

impl Source {
    /// The lines that are no comments, numbered as an editor does.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let numbered = self.lines.iter().enumerate().map(|(at, line)| (at + 1, line.as_str()));
        numbered.filter(|(_, line)| !line.trim_start().starts_with("//"))
    }

    /// The module it belongs to: `src/hub/dispatch.rs` is of `hub`.
    fn module(&self) -> &str {
        let inner = self.path.strip_prefix("src/").unwrap_or(&self.path);
        inner.split(['/', '.']).next().expect("a path is not empty")
    }

    /// How many `super::` lead out of its module to the crate.
    fn depth(&self) -> usize {
        self.path.matches('/').count()
    }

    /// The modules of this crate that it names, in `use` or in a body.
    fn imports(&self) -> BTreeSet<String> {
        let text: String = self.code().map(|(_, line)| format!("{line}\n")).collect();
        let crate_root = ["crate::".to_owned(), "super::".repeat(self.depth())];
        crate_root.iter().flat_map(|lead| named_after(&text, lead)).collect()
    }
}

/// The first names behind each `lead` that begins a path, those in braces included.
fn named_after(text: &str, lead: &str) -> Vec<String> {
    let begins = |at: &usize| !text[..*at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
    let places = text.match_indices(lead).map(|(at, _)| at).filter(begins);
    places.flat_map(|at| heads(&text[at + lead.len()..])).collect()
}

fn heads(rest: &str) -> Vec<String> {
    let Some(list) = rest.strip_prefix('{') else { return vec![word(rest)] };
    let (mut depth, mut names, mut fresh) = (0, Vec::new(), true);
    for (at, letter) in list.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => fresh = true,
            _ if fresh && !letter.is_whitespace() => {
                names.push(word(&list[at..]));
                fresh = false;
            }
            _ => {}
        }
    }
    names
}

fn word(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

#[track_caller]
fn nothing_wrong(found: Vec<String>) {
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn every_file_begins_with_what_it_is_for() {
    let silent = house().into_iter().filter(|s| !s.lines.first().is_some_and(|line| line.starts_with("//! ")));
    nothing_wrong(silent.map(|s| format!("{}: begin with `//!` and a sentence", s.path)).collect());
}

#[test]
fn files_are_short() {
    let limit = |path: &str| if path == "src/main.rs" { LINES_OF_MAIN } else { LINES_PER_FILE };
    let long = house().into_iter().filter(|s| s.lines.len() > limit(&s.path));
    nothing_wrong(long.map(|s| format!("{}: {} lines, at most {}", s.path, s.lines.len(), limit(&s.path))).collect());
}

#[test]
fn names_say_something() {
    let named = |source: &Source| source.path.split(['/', '.']).any(|part| EMPTY_NAMES.contains(&part));
    nothing_wrong(
        house().iter().filter(|s| named(s)).map(|s| format!("{}: name it after what it does", s.path)).collect(),
    );
}

#[test]
fn what_is_forbidden_stands_nowhere() {
    let mut found = Vec::new();
    for source in house() {
        for (at, line) in source.code() {
            for (what, instead) in FORBIDDEN.iter().filter(|(what, _)| line.contains(what)) {
                found.push(format!("{}:{at}: `{what}`: {instead}", source.path));
            }
        }
    }
    nothing_wrong(found);
}

#[test]
fn no_test_is_ignored() {
    let mut paths = Vec::new();
    ["src", "rooms", "tests", "bench/src"].iter().for_each(|folder| files_under(&root().join(folder), &mut paths));
    let ignores = |path: &&PathBuf| {
        let text = fs::read_to_string(path).expect("a source");
        text.lines().any(|line| line.trim_start().starts_with("#[ignore"))
    };
    nothing_wrong(
        paths.iter().filter(ignores).map(|path| format!("{}: run it or delete it", path.display())).collect(),
    );
}

#[test]
fn nobody_imports_whom_they_may_not() {
    let mut found = Vec::new();
    for source in sources("src") {
        let module = source.module().to_owned();
        if ["gateway", "main", "clock", "essential"].contains(&module.as_str()) {
            continue;
        }
        let Some((_, allowed)) = MAY_IMPORT.iter().find(|(name, _)| *name == module) else {
            found.push(format!("{}: say in tests/tidy.rs whom `{module}` may import", source.path));
            continue;
        };
        for other in source.imports() {
            let fine = other == module || NEUTRAL.contains(&other.as_str()) || allowed.contains(&other.as_str());
            if !fine {
                found.push(format!("{}: `{module}` may not import `{other}`", source.path));
            }
        }
    }
    nothing_wrong(found);
}

#[test]
fn main_knows_the_command_line_only() {
    let main = sources("src").into_iter().find(|s| s.path == "src/main.rs").expect("there is a main");
    let text = main.lines.join("\n");
    assert_eq!(named_after(&text, "hallway::"), ["cli"]);
    assert!(!text.contains("crate::"));
}

#[test]
fn only_the_gateway_names_a_concrete_broker_or_fleet() {
    let brokers = ["MemoryBroker", "RedisBroker", "broker::redis", "broker::memory"];
    let concrete = [&brokers[..], &["RedisFleet", "fleet::redis", "fleet::alone"]].concat();
    let outside = sources("src").into_iter().filter(|s| !["gateway", "broker", "fleet"].contains(&s.module()));
    let names = |s: &Source| s.code().any(|(_, line)| concrete.iter().any(|name| line.contains(name)));
    nothing_wrong(outside.filter(names).map(|s| format!("{}: use the traits `Broker` and `Fleet`", s.path)).collect());
}

/// A trait with more methods than this is several things in one.
const METHODS: usize = 9;

#[test]
fn broker_and_fleet_promise_few_things() {
    for (path, name) in [("src/broker.rs", "Broker"), ("src/fleet.rs", "Fleet")] {
        let text = read(path);
        let (_, rest) = text.split_once(&format!("pub trait {name}:")).expect("the trait");
        let (body, _) = rest.split_once("\n}\n").expect("its end");
        let methods =
            body.lines().filter(|line| line.starts_with("    fn ") || line.starts_with("    async fn ")).count();
        assert!(methods > 0 && methods <= METHODS, "`{name}` has {methods} methods, at most {METHODS}");
    }
}

#[test]
fn rooms_are_calculations() {
    let mut found = Vec::new();
    for source in sources("rooms/src") {
        for (at, line) in source.code() {
            let impure = IMPURE.iter().filter(|what| line.contains(**what));
            found.extend(impure.map(|what| format!("{}:{at}: `{what}`: take it as an argument", source.path)));
        }
    }
    let manifest = read("rooms/Cargo.toml");
    let ours = manifest.lines().filter(|line| line.starts_with("hallway") || line.starts_with("tokio"));
    found.extend(ours.map(|line| format!("rooms/Cargo.toml: `{line}`")));
    nothing_wrong(found);
}

#[test]
fn the_example_configuration_is_fresh() {
    let fresh = read("hallway.example.toml") == Config::example();
    assert!(fresh, "write it anew: cargo run -- example-config > hallway.example.toml");
}

/// The block as it stands and as it is rendered differ only in comments and in the name of the table.
#[test]
fn the_settings_in_the_lua_library_are_the_defaults() {
    let block = |text: &str| {
        let (_, rest) = text.split_once("-- <settings>\n").expect("the block begins");
        let (block, _) = rest.split_once("-- </settings>\n").expect("the block ends");
        let code = block.lines().filter(|line| !line.starts_with("local TABLE ="));
        let bare = code.map(|line| line.split("--").next().unwrap_or_default().trim().to_owned());
        bare.collect::<Vec<_>>().join("\n")
    };
    let (written, rendered) = (read("deploy/redis/hallway.lua"), hallway::gateway::build_function(&Config::default()));
    let advice = "the block between <settings> and </settings> in deploy/redis/hallway.lua is not what \
                  `cargo run -- redis-function` prints without a configuration: copy it from there, and keep the comments";
    assert_eq!(block(&written), block(rendered.code()), "{advice}");
}

#[test]
fn the_documents_are_short_and_name_files_that_exist() {
    let mut found = Vec::new();
    let limits =
        [("ARCHITECTURE.md", LINES_OF_ARCHITECTURE), ("STYLE.md", LINES_OF_STYLE), ("README.md", LINES_OF_README)];
    let unlimited = [
        "docs/metrics.md",
        "docs/logs.md",
        "docs/configuration.md",
        "docs/clients.md",
        "docs/publishing.md",
        "docs/access.md",
        "docs/delivery.md",
        "docs/dependencies.md",
        "docs/limits.md",
        "docs/load-balancers.md",
        "docs/operating.md",
        "docs/protocol.md",
        "docs/migrating.md",
        "docs/clients/dart.md",
        "docs/clients/javascript.md",
        "docs/clients/python.md",
        "helm/hallway/README.md",
    ];
    for (document, limit) in limits.into_iter().chain(unlimited.map(|document| (document, usize::MAX))) {
        let text = read(document);
        if text.lines().count() > limit {
            found.push(format!("{document}: {} lines, at most {limit}", text.lines().count()));
        }
        let quoted = text.split('`').skip(1).step_by(2);
        let ours = ["src/", "rooms/", "tests/", "deploy/", "helm/", "docs/"];
        let paths =
            quoted.filter(|quote| ours.iter().any(|lead| quote.starts_with(lead)) && !quote.contains([' ', '*', '{']));
        let gone = paths.filter(|path| !root().join(path).exists());
        found.extend(gone.map(|path| format!("{document}: `{path}` is not there")));
    }
    nothing_wrong(found);
}

#[test]
fn the_page_about_load_balancers_shows_the_files_that_are_tested() {
    let page = read("docs/load-balancers.md");
    for file in ["deploy/proxies/nginx.conf", "deploy/proxies/haproxy.cfg"] {
        assert!(page.contains(&read(file)), "copy {file} into docs/load-balancers.md as it stands");
    }
}
