//! The function library with `hallway_publish`: rendered with this node's settings, and loaded into Redis where it is
//! absent, older, or rendered from other settings. A newer version is never replaced.

use std::fmt::Write as _;
use std::time::Duration;

use ::redis::{Cmd, RedisError, cmd, pipe};
use hallway_rooms::class::{Class, Classes};
use hallway_rooms::form::Segment;
use metrics::gauge;

use super::access;
use crate::link::Link;
use crate::logs;
use crate::metrics::FUNCTION_DIFFERS;

/// The library's source in the repository, with the default settings.
const SOURCE: &str = include_str!("../../../deploy/redis/hallway.lua");
/// Version of the library, raised with every change that is not a setting.
const VERSION: i64 = 4;
const BEGIN: &str = "-- <settings>\n";
const END: &str = "-- </settings>\n";

/// The library with a deployment's settings.
#[derive(Clone, Debug)]
pub struct Function {
    prefix: String,
    /// The whole library text.
    code: String,
    /// Digest of the settings, by which two tables are told apart.
    table: String,
}

/// The library in Redis, compared with this node's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loaded {
    Absent,
    Older,
    OtherTable,
    Same,
    Newer,
}

impl Function {
    /// Renders the library with the settings of a deployment.
    #[must_use]
    pub fn render(prefix: &str, classes: &Classes, id_window: Duration, event_bytes: usize) -> Self {
        let body = settings(prefix, classes, id_window, event_bytes);
        let table = digest(&body);
        let block = format!("local VERSION = {VERSION}\nlocal TABLE = '{table}'\n{body}");
        let (before, rest) = SOURCE.split_once(BEGIN).unwrap_or((SOURCE, ""));
        let (_, after) = rest.split_once(END).unwrap_or(("", ""));
        let user = access::acl_comment(prefix);
        let code = format!("{before}{user}{BEGIN}{block}{END}{after}");
        // One library per prefix, so that two deployments can share a server.
        let code = code.replacen("name=hallway\n", &format!("name={prefix}\n"), 1);
        Self { prefix: prefix.to_owned(), code, table }
    }

