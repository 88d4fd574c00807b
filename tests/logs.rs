//! Log events have stable names: each statement one of the table, at the level that stands there, and the page is fresh.
//!
//! That every line of ours has its name is looked at for each gateway of each test, when it ends ([`Node`]).

use std::collections::BTreeSet;

use hallway::logs;
use serde_json::Value;

use crate::harness::node::Node;
use crate::tidy::{read, texts};

#[test]
fn the_page_of_the_log_events_is_fresh() {
    let fresh = read("docs/logs.md") == logs::page();
    assert!(fresh, "write it anew: cargo run -- reference logs > docs/logs.md");
}

#[test]
fn every_statement_has_a_name_of_the_table_and_its_level() {
    let events = logs::TABLE.iter().flat_map(|group| group.events);
    let table = events.map(|event| (event.constant.to_owned(), format!("{:?}", event.level).to_lowercase()));
    let (table, mut said) = (table.collect::<BTreeSet<_>>(), BTreeSet::new());
    for text in texts("src").into_iter().chain(texts("rooms/src")) {
        for level in ["trace", "debug", "info", "warn", "error"] {
            for call in text.split(&format!("tracing::{level}!(")).skip(1) {
                let named = call.trim_start().strip_prefix("event = logs::");
                let named = named.unwrap_or_else(|| panic!("{level}: begin with `event = logs::…`: {:.80}", call));
                let constant = named.split(',').next().expect("a first argument");
                said.insert((constant.to_owned(), level.to_owned()));
            }
        }
    }
    assert_eq!(said, table);
}

#[test]
fn no_two_have_the_same_name() {
    let mut known = BTreeSet::new();
    for event in logs::TABLE.iter().flat_map(|group| group.events) {
        assert!(known.insert(event.name), "{}", event.name);
        assert!(event.name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{}", event.name);
    }
}

#[tokio::test]
async fn every_line_is_an_object() {
    let mut node = Node::with(&[("HALLWAY_LOG__LEVEL", "debug")]).await;
    assert!(node.terminate().await.success());
    let said: Vec<Value> =
        node.log().iter().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect();
    for name in [logs::LISTENING, logs::STOPPING] {
        assert!(said.iter().any(|line| line["event"] == name), "{name}: {said:#?}");
    }
}
