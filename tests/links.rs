//! Links to Redis mend themselves from everything: within five seconds of the moment when a fresh connection would work the
//! node is ready, publishes, admits, reads the ingest stream and delivers, and nothing that was stored is lost.
//!
//! `cargo nextest run -E 'test(/links/)' --no-capture` prints how long each took.

use std::time::{Duration, Instant};

use crate::harness::node::Node;
use crate::harness::redis::Redis;
use crate::harness::refuser::Refuser;
use crate::harness::{eventually, within};

mod rig;

use rig::Rig;

/// Of a node, as Redis lists them.
const LINKS: [&str; 8] = ["commands", "history", "healing", "probe", "pubsub", "ingest", "ingest-wait", "lease"];

/// What a server says that serves no client.
const REFUSALS: [&str; 7] = [
    "-LOADING Redis is loading the dataset in memory",
    "-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "-READONLY You can't write against a read only replica.",
    "-NOAUTH Authentication required.",
    "-CLUSTERDOWN Hash slot not served",
    "-ERR max number of clients reached",
    "-NOPERM this user has no permissions to run this command",
];

#[tokio::test]
async fn a_link_that_falls_silent_or_is_cut_is_replaced_whichever_it_is() {
    let mut rig = Rig::start().await;
    for link in LINKS {
        rig.publish().await;
        assert!(rig.proxy.silence(link) > 0, "{link} has a connection that says its name");
        rig.publish().await;
        rig.is_well(&format!("silent: {link}")).await;
    }
    for link in LINKS {
        // One that was silent before may be between two connections.
        eventually(&format!("{link} has a connection"), || async { (rig.proxy.cut(link) > 0).then_some(()) }).await;
        rig.publish().await;
        rig.is_well(&format!("cut: {link}")).await;
    }
    rig.lost_nothing().await;
}

#[tokio::test]
async fn an_answer_that_takes_long_is_not_lost_to_a_connection_that_is_faster() {
    let mut rig = Rig::start().await;
    rig.publish().await;
    rig.proxy.delay("history", Duration::from_millis(2800));
    let made = rig.proxy.made();
    assert_eq!(rig.reads().await, 200, "it comes by the slow connection");
    assert!(rig.proxy.made() > made, "which was replaced meanwhile");
    rig.lost_nothing().await;
}

#[tokio::test]
async fn a_demoted_primary_is_left_though_its_connections_stand() {
    let mut rig = Rig::start().await;
    rig.publish().await;
    rig.promote_the_replica().await;
    rig.publish().await;
    rig.is_well("demoted").await;
    rig.promote_the_replica().await;
    rig.is_well("demoted and promoted again").await;
    rig.fail_over().await;
    rig.publish().await;
    rig.is_well("FAILOVER").await;
    rig.lost_nothing().await;
}

#[tokio::test]
async fn a_redis_that_does_not_take_connections_or_does_not_answer_them_is_tried_until_it_does() {
    let mut rig = Rig::start().await;
    rig.publish().await;
    rig.proxy.refuse(true);
    rig.is_not_ready().await;
    rig.publish().await;
    rig.proxy.refuse(false);
    rig.is_well("refused").await;
    rig.proxy.hang(true);
    rig.is_not_ready().await;
    rig.publish().await;
    rig.proxy.hang(false);
    rig.is_well("hanging").await;
    rig.lost_nothing().await;
}

#[tokio::test]
async fn no_refusal_of_redis_is_final() {
    let mut rig = Rig::start().await;
    for refusal in REFUSALS {
        let refuser = Refuser::answering(refusal).await;
        rig.proxy.redirect(refuser.address());
        rig.proxy.cut("");
        rig.is_not_ready().await;
        rig.publish().await;
        rig.go_back();
        // The connections that stand still lead to the server that refuses.
        rig.is_well(refusal).await;
    }
    rig.lost_nothing().await;
}

impl Rig {
    /// Connections lost by [`Proxy::cut`](crate::harness::proxy::Proxy::cut) may lead elsewhere: those of the refuser stay.
    fn go_back(&self) {
        self.proxy.redirect(self.primary().address());
    }
}