    /// The library's text, as `FUNCTION LOAD` takes it.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.code
    }

    /// The name of the function that services call.
    #[must_use]
    pub fn publish_name(&self) -> String {
        format!("{}_publish", self.prefix)
    }

    /// The name of the function that reads a room.
    pub(super) fn read_name(&self) -> String {
        format!("{}_read", self.prefix)
    }

    /// The call that records the time and repairs the marks that `complete` relies on. `passed` is the time since
    /// this node's last call.
    pub(super) fn note_command(&self, passed: Option<Duration>) -> Cmd {
        let prefix = &self.prefix;
        let mut call = cmd("FCALL");
        call.arg(format!("{prefix}_note")).arg(3);
        call.arg(["birth", "memory", "clock"].map(|mark| format!("{prefix}:{mark}")).as_slice());
        call.arg(passed.map_or_else(String::new, |passed| passed.as_millis().to_string()));
        call
    }

    /// Makes sure that Redis holds a library that this node can use. Loading it, and recording since when it is
    /// there, is one transaction.
    pub(super) async fn ensure_loaded(&self, redis: &mut Link) -> Result<(), RedisError> {
        match self.loaded_state(redis).await? {
            Loaded::Same => {}
            // A newer node loaded it, as in a rolling upgrade. Replacing it would take its features from that node.
            Loaded::Newer => {
                tracing::warn!(event = logs::FUNCTION_NEWER, "Redis holds a newer version of the function; it stays")
            }
            found @ (Loaded::Absent | Loaded::Older | Loaded::OtherTable) => {
                let mut load = pipe();
                load.atomic().cmd("FUNCTION").arg("LOAD").arg("REPLACE").arg(&self.code).ignore();
                load.add_command(self.note_of(found)).ignore();
                load.query_async::<()>(redis).await?;
                tracing::info!(
                    event = logs::FUNCTION_LOADED,
                    ?found,
                    version = VERSION,
                    table = self.table,
                    "loaded the function into Redis"
                );
            }
        }
        // Behind a load both tables are the same; a newer one is not this node's to compare.
        gauge!(FUNCTION_DIFFERS).set(0.0);
        Ok(())
    }

    /// Whether Redis holds this version of the library or a newer one.
    pub(super) async fn is_held(&self, redis: &mut Link) -> Result<bool, RedisError> {
        Ok(matches!(self.loaded_state(redis).await?, Loaded::OtherTable | Loaded::Same | Loaded::Newer))
    }

    /// The record to write with a load. The memory of an absent library, or of a version that recorded none, is
    /// unknown.
    fn note_of(&self, found: Loaded) -> Cmd {
        let mut note = self.note_command(None);
        if matches!(found, Loaded::Absent | Loaded::Older) {
            note.arg("ANEW");
        }
        note
    }

    /// Loads the library where Redis holds none that a node can use.
    pub(super) async fn load_if_absent(&self, redis: &mut Link) -> Result<(), RedisError> {
        match self.loaded_state(redis).await? {
            Loaded::Absent | Loaded::Older => self.ensure_loaded(redis).await,
            Loaded::OtherTable | Loaded::Same | Loaded::Newer => Ok(()),
        }
    }

    /// Checks whether another node loaded other settings. Loads only when the library is absent, or too old for this
    /// node to read with.
    pub(super) async fn recheck_loaded(&self, redis: &mut Link, warned: &mut bool) -> Result<(), RedisError> {
        let found = self.loaded_state(redis).await?;
        // Other settings are not replaced: two nodes with different ones would reload it in turns.
        if matches!(found, Loaded::Absent | Loaded::Older) {
            return self.ensure_loaded(redis).await;
        }
        let differs = found == Loaded::OtherTable;
        gauge!(FUNCTION_DIFFERS).set(if differs { 1.0 } else { 0.0 });
        // Once per divergence; the gauge stays up for as long as it lasts.
        if differs && !std::mem::replace(warned, true) {
            tracing::warn!(
                event = logs::FUNCTION_DIFFERS,
                "Redis holds a function of other settings: give every node the same history, limits and rooms sections"
            );
        }
        *warned &= differs;
        Ok(())
    }

    async fn loaded_state(&self, redis: &mut Link) -> Result<Loaded, RedisError> {
        let info =
            cmd("FCALL_RO").arg(format!("{}_info", self.prefix)).arg(0).query_async::<(i64, String)>(redis).await;
        match info {
            Ok((version, _)) if version > VERSION => Ok(Loaded::Newer),
            Ok((version, _)) if version < VERSION => Ok(Loaded::Older),
            Ok((_, table)) if table == self.table => Ok(Loaded::Same),
            Ok(_) => Ok(Loaded::OtherTable),
            Err(error) if is_absent(&error) => Ok(Loaded::Absent),
            Err(error) => Err(error),
        }
    }
}

/// Whether a call failed because Redis does not hold the function.
pub(crate) fn is_absent(error: &RedisError) -> bool {
    error.detail().is_some_and(|detail| detail.contains("Function not found"))
}

fn settings(prefix: &str, classes: &Classes, id_window: Duration, event_bytes: usize) -> String {
    let mut out = format!(
        "local PREFIX = '{prefix}'\nlocal MEMORY = {}\nlocal ID_WINDOW = {}\nlocal EVENT_BYTES = {event_bytes}\nlocal MAX_LATEST = {}\nlocal FORMS = {{\n",
        classes.memory().as_millis(),
        id_window.as_millis(),
        classes.max_latest(),
    );
    for class in classes.all_classes() {
        out.push_str(&form_literal(class));
    }
    out.push_str("}\nlocal TYPES = {\n");
    for (name, rule) in classes.type_rules() {
        let key = rule.key.as_ref().map_or_else(String::new, |key| format!(", '{key}'"));
        let written = writeln!(out, "  ['{name}'] = {{ '{}'{key} }},", rule.delivery.as_str());
        debug_assert!(written.is_ok(), "writing to a string cannot fail");
    }
    out.push_str("}\n");
    out
}

fn form_literal(class: &Class) -> String {
    let segment = |segment: &Segment| match segment {
        Segment::Word(word) => format!("'{word}'"),
        Segment::Id(_) => "'*'".to_owned(),
    };
    let segments: Vec<_> = class.form.segments().iter().map(segment).collect();
    let retention = class.retention;
    format!(
        "  {{ {{{}}}, {}, {}, '{}' }},\n",
        segments.join(", "),
        retention.max_events,
        retention.ttl.as_millis(),
        class.delivery.as_str(),
    )
}

/// FNV-1a: an identifier, not a protection.
fn digest(text: &str) -> String {
    let fold = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    format!("{:016x}", text.bytes().fold(0xcbf2_9ce4_8422_2325, fold))
}
