//! `docs/dependencies.md` against the manifests: each names what the other does.

use std::collections::BTreeSet;

use super::read;

const PAGE: &str = "docs/dependencies.md";
const MANIFESTS: [&str; 5] =
    ["Cargo.toml", "rooms/Cargo.toml", "bench/Cargo.toml", "guards/Cargo.toml", "fuzz/Cargo.toml"];

/// A crate and one of its direct dependencies.
type Needs = (String, String);

fn declared(manifest: &str) -> Vec<Needs> {
    let parsed: toml::Table = read(manifest).parse().expect("a manifest is TOML");
    let package = parsed["package"]["name"].as_str().expect("a package has a name").to_owned();
    let tables = ["dependencies", "dev-dependencies", "build-dependencies"];
    let tables = tables.iter().filter_map(|table| parsed.get(*table)?.as_table());
    tables.flat_map(|table| table.keys()).map(|name| (package.clone(), name.clone())).collect()
}

/// What stands on the page: a heading for each crate, and below it a line for each dependency.
fn explained(page: &str) -> Vec<Needs> {
    let (mut package, mut found) = (String::new(), Vec::new());
    for line in page.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            heading.clone_into(&mut package);
        } else if let Some((name, reason)) = line.strip_prefix("- `").and_then(|rest| rest.split_once("`: ")) {
            assert!(reason.ends_with('.') && reason.len() > 10, "{PAGE}: give `{name}` a reason in a sentence");
            found.push((package.clone(), name.to_owned()));
        }
    }
    found
}

#[test]
fn each_direct_dependency_has_its_reason_on_the_page() {
    let declared: BTreeSet<Needs> = MANIFESTS.iter().flat_map(|manifest| declared(manifest)).collect();
    let listed = explained(&read(PAGE));
    let explained: BTreeSet<Needs> = listed.iter().cloned().collect();
    assert_eq!(listed.len(), explained.len(), "{PAGE} names a dependency twice for one crate");
    let missing: Vec<_> = declared.difference(&explained).collect();
    let gone: Vec<_> = explained.difference(&declared).collect();
    assert!(missing.is_empty(), "{PAGE} gives no reason for {missing:?}");
    assert!(gone.is_empty(), "{PAGE} names what no manifest does: {gone:?}");
}
