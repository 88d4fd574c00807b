//! All four ways in at once, to three nodes with 60 sockets, while Redis dies twice and the node that reads the ingest
//! stream dies once: what is stored reaches every member that is left, once and in the history's order.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;

use crate::harness::checker::{Histories, Record};
use crate::harness::client::Client;
use crate::harness::node::Node;
use crate::harness::publisher::{self, Progress, plans, progressed};
use crate::harness::redis::Redis;
use crate::harness::{eventually, token};

const MEMBERS_EACH: usize = 20;
const EVENTS_EACH: usize = 1250;
const BAD_ENTRIES: usize = 25;
/// Of the events that are acknowledged.
const ALL: usize = 3 * EVENTS_EACH;

fn rooms() -> Vec<String> {
    let of_form = |form: &str| (0..4).map(|i| format!("{form}:{i}")).collect::<Vec<_>>();
    ["order", "store", "user"].iter().flat_map(|form| of_form(form)).collect()
}

/// A node with the clients on it.
struct Site {
    node: Node,
    readers: JoinSet<Record>,
}

impl Site {
    async fn open(redis: &Redis, number: usize, rooms: &[String]) -> Self {
        let node = Node::with(&[
            ("HALLWAY_REDIS__URL", &redis.url()),
            ("HALLWAY_HISTORY__MAX_EVENTS", "10000"),
            ("HALLWAY_INGEST__LEASE", "2s"),
        ])
        .await;
        let mut readers = JoinSet::new();
        for member in 0..MEMBERS_EACH {
            let mine = (0..=member % 3).map(|i| rooms[(member * 7 + i * 5 + number) % rooms.len()].clone());
            let mine: BTreeSet<String> = mine.collect();
            let mut client = Client::connect(node.main(), &token::staff()).await;
            let name = format!("member {member} of node {number}");
            let mut record = Record::begin(name, &mut client, &Vec::from_iter(mine)).await;
            readers.spawn(async move {
                record.take_until(&mut client, "the-last-word").await;
                client.nothing_came().await;
                record
            });
        }
        Self { node, readers }
    }

    async fn leads(&self) -> bool {
        self.node.checks().await["ingest"]["leading"] == true
    }
}

/// `XADD`s entries that are no events and returns their ids.
async fn bad_entries(redis: &Redis) -> BTreeSet<String> {
    let mut pipe = redis::pipe();
    for n in 0..BAD_ENTRIES {
        let payload = if n % 2 == 0 { "{" } else { "1,\"id\":\"another\"" };
        pipe.cmd("XADD").arg("hallway:ingest").arg("*");
        pipe.arg("room").arg("order:0").arg("type").arg("t").arg("payload").arg(payload);
    }
    let ids: Vec<String> = pipe.query_async(&mut redis.client().await).await.expect("redis is up");
    ids.into_iter().collect()
}

async fn kill_and_restart(redis: &mut Redis, sites: &[Site]) {
    redis.kill();
    for site in sites {
        eventually("readyz says 503", || async { (site.node.readyz().await == 503).then_some(()) }).await;
    }
    redis.restart().await;
    for site in sites {
        site.node.ready().await;
    }
}

async fn kill_the_leader(sites: &mut Vec<Site>) {
    let at = eventually("one node reads the ingest stream", || async {
        for (at, site) in sites.iter().enumerate() {
            if site.leads().await {
                return Some(at);
            }
        }
        None
    })
    .await;
    let mut site = sites.remove(at);
    site.readers.abort_all();
    site.node.kill();
}

async fn ingested(redis: &Redis) {
    eventually("nothing waits in the ingest stream", || async {
        let left = redis::cmd("XLEN").arg("hallway:ingest").query_async::<usize>(&mut redis.client().await).await;
        (left.expect("redis is up") == 0).then_some(())
    })
    .await;
}

async fn rejected(redis: &Redis) -> Vec<String> {
    let mut range = redis::cmd("XRANGE");
    range.arg("hallway:ingest:rejected").arg("-").arg("+");
    let entries: Vec<(String, BTreeMap<String, String>)> =
        range.query_async(&mut redis.client().await).await.expect("redis is up");
    entries.into_iter().map(|(_, mut fields)| fields.remove("entry").expect("it is named")).collect()
}

/// Takes what was stored nowhere out of a record, after a look at it: nothing twice, and nothing of another room.
fn take_ephemeral(record: &mut Record) {
    let (stored, passing): (Vec<Value>, Vec<Value>) =
        std::mem::take(&mut record.events).into_iter().partition(|event| event["meta"].get("offset").is_some());
    record.events = stored;
    let mut seen = BTreeSet::new();
    for event in passing {
        let id = event["id"].as_str().expect("an id").to_owned();
        assert!(id.starts_with("plain-") && seen.insert(id), "{}: {event}", record.name);
        assert!(
            record.joined.contains_key(event["meta"]["room"].as_str().expect("a room")),
            "{}: {event}",
            record.name
        );
    }
}

#[tokio::test]
async fn a_fleet_stands_the_death_of_redis_and_of_a_node_while_events_come_in_all_ways() {
    let mut redis = Redis::start().await;
    let rooms = rooms();
    let mut sites = Vec::new();
    for number in 0..3 {
        sites.push(Site::open(&redis, number, &rooms).await);
    }
    let nodes = sites.iter().map(|site| site.node.main()).collect();
    let bad = bad_entries(&redis).await;

    let (progress, tasks) = (Progress::default(), TaskTracker::new());
    let ingest = tasks.spawn(publisher::by_ingest(redis.url(), plans("ingest", EVENTS_EACH, &rooms), progress.clone()));
    let fcall = tasks.spawn(publisher::by_fcall(redis.url(), plans("fcall", EVENTS_EACH, &rooms), progress.clone()));
    let http = tasks.spawn(publisher::by_http_to_any(nodes, plans("http", EVENTS_EACH, &rooms), progress.clone()));
    let plain = tasks.spawn(publisher::by_publish(redis.url(), plans("plain", EVENTS_EACH, &rooms)));

    progressed(&progress, ALL / 5).await;
    kill_and_restart(&mut redis, &sites).await;
    progressed(&progress, 2 * ALL / 5).await;
    kill_the_leader(&mut sites).await;
    progressed(&progress, 3 * ALL / 5).await;
    kill_and_restart(&mut redis, &sites).await;

    let ingested_ids = ingest.await.expect("it publishes");
    let mut receipts = fcall.await.expect("it publishes");
    receipts.extend(http.await.expect("it publishes"));
    plain.await.expect("it publishes");
    ingested(&redis).await;
    receipts.push(publisher::last_word(&redis.url(), "the-last-word", &rooms).await);

    let histories = Histories::read(&redis, &rooms).await;
    assert_eq!(histories.events(), ALL + 1, "each event is stored once");
    histories.hold(&receipts);
    histories.hold_order(&["ingest", "fcall", "http"]);
    assert!(ingested_ids.iter().all(|id| histories.has(id)));
    let rejected = rejected(&redis).await;
    assert_eq!((rejected.len(), BTreeSet::from_iter(rejected)), (bad.len(), bad), "each bad entry is put aside once");
    let mut judged = 0;
    for site in &mut sites {
        while let Some(record) = site.readers.join_next().await {
            let mut record = record.expect("the reader lives");
            take_ephemeral(&mut record);
            histories.check(&record);
            judged += 1;
        }
    }
    assert_eq!(judged, 2 * MEMBERS_EACH);
}