#[tokio::test]
async fn a_password_or_a_right_that_was_taken_away_and_given_back_is_noticed_both_times() {
    let redis = Redis::start().await;
    let mut admin = redis.client().await;
    let set = |rules: &[&str]| redis::cmd("ACL").arg("SETUSER").arg("gateway").arg(rules).to_owned();
    let rules = ["on", ">secret", "resetkeys", "~hallway:*", "&hallway:*", "+@all", "-@dangerous", "+info"];
    set(&rules).exec_async(&mut admin).await.expect("redis is up");
    let url = format!("redis://gateway:secret@{}", redis.address());
    let node = Node::on(&url).await;
    for (taken, told) in [
        (&["-xrange"][..], "'xrange'"),
        (&["-eval"], "'eval'"),
        (&["-fcall"], "'fcall'"),
        (&["-mget"], "'mget'"),
        (&["-hgetall"], "'hgetall'"),
        (&["-hincrby"], "'hincrby'"),
        (&["resetkeys", "%W~hallway:*"], "lacks a right"),
        (&["-publish"], "lacks a right"),
        (&["-xadd"], "'xadd'"),
        (&["resetchannels"], "lacks a right"),
        (&["-info"], "maxmemory-policy cannot be seen"),
        (&["off"], "refuses the password"),
    ] {
        set(taken).exec_async(&mut admin).await.expect("redis is up");
        if taken == ["off"] {
            let kill = ["KILL", "USER", "gateway"];
            redis::cmd("CLIENT").arg(&kill).exec_async(&mut admin).await.expect("redis is up");
        }
        eventually(&format!("{taken:?} is noticed"), || async {
            let checks = node.checks().await;
            let problem = checks["broker"]["problem"].as_str().unwrap_or_default().to_owned();
            (problem.contains(told)).then_some(())
        })
        .await;
        assert_eq!(node.readyz().await, 503);
        set(&rules).exec_async(&mut admin).await.expect("redis is up");
        let ready = || async { (node.readyz().await == 200).then_some(()) };
        within(rig::DEADLINE, &format!("ready after {taken:?} was given back"), ready).await;
    }
    let doubts = node.log().iter().filter(|line| line.contains("link-suspect")).count();
    assert!((1..=18).contains(&doubts), "a doubt is told once, not {doubts} times for twelve rights");
}

#[tokio::test]
async fn a_node_of_a_cluster_reached_as_a_single_redis_is_not_ready_and_says_so() {
    let redis = Redis::start_in_cluster_mode().await;
    let node = Node::start(&[("HALLWAY_REDIS__URL", &redis.url())]).await;
    eventually("it is said", || async {
        let problem = node.checks().await["broker"]["problem"].as_str().unwrap_or_default().to_owned();
        problem.contains("Redis Cluster, which is not supported").then_some(())
    })
    .await;
    assert_eq!(node.readyz().await, 503);
    let event = r#"{"room":"order:r","type":"order.status_changed","payload":{}}"#;
    let (status, body) = node.post("/v1/publish", event).await;
    assert_eq!((status, body["error"]["code"].as_str()), (503, Some("unavailable")), "no publisher drops it: {body}");
}

#[tokio::test]
async fn a_link_that_flaps_is_not_asked_without_end() {
    let redis = Redis::start().await;
    let refuser = Refuser::answering("-LOADING Redis is loading the dataset in memory").await;
    let proxy = crate::harness::proxy::Proxy::to(refuser.address()).await;
    let node = Node::start(&[("HALLWAY_REDIS__URL", &proxy.url())]).await;
    eventually("the reason is told", || async {
        let problem = node.checks().await["broker"]["problem"].as_str().unwrap_or_default().to_owned();
        problem.contains("still loading").then_some(())
    })
    .await;
    // Seven links that are refused at once: without waits between attempts these are a matter of milliseconds.
    let began = Instant::now();
    let known = proxy.made();
    eventually("more attempts", || async { (proxy.made() >= known + 20).then_some(()) }).await;
    assert!(began.elapsed() > Duration::from_secs(1), "20 attempts in {:?}", began.elapsed());
    proxy.redirect(redis.address());
    within(rig::DEADLINE, "ready", || async { (node.readyz().await == 200).then_some(()) }).await;
    node.moves("hallway_redis_link_up").await;
    node.moves("hallway_redis_link_connects_total").await;
}
