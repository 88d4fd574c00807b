//! A node behind a proxy before a primary with a replica, a member that keeps a record, and a ledger of what was stored.

use std::io::Write;
use std::time::{Duration, Instant};

use crate::harness::checker::{Histories, Record};
use crate::harness::client::Client;
use crate::harness::node::Node;
use crate::harness::proxy::Proxy;
use crate::harness::redis::Redis;
use crate::harness::{eventually, token, within};

/// The contract's: from the moment when a fresh connection would work to a node that is well.
pub(super) const DEADLINE: Duration = Duration::from_secs(5);

const EVENT: &str = r#"{"type":"order.status_changed","payload":{}}"#;

pub(super) struct Rig {
    pub(super) proxy: Proxy,
    servers: [Redis; 2],
    primary: usize,
    node: Node,
    member: Client,
    record: Record,
    rooms: Vec<String>,
    published: usize,
}

impl Rig {
    pub(super) async fn start() -> Self {
        let servers = [Redis::start().await, Redis::start().await];
        servers[1].follow(Some(&servers[0])).await;
        let proxy = Proxy::to(servers[0].address()).await;
        let node = Node::on(&proxy.url()).await;
        let rooms = vec!["order:r".to_owned()];
        let mut member = Client::connect(node.main(), &token::staff()).await;
        let record = Record::begin("the member".to_owned(), &mut member, &rooms).await;
        Self { proxy, servers, primary: 0, node, member, record, rooms, published: 0 }
    }

    pub(super) fn primary(&self) -> &Redis {
        &self.servers[self.primary]
    }

    /// A service publishes an event, and adds one to the ingest stream; it reaches Redis by its own way.
    pub(super) async fn publish(&mut self) {
        self.published += 1;
        let id = format!("direct-{}", self.published);
        self.primary().fcall(&["order:r"], EVENT, &["ID", &id]).await.expect("the primary is up");
        self.add(&format!("added-{}", self.published)).await;
    }

    async fn add(&self, id: &str) {
        let mut add = redis::cmd("XADD");
        add.arg(&["hallway:ingest", "*", "room", "order:r", "type", "order.status_changed", "payload", "{}", "id", id]);
        add.exec_async(&mut self.primary().client().await).await.expect("the primary is up");
    }

    /// The replica has everything, takes the primary's place, and the address moves; connections that stand stay where they are.
    pub(super) async fn promote_the_replica(&mut self) {
        let (old, new) = (self.primary, 1 - self.primary);
        // What the node itself has yet to publish would be lost with a primary that is demoted before it was replicated.
        self.hears(&format!("added-{}", self.published)).await;
        let (wait, mut admin) = (redis::cmd("WAIT").arg(1).arg(5000).to_owned(), self.primary().client().await);
        let replicas: i64 = wait.query_async(&mut admin).await.expect("the primary is up");
        assert_eq!(replicas, 1, "the replica has everything");
        self.servers[new].follow(None).await;
        self.servers[old].follow(Some(&self.servers[new])).await;
        self.primary = new;
        self.proxy.redirect(self.servers[new].address());
    }

    /// As [`promote_the_replica`](Self::promote_the_replica), by the primary's own `FAILOVER`.
    pub(super) async fn fail_over(&mut self) {
        let new = &self.servers[1 - self.primary];
        let mut failover = redis::cmd("FAILOVER");
        failover.arg("TO").arg("127.0.0.1").arg(new.address().port());
        failover.exec_async(&mut self.primary().client().await).await.expect("the primary is up");
        eventually("the replica is the primary", || async { new.is_primary().await.then_some(()) }).await;
        self.primary = 1 - self.primary;
        self.proxy.redirect(self.primary().address());
    }

    /// Asks for the events of the room; the status of the answer.
    pub(super) async fn reads(&self) -> u16 {
        self.node.get("/v1/rooms/order:r/events?since=0").await.0
    }

    pub(super) async fn is_not_ready(&self) {
        eventually("the node is not ready", || async { (self.node.readyz().await != 200).then_some(()) }).await;
    }

    /// A fresh connection works from here on: in time the node is ready, publishes, admits, and reads the ingest stream.
    pub(super) async fn is_well(&mut self, after: &str) {
        let began = Instant::now();
        let left = || DEADLINE.saturating_sub(began.elapsed());
        self.published += 1;
        let added = format!("added-{}", self.published);
        self.add(&added).await;
        let ready = || async { (self.node.readyz().await == 200).then_some(()) };
        within(left(), &format!("{after}: ready"), ready).await;
        let ready_in = began.elapsed();
        let posted = format!("posted-{}", self.published);
        let body = format!(r#"{{"room":"order:r","type":"order.status_changed","id":"{posted}","payload":{{}}}}"#);
        let publishes = || async { (self.node.post("/v1/publish", body.clone()).await.0 == 200).then_some(()) };
        within(left(), &format!("{after}: publishes"), publishes).await;
        within(left(), &format!("{after}: admits"), || self.admits()).await;
        for id in [&added, &posted] {
            self.hears(id).await;
        }
        let linked = || async { (self.node.metric("hallway_redis_link_up").await >= 8.0).then_some(()) };
        within(left(), &format!("{after}: all links are up"), linked).await;
        let figures = format!("{after}: ready in {ready_in:.1?}, well in {:.1?}\n", began.elapsed());
        std::io::stderr().write_all(figures.as_bytes()).ok();
        assert!(began.elapsed() < DEADLINE, "{after}: well in {:?}", began.elapsed());
    }

    async fn admits(&self) -> Option<()> {
        let mut newcomer = Client::connect(self.node.main(), &token::staff()).await;
        let room = format!("order:{}", self.published);
        let reply = newcomer.call("join_room", &format!(r#"{{"room":"{room}"}}"#)).await;
        (reply["ok"] == true).then_some(())
    }

    async fn hears(&mut self, id: &str) {
        if !self.record.events.iter().any(|event| event["id"] == id) {
            self.record.take_until(&mut self.member, id).await;
        }
    }

    /// The member has heard everything that is in the history, once, in order.
    pub(super) async fn lost_nothing(mut self) {
        self.publish().await;
        for id in [format!("direct-{}", self.published), format!("added-{}", self.published)] {
            self.hears(&id).await;
        }
        self.member.nothing_came().await;
        let histories = Histories::read(self.primary(), &self.rooms).await;
        histories.check(&self.record);
    }
}
