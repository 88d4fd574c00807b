//! A configuration file and variables: a configuration or a list of mistakes comes of them, and no secret in either.

#![no_main]

use std::path::PathBuf;

use arbitrary::Arbitrary;
use hallway::config::{Config, Mode};
use libfuzzer_sys::fuzz_target;

/// Stands where an operator keeps a secret.
const SECRET: &str = "planted-secret-of-more-than-32-bytes";

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    dev: bool,
    file: Option<Vec<Line<'a>>>,
    variables: Vec<(Variable<'a>, Value<'a>)>,
}

#[derive(Arbitrary, Debug)]
enum Line<'a> {
    Any(&'a str),
    Section(u8),
    Class(&'a str),
    Set(u8, Value<'a>),
    Planted { key: u8, before: &'a str, after: &'a str, quotes: Quotes },
}

#[derive(Arbitrary, Debug)]
enum Quotes {
    Basic,
    Literal,
    Several,
    None,
    List,
    Table,
    Open,
}

#[derive(Arbitrary, Debug)]
enum Variable<'a> {
    Known(u8, u8),
    Secret { key: u8, before: &'a str, after: &'a str },
    Any(&'a str),
}

#[derive(Arbitrary, Debug)]
enum Value<'a> {
    Any(&'a str),
    Number(i64),
    Duration(u16, u8),
    Size(u16, u8),
    Flag(bool),
    Address(u16),
    List(Vec<&'a str>),
}

const SECTIONS: [&str; 16] = [
    "server", "admin", "api", "auth", "redis", "history", "limits", "wire", "socketio", "shutdown", "log", "ack",
    "sync", "ws", "ingest", "store",
];
const KEYS: [&str; 24] = [
    "listen",
    "namespace",
    "aliases",
    "key",
    "url",
    "prefix",
    "max_events",
    "ttl",
    "memory",
    "id_window",
    "lease",
    "event_bytes",
    "queue_bytes",
    "level",
    "format",
    "delivery",
    "issuer",
    "leeway",
    "max_token_ttl",
    "staff_roles",
    "batch",
    "canary",
    "heartbeat",
    "history",
];
const SECRETS: [(&str, &str); 4] = [("auth", "hs256_secret"), ("api", "key"), ("redis", "url"), ("store", "url")];

fn pick<T: Copy>(list: &[T], at: u8) -> T {
    list[usize::from(at) % list.len()]
}

/// One line's worth, which opens no text that swallows the lines behind it.
fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ").replace("\"\"\"", "").replace("'''", "")
}

impl Value<'_> {
    fn text(&self) -> String {
        match self {
            Self::Any(text) => one_line(text),
            Self::Number(number) => number.to_string(),
            Self::Duration(number, unit) => format!("{number}{}", pick(&["ms", "s", "m", "h", "d", "w", ""], *unit)),
            Self::Size(number, unit) => format!("{number}{}", pick(&["B", "KiB", "MiB", "kb", ""], *unit)),
            Self::Flag(flag) => flag.to_string(),
            Self::Address(port) => format!("127.0.0.1:{port}"),
            Self::List(items) => items.iter().map(|item| one_line(item)).collect::<Vec<_>>().join(","),
        }
    }

    fn toml(&self) -> String {
        match self {
            Self::Any(_) | Self::Number(_) | Self::Flag(_) => self.text(),
            Self::Duration(..) | Self::Size(..) | Self::Address(_) => format!("\"{}\"", self.text()),
            Self::List(items) => {
                let items = items.iter().map(|item| serde_json::Value::from(one_line(item)).to_string());
                format!("[{}]", items.collect::<Vec<_>>().join(","))
            }
        }
    }
}

impl Line<'_> {
    fn write(&self) -> String {
        match self {
            Self::Any(text) => one_line(text),
            Self::Section(at) => format!("[{}]", pick(&SECTIONS, *at)),
            Self::Class(form) => format!("[rooms.{}]", serde_json::Value::from(one_line(form))),
            Self::Set(key, value) => format!("{} = {}", pick(&KEYS, *key), value.toml()),
            Self::Planted { key, before, after, quotes } => {
                let (section, key) = pick(&SECRETS, *key);
                let value = format!("{}{SECRET}{}", one_line(before), one_line(after));
                let value = match quotes {
                    Quotes::Basic => format!("\"{value}\""),
                    Quotes::Literal => format!("'{value}'"),
                    Quotes::Several => format!("\"\"\"{value}\"\"\""),
                    Quotes::None => value,
                    Quotes::List => format!("[\"{value}\"]"),
                    Quotes::Table => format!("{{ value = \"{value}\" }}"),
                    Quotes::Open => format!("\"{value}"),
                };
                format!("{section}.{key} = {value}\n[{section}]\n{key} = {value}")
            }
        }
    }
}

impl Variable<'_> {
    fn name(&self) -> String {
        let variable = |section: &str, key: &str| format!("HALLWAY_{section}__{key}").to_uppercase();
        match self {
            Self::Known(section, key) => variable(pick(&SECTIONS, *section), pick(&KEYS, *key)),
            Self::Secret { key, .. } => variable(pick(&SECRETS, *key).0, pick(&SECRETS, *key).1),
            Self::Any(name) => format!("HALLWAY_{name}"),
        }
    }

    fn value(&self, value: &Value) -> String {
        match self {
            Self::Secret { before, after, .. } => format!("{before}{SECRET}{after}"),
            Self::Known(..) | Self::Any(_) => value.text(),
        }
    }
}

fn path() -> PathBuf {
    std::env::temp_dir().join(format!("hallway-fuzz-{}.toml", std::process::id()))
}

fuzz_target!(|input: Input<'_>| {
    let text: Option<String> = input.file.as_ref().map(|lines| lines.iter().map(|line| line.write() + "\n").collect());
    let variables: Vec<_> = input.variables.iter().map(|(name, value)| (name.name(), name.value(value))).collect();
    let devices = |text: &str| text.contains("/dev") || text.contains("/proc");
    if text.as_deref().is_some_and(devices) || variables.iter().any(|(_, value)| devices(value)) {
        return;
    }
    let path = path();
    if let Some(text) = &text {
        std::fs::write(&path, text).expect("there is a folder for temporary files");
    }
    let mode = if input.dev { Mode::Dev } else { Mode::Production };
    let loaded = Config::load(text.as_ref().map(|_| path.as_path()), variables.into_iter(), mode);
    let said = match loaded {
        Ok(config) => format!("{config:?} {:?}", config.not_in_effect()),
        Err(errors) => {
            assert!(errors.iter().count() > 0, "a refusal without a reason");
            let sentences = |text: &str| !text.is_empty() && !text.contains('\n');
            assert!(errors.iter().all(|error| sentences(&error.problem) && sentences(&error.remedy)), "{errors}");
            format!("{errors} {errors:?}")
        }
    };
    assert!(!said.contains("planted-secret"), "a secret is shown: {said}");
});
