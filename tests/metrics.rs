//! Every metric moves when what it counts happens, no other exists, and the page about them is fresh.
//!
//! Those of this file move by what no other test is about. The rest are asked for, by [`Node::moves`], where what they
//! count is tested.

use std::collections::BTreeSet;

use hallway::metrics::{self, MetricKind};
use serde_json::json;

use crate::harness::client::Client;
use crate::harness::node::Node;
use crate::harness::redis::Redis;
use crate::harness::{eventually, token};
use crate::tidy::{read, texts};

/// More than any node needs, in bytes.
const ADDRESS_SPACE: u64 = 1 << 45;
const EVENT: &str = r#"{"type":"order.status_changed","payload":{}}"#;

#[test]
fn the_page_of_the_metrics_is_fresh() {
    let fresh = read("docs/metrics.md") == metrics::page(metrics::TABLE);
    assert!(fresh, "write it anew: cargo run -- reference metrics > docs/metrics.md");
}

/// A name in the table and no statement, or a statement with a name of its own, would be a metric that no operator can trust.
#[test]
fn every_metric_of_the_table_is_asked_to_move() {
    let table = metrics::TABLE.iter().flat_map(|group| group.metrics).map(|metric| metric.name.to_owned());
    let (table, mut asked) = (table.collect::<BTreeSet<_>>(), BTreeSet::new());
    for text in texts("tests") {
        let calls = text.split(".moves(\"").skip(1);
        asked.extend(calls.filter_map(|call| call.split_once('"')).map(|(name, _)| name.to_owned()));
    }
    assert_eq!(asked, table);
}

#[test]
fn every_metric_that_moves_is_of_the_table() {
    for text in texts("src") {
        for kind in ["counter!(", "gauge!(", "histogram!("] {
            for call in text.split(kind).skip(1).filter(|_| !text.contains("macro_rules! table")) {
                let name = call.split([',', ')']).next().expect("a first argument").trim();
                let constant = name.rsplit("::").next().expect("a name");
                let known = constant.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
                assert!(known || name == "gauge" || name == "self.gauge", "{kind}{name}: enter it in src/metrics.rs");
            }
        }
    }
}

