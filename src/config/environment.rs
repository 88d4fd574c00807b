//! The environment variables `HALLWAY_<SECTION>__<KEY>`, and which other variables with that prefix are not mistakes.

use std::collections::BTreeMap;

use super::{
    error::{Complaint, Origin},
    nearest::nearest,
    raw::Raw,
    report::LoadReport,
};

/// The prefix of every variable of the gateway.
const PREFIX: &str = "HALLWAY_";

/// The process's variables that begin with `HALLWAY_`. Invalid UTF-8 becomes U+FFFD, which
/// [`Config::load`](super::Config::load) refuses; [`std::env::vars`] would panic.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
        .filter(|(name, _)| name.starts_with(PREFIX))
}

/// The variables of known keys, by the key's path.
#[derive(Debug)]
pub(super) struct Variables(BTreeMap<String, (String, Raw)>);

impl Variables {
    /// Collects the known variables and reports the others. `paths` are the known keys, as `section.key`.
    pub(super) fn collect_known(
        environment: impl Iterator<Item = (String, String)>,
        paths: &[String],
        report: &mut LoadReport,
    ) -> Self {
        let known: BTreeMap<String, &String> = paths.iter().map(|path| (variable(path), path)).collect();
        let ours = environment.filter(|(name, text)| name.starts_with(PREFIX) && !is_service_link(name, text));
        let mut found = BTreeMap::new();
        // In order, so that the complaints have a stable order.
        for (name, text) in ours.collect::<BTreeMap<_, _>>() {
            match known.get(&name) {
                // The replacement character of `to_string_lossy`: parsing it would complain about the form of the value.
                Some(path) if text.contains('\u{fffd}') => {
                    let complaint = Complaint::new("is not valid UTF-8", "set it to plain text");
                    report.add(path, Origin::Environment(name), complaint);
                }
                Some(path) => {
                    found.insert((*path).clone(), (name, Raw::Plain(text)));
                }
                None => {
                    let complaint = Complaint::new("is not a known variable", suggest_remedy(&name, known.keys()));
                    report.add(&name, Origin::Environment(name.clone()), complaint);
                }
            }
        }
        Self(found)
    }

    /// The variable over the key at `path`: its name and value.
    pub(super) fn get(&self, path: &str) -> Option<(&str, &Raw)> {
        self.0.get(path).map(|(name, raw)| (name.as_str(), raw))
    }
}

/// The name of the variable that sets the key at `path`.
pub(super) fn variable(path: &str) -> String {
    format!("{PREFIX}{}", path.replace('.', "__").to_uppercase())
}

fn suggest_remedy<'a>(name: &str, known: impl Iterator<Item = &'a String>) -> String {
    // Their names have signs that the name of a variable cannot have.
    if ["ROOMS", "TYPES"].iter().any(|table| name[PREFIX.len()..].starts_with(table)) {
        return "set room classes and types in the TOML file".to_owned();
    }
    if name[PREFIX.len()..].starts_with("API__KEYS") {
        return "set further API keys in the TOML file, with key_file for the secrets".to_owned();
    }
    match nearest(name, known.map(String::as_str)) {
        Some(near) => format!("did you mean {near}?"),
        None => "unset it, or see `hallway example-config` for every key".to_owned(),
    }
}

/// Whether Kubernetes set the variable. Beside a Service named `hallway` or `hallway-…` it gives every pod of the
/// namespace `HALLWAY_PORT=tcp://…`, `HALLWAY_SERVICE_HOST`, `HALLWAY_PORT_8080_TCP_ADDR` and their like; they have no
/// `__`, so they cannot be keys of ours, and must not stop the start.
fn is_service_link(name: &str, text: &str) -> bool {
    let protocol = |word: &str| ["TCP", "UDP", "SCTP"].contains(&word);
    let words: Vec<&str> = name.split('_').collect();
    let address = |words: &[&str]| match words {
        ["PORT", port, proto] | ["PORT", port, proto, "ADDR" | "PORT" | "PROTO"] => {
            port.parse::<u16>().is_ok() && protocol(proto)
        }
        // By its value as well: `HALLWAY_PORT=8080` is an operator's mistake, and has to be reported.
        ["PORT"] => text.contains("://"),
        ["SERVICE", "HOST"] | ["SERVICE", "PORT", ..] => true,
        _ => false,
    };
    !name.contains("__") && (1..words.len()).any(|start| address(&words[start..]))
}
