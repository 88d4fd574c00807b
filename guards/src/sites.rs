//! The heap of an idle session by the places that allocate it: two heap profiles, with few sessions and with many, subtracted.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use crate::heap::{FEW, Host, MANY};
use crate::{Outcome, say};

/// Frames that a call site passes through before it comes to what it is about.
const PASSED: [&str; 8] = ["alloc::", "core::", "std::", "hashbrown::", "<alloc::", "<core::", "<std::", "dhat::"];
/// The same by their whole name, which an inlined function has without its path.
const PASSED_NAMES: [&str; 8] = [
    "alloc",
    "alloc_impl",
    "alloc_impl_runtime",
    "allocate",
    "exchange_malloc",
    "realloc",
    "grow_impl",
    "grow_impl_runtime",
];
/// Letters of a name that are shown.
const SHOWN: usize = 140;
/// Bytes per session below which a site is summed up with others.
const SMALL: f64 = 4.0;

/// A heap profile as DHAT writes it.
#[derive(Debug, Deserialize)]
struct Profile {
    pps: Vec<Site>,
    /// The frames that sites name by their index.
    ftbl: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Site {
    /// Bytes at the end.
    eb: f64,
    /// Blocks at the end.
    ebk: f64,
    /// Frames, the allocator's side first.
    fs: Vec<usize>,
}

/// Bytes and blocks of a place.
type Held = (f64, f64);

/// Prints the table, the largest first.
pub(crate) async fn print_sites() -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let few = held_by_site(&folder.path().join("few.json"), FEW).await?;
    let mut grown = held_by_site(&folder.path().join("many.json"), MANY).await?;
    for (site, (bytes, blocks)) in few {
        let held = grown.entry(site).or_default();
        *held = (held.0 - bytes, held.1 - blocks);
    }
    #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
    let sessions = (MANY - FEW) as f64;
    let mut rows: Vec<(f64, f64, String)> = Vec::new();
    rows.extend(grown.into_iter().map(|(site, held)| (held.0 / sessions, held.1 / sessions, site)));
    rows.sort_by(|a, b| b.0.total_cmp(&a.0));
    say(&format!("{:>8} {:>7}  allocated in", "bytes", "blocks"));
    let (shown, rest): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row.0.abs() >= SMALL);
    shown.iter().for_each(|(bytes, blocks, site)| say(&format!("{bytes:>8.1} {blocks:>7.2}  {site}")));
    say(&format!("{:>8.1} {:>7}  all smaller ones", rest.iter().map(|row| row.0).sum::<f64>(), ""));
    say(&format!("{:>8.1} {:>7}  together", rows.iter().map(|row| row.0).sum::<f64>(), ""));
    Ok(())
}

async fn held_by_site(profile: &Path, sessions: usize) -> Outcome<BTreeMap<String, Held>> {
    let mut host = Host::start(profile).await?;
    host.grow_to(sessions).await?;
    host.write_profile().await?;
    let profile: Profile = serde_json::from_slice(&std::fs::read(profile)?)?;
    let mut held: BTreeMap<String, Held> = BTreeMap::new();
    for site in &profile.pps {
        let at = held.entry(name_site(site, &profile.ftbl)).or_default();
        *at = (at.0 + site.eb, at.1 + site.ebk);
    }
    Ok(held)
}

/// The innermost frame of ours, or the two innermost of others.
fn name_site(site: &Site, frames: &[String]) -> String {
    let names = site.fs.iter().filter_map(|at| frames.get(*at)).map(|frame| name_of(frame));
    let is_passed = |name: &&str| {
        PASSED.iter().any(|passed| name.starts_with(passed)) || PASSED_NAMES.iter().any(|passed| name == passed)
    };
    let told: Vec<&str> = names.filter(|name| !is_passed(name)).collect();
    let ours = told.iter().find(|name| name.contains("hallway")).map(ToString::to_string);
    let name = ours.unwrap_or_else(|| told[..told.len().min(2)].join(", for "));
    name.chars().take(SHOWN).collect()
}

/// A frame's function: `0x55…: hallway::session::Session::new (src/session.rs:79:18)`.
fn name_of(frame: &str) -> &str {
    let name = frame.split_once(": ").map_or(frame, |(_, name)| name);
    name.split_once(" (").map_or(name, |(name, _)| name)
}
