//! `docs/configuration.md`: a table of all keys, generated from their declarations. The long form, with the reason of
//! each default, is `hallway example-config`.

use super::{example::SectionDoc, section::ConfigKey};

const HEAD: &str = "<!-- Written by `hallway reference configuration`. -->
# Which settings are there?

```toml
# hallway.toml
[redis]
url = \"redis://redis.internal:6379\"

[auth]
jwks_url = \"https://id.example.com/.well-known/jwks.json\"
```

`hallway check-config --config hallway.toml` names every mistake at once, and `hallway example-config` prints every key with its
full meaning. A variable `HALLWAY_<SECTION>__<KEY>` of the environment goes over the file: `HALLWAY_REDIS__URL`. A list in a
variable has commas. Durations have a unit (`500ms`, `2s`, `1h`, `7d`), and sizes may have one (`64KiB`, `4MiB`). A key that does
not exist stops the start.

Only the file has `[rooms.\"<form>\"]`, `[types.\"<type>\"]` and `[api.keys.<name>]`: see [Access](access.md) and `hallway
example-config`.
";

/// The whole page.
pub(super) fn page(sections: &[SectionDoc]) -> String {
    let mut page = HEAD.to_owned();
    for (name, about, keys) in sections {
        page.push_str(&format!(
            "\n## `[{name}]`\n\n{}\n\n| key | type | default | meaning |\n|---|---|---|---|\n",
            join_lines(about)
        ));
        keys.iter().for_each(|key| page.push_str(&row(key)));
    }
    page
}

fn row(key: &ConfigKey) -> String {
    let default = match (&key.default, key.sample) {
        (Some(default), _) => format!("`{}`", default.replace('|', "\\|")),
        // A key without a default has a sample to copy.
        (None, Some(sample)) => format!("none, such as `{}`", sample.replace('|', "\\|")),
        (None, None) => "none".to_owned(),
    };
    let later = if key.later { " Not in effect in this version." } else { "" };
    let (name, kind, meaning) =
        (key.name, type_name(key.kind), first_sentence(&join_lines(key.doc)).replace('|', "\\|"));
    format!("| `{name}` | {kind} | {default} | {meaning}{later} |\n")
}

/// The type in an operator's words.
fn type_name(declared: &str) -> &'static str {
    let inner = declared.trim_start_matches("Option <").trim_start_matches("Option<").trim();
    match inner.trim_end_matches('>').trim() {
        "Duration" => "duration",
        "ByteSize" => "size",
        "bool" => "yes or no",
        "u16" | "u32" | "u64" | "usize" => "number",
        "SocketAddr" => "address",
        "PathBuf" | "PemFile" | "SecretFile" => "file",
        "Secret" => "secret",
        other if other.starts_with("Vec") => "list",
        "Secrets" | "SecretFiles" | "PublicKeys" => "list",
        _ => "text",
    }
}

fn join_lines(lines: &[&str]) -> String {
    lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
}

/// The text up to the first full stop that ends a sentence.
fn first_sentence(text: &str) -> String {
    let ends = text.match_indices(". ").map(|(at, _)| at);
    // A capital letter follows the end of a sentence, but not an abbreviation.
    let end = ends.into_iter().find(|at| text[at + 2..].starts_with(|next: char| next.is_uppercase() || next == '`'));
    end.map_or_else(|| text.to_owned(), |at| text[..=at].to_owned())
}