#[tokio::test]
async fn an_ordinary_day_shows() {
    let redis = Redis::start().await;
    let node = Node::on(&redis.url()).await;
    let mut client = Client::connect(node.main(), &token::user("u1")).await;
    client.join("user:u1").await;
    assert_eq!(client.call("join_room", r#"{"room":"user:u2"}"#).await["error"], "forbidden");
    assert_eq!(client.call("update_location", "{}").await["ok"], false);
    let event = json!({"room": "user:u1", "type": "order.status_changed", "payload": {}});
    assert_eq!(node.post("/v1/publish", event.to_string()).await.0, 200);
    let (_, argument) = client.event().await;
    let done = json!({"eventId": argument["event"]["id"], "status": "processed"});
    assert_eq!(client.call("event_ack", &done.to_string()).await["ok"], true);
    let renewed = json!({"token": token::user("u1")});
    assert_eq!(client.call("refresh_token", &renewed.to_string()).await["ok"], true);
    redis.publish("user:u1", b"no event").await;
    let (mut stranger, _) = Client::open(node.main()).await;
    assert!(stranger.offer(r#"{"token":"x"}"#).await.starts_with("44"));

    node.moves("hallway_connections").await;
    node.moves("hallway_http_connections").await;
    node.moves("hallway_handed_over").await;
    node.moves("hallway_loop_connections").await;
    node.moves("hallway_sessions").await;
    node.moves("hallway_connects_total").await;
    node.moves("hallway_connects_refused_total").await;
    node.moves("hallway_rooms").await;
    node.moves("hallway_joins_total").await;
    node.moves("hallway_join_refused_total").await;
    node.moves("hallway_events_published_total").await;
    node.moves("hallway_events_refused_total").await;
    node.moves("hallway_events_fanned_out_total").await;
    node.moves("hallway_deliveries_total").await;
    node.moves("hallway_fan_out_lag_seconds").await;
    node.moves("hallway_publish_seconds").await;
    node.moves("hallway_acknowledgements_total").await;
    node.moves("hallway_token_refreshes_total").await;
    node.moves("hallway_locations_refused_total").await;
    node.moves("hallway_api_requests_total").await;
    node.moves("hallway_broker_up").await;
    node.moves("hallway_check_ready").await;
    node.moves("hallway_pubsub_connects_total").await;
    node.moves("hallway_canary_seconds").await;
    node.moves("hallway_nodes").await;
    drop(client);
    node.moves("hallway_disconnects_total").await;
}

#[tokio::test]
async fn the_process_shows() {
    // Without a limit there would be none to show. The node has it from here.
    rlimit::setrlimit(rlimit::Resource::AS, ADDRESS_SPACE, rlimit::INFINITY).expect("a limit that is out of reach");
    let node = Node::embedded().await;
    node.moves("hallway_build_info").await;
    node.moves("process_cpu_seconds_total").await;
    node.moves("process_resident_memory_bytes").await;
    node.moves("process_virtual_memory_bytes").await;
    node.moves("process_virtual_memory_max_bytes").await;
    node.moves("process_open_fds").await;
    node.moves("process_max_fds").await;
    node.moves("process_threads").await;
    node.moves("process_start_time_seconds").await;
    let version = format!("hallway_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION"));
    assert!(node.numbers().await.lines().any(|line| line == version));
}

#[tokio::test]
async fn a_counter_is_there_with_each_value_of_its_label_before_it_moves() {
    let node = Node::embedded().await;
    let text = node.numbers().await;
    let all = metrics::TABLE.iter().flat_map(|group| group.metrics);
    let counters = all.filter(|metric| metric.kind == MetricKind::Counter);
    for metric in counters {
        let [(label, values)] = metric.labels else { continue };
        for value in *values {
            let series = format!("{}{{{label}=\"{value}\"}} 0", metric.name);
            assert!(text.lines().any(|line| line == series), "{series}");
        }
    }
}

/// An alert that divides by a series which is not there is silent, and so is one that waits for the first increase of it.
#[tokio::test]
async fn every_metric_is_there_before_the_first_client() {
    let redis = Redis::start().await;
    let node = Node::with(&[("HALLWAY_REDIS__URL", &redis.url()), ("HALLWAY_LIMITS__CONNECTIONS", "50000")]).await;
    let all = metrics::TABLE.iter().flat_map(|group| group.metrics);
    // These are of a JWKS, and of a process whose address space is bounded.
    let elsewhere = ["hallway_jwks_keys", "hallway_jwks_fetched_timestamp_seconds", "process_virtual_memory_max_bytes"];
    let expected: Vec<&str> = all.map(|metric| metric.name).filter(|name| !elsewhere.contains(name)).collect();
    eventually("every metric is there", || async {
        let text = node.numbers().await;
        let shown: BTreeSet<&str> = text.lines().filter_map(|line| line.split(['{', ' ']).next()).collect();
        let here = |name: &str| shown.contains(name) || shown.contains(format!("{name}_count").as_str());
        expected.iter().all(|name| here(name)).then_some(())
    })
    .await;
    let text = node.numbers().await;
    for series in [
        "hallway_sessions 0",
        "hallway_rooms 0",
        "hallway_kick_seconds_count 0",
        r#"hallway_api_requests_total{key="none",outcome="unauthorized"} 0"#,
        r#"hallway_api_requests_total{key="api.key",outcome="failed"} 0"#,
    ] {
        assert!(text.lines().any(|line| line == series), "{series}");
    }
}

/// To a peer that reads nothing an ephemeral event is dropped, and a `latest` one gives way to the next of its key.
#[tokio::test]
async fn what_a_peer_that_lags_does_not_get_shows() {
    let redis = Redis::start().await;
    let settings = [("HALLWAY_REDIS__URL", redis.url()), ("HALLWAY_WIRE__WRITE_DEADLINE", "1m".to_owned())];
    let settings: Vec<(&str, &str)> = settings.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let node = Node::with(&settings).await;
    let mut lagging = Client::connect(node.main(), &token::staff()).await;
    lagging.join("order:r").await;
    let bulk = "x".repeat(50_000);
    let ephemeral = json!({"type": "order.status_changed", "payload": bulk}).to_string();
    let latest = json!({"type": "agent.location_updated", "payload": {"agentId": "a", "bulk": bulk}}).to_string();
    eventually("ephemeral events are dropped", || async {
        redis.publish("order:r", ephemeral.as_bytes()).await;
        (node.metric("hallway_ephemeral_dropped_total").await > 0.0).then_some(())
    })
    .await;
    eventually("latest events give way", || async {
        redis.fcall(&["order:r"], &latest, &[]).await.expect("it is published");
        (node.metric("hallway_latest_replaced_total").await > 0.0).then_some(())
    })
    .await;
    node.moves("hallway_ephemeral_dropped_total").await;
    node.moves("hallway_latest_replaced_total").await;
}

#[tokio::test]
async fn what_a_feed_that_was_full_did_not_bring_shows_and_comes_from_the_history() {
    let redis = Redis::start().await;
    let settings = [("HALLWAY_LIMITS__FEED_ITEMS", "16"), ("HALLWAY_HISTORY__MAX_EVENTS", "100000")];
    let node = Node::with(&[&settings[..], &[("HALLWAY_REDIS__URL", &redis.url())]].concat()).await;
    let mut member = Client::connect(node.main(), &token::staff()).await;
    member.join("order:r").await;
    let mut published = 0_u32;
    while node.metric("hallway_feed_dropped_total").await < 1.0 {
        assert!(published < 100_000, "the feed has no bound");
        let mut burst = redis::pipe();
        for _ in 0..200 {
            burst.cmd("FCALL").arg("hallway_publish").arg(1).arg("hallway:{order:r}").arg(EVENT).ignore();
        }
        let mut client = redis.client().await;
        let reads = async {
            for _ in 0..200 {
                member.event().await;
            }
        };
        let (stored, ()) = tokio::join!(burst.exec_async(&mut client), reads);
        stored.expect("they are published");
        published += 200;
    }
    node.moves("hallway_feed_dropped_total").await;
    node.moves("hallway_events_healed_total").await;
}

#[tokio::test]
async fn a_function_of_other_settings_shows() {
    let redis = Redis::start().await;
    let node = Node::on(&redis.url()).await;
    let other = Node::with(&[("HALLWAY_REDIS__URL", &redis.url()), ("HALLWAY_HISTORY__MAX_EVENTS", "7")]).await;
    node.moves("hallway_function_differs").await;
    assert_eq!(other.metric("hallway_function_differs").await, 0.0);
}

#[tokio::test]
async fn heartbeats_that_fail_show() {
    let mut redis = Redis::start().await;
    let node = Node::with(&[("HALLWAY_REDIS__URL", &redis.url()), ("HALLWAY_REDIS__HEARTBEAT", "100ms")]).await;
    redis.kill();
    node.moves("hallway_heartbeats_failed_total").await;
}
