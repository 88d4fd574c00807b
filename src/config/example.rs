//! `hallway.example.toml`: every section and key with its doc and default, as a file to start from.

use super::{
    environment::variable,
    rooms::default_types,
    section::ConfigKey,
    value::{ConfigValue, toml_string},
};

const HEAD: &str = r"# Hallway's configuration, made by `hallway example-config`.
#
# Every key stands here as a comment with its default. An environment variable HALLWAY_<SECTION>__<KEY> goes over the
# file: HALLWAY_REDIS__URL=redis://localhost. Durations have a unit: 500ms, 2s, 1h, 7d. Sizes may have one: 64KiB, 4MiB.
# In a variable a list has commas: HALLWAY_SERVER__LISTEN=127.0.0.1:8080,[::1]:8080. A key that does not exist stops the
# start, and `hallway check-config` names every mistake at once.
";

const API_KEYS: &str = r#"
# Further keys, each for what its scopes say: "publish" (/v1/publish, /v1/publish/batch), "read" (/v1/rooms/...), "admin"
# (what acts on users and their sockets). None implies another. Names are of a-z, 0-9, _ and -, and stand in metrics. To
# replace a key, add another, move the services over, and take the old one out.
#
#     [api.keys.shop]
#     key_file = "/run/secrets/hallway-shop"       # or key = "..."
#     scopes = ["publish"]
#     rate = 200                                   # requests per second; else api.rate
"#;

const ROOMS: &str = r#"
# Classes of rooms, by form: words and {parameters} joined by colons. A form that is built in is changed, whatever its
# parameters are called; any other is added. What is left out is as the built-in class or the section history has it.
#
#     [rooms."order:{orderId}"]
#     join = "staff || claims.orders.exists(o, id(o) == room.orderId)"
#     authorizer = true                            # ask [authorizer] about whomever `join` lets in
#     history = { max_events = 500, ttl = "6h" }   # of each such room
#     delivery = "durable"                         # or "latest", "ephemeral"
#
# A room that several forms match is of the class with more words; of as many, of that with a word further to the left:
# store:main:orders is of "store:main:{what}" and not of "store:{storeId}:orders".
#
# `join` says who may enter such a room, read its history, and stay when the token is refreshed: CEL over `claims` (all
# claims of the token), `room` (the parts of the form, all strings), `key` (the room's key), `now` (seconds, as `exp` has
# it), `staff` (whether the role is one of auth.staff_roles) and `agent` (the agent's id, or null). `id(x)` makes one of a
# string or a whole number, and null of anything else. There are no regular expressions. What cannot be judged is denied:
# test with `has(claims.x)` for a claim that may be missing. Without `join` the default of the class holds, which
# `hallway check-config` shows: a class that is added has the rule of the class that its rooms would else be of, such as
# "user:boss" that of "user:{userId}", and is open to everybody with a token if there is none. `hallway policy` explains
# a decision.
#
# So far `presence = true` has no effect.

# Types of events whose delivery differs from their room's: "durable" (kept, never skipped), "latest" (only the newest
# per key is kept) or "ephemeral" (not kept, may be dropped). Of an agent's locations only the newest matters: `key` names
# the member of the payload that tells the agents apart. Without one a room keeps the newest of the whole type.
"#;

const LATER: &str =
    "\n# ---- Not in effect in this version: known and checked, and `serve` warns where one is set ----\n";

/// A section's name, its description, and its keys.
pub(super) type SectionDoc = (&'static str, &'static [&'static str], Vec<ConfigKey>);

/// Writes the whole file. Sections with nothing but later keys come last.
pub(super) fn write(sections: &[SectionDoc]) -> String {
    let all_later = |section: &&SectionDoc| section.2.iter().all(|key| key.later);
    let mut text = HEAD.to_owned();
    // An operator reads from the top, so nothing without effect comes first.
    sections.iter().filter(|section| !all_later(section)).for_each(|section| write_section(&mut text, section));
    text.push_str(ROOMS);
    for (name, delivery) in default_types() {
        text.push_str(&format!("# [types.{}]\n", toml_string(&name)));
        text.push_str(&format!("# delivery = {}\n", delivery.delivery.shown().unwrap_or_default()));
        text.push_str(&format!("# key = {}\n", delivery.key.shown().unwrap_or_default()));
    }
    text.push_str(LATER);
    sections.iter().filter(all_later).for_each(|section| write_section(&mut text, section));
    text
}

fn write_section(text: &mut String, (name, about, keys): &SectionDoc) {
    let (later, active): (Vec<&ConfigKey>, Vec<&ConfigKey>) = keys.iter().partition(|key| key.later);
    text.push('\n');
    about.iter().for_each(|line| text.push_str(&format!("#{line}\n")));
    text.push_str(&format!("[{name}]\n"));
    active.iter().for_each(|key| write_key(text, name, key));
    if *name == "api" {
        text.push_str(API_KEYS);
    }
    // The heading separates two groups; alone it would head an empty one.
    if !active.is_empty() && !later.is_empty() {
        text.push_str("\n# Not in effect in this version:\n");
    }
    later.iter().for_each(|key| write_key(text, name, key));
}

fn write_key(text: &mut String, section: &str, key: &ConfigKey) {
    text.push('\n');
    key.doc.iter().for_each(|line| text.push_str(&format!("#{line}\n")));
    if let Some(sample) = key.sample {
        text.push_str(&format!("# For example: {} = {sample}\n", key.name));
    }
    match &key.default {
        Some(default) => text.push_str(&format!("# {} = {default}\n", key.name)),
        None => text.push_str(&format!("# Not set. Variable: {}\n", variable(&format!("{section}.{}", key.name)))),
    }
}
