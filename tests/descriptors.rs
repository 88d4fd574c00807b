//! Descriptors: strangers who open more connections than the node may have files leave some for Redis, for the operators and
//! for those who were there before.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::harness::client::Client;
use crate::harness::node::Node;
use crate::harness::redis::Redis;
use crate::harness::token::SECRET;
use crate::harness::{PATIENCE, eventually, http, token};

/// The hard limit on the node's open files.
const FILES: usize = 256;
/// More than it may have.
const STRANGERS: usize = FILES * 2;

const UPGRADE: &str = "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const READY: &str = "GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

/// The same command, with so many open files.
fn limited(command: &Command) -> Command {
    let mut limited = Command::new("sh");
    limited.args(["-c", &format!("ulimit -n {FILES}; exec \"$0\" \"$@\"")]);
    limited.arg(command.get_program()).args(command.get_args());
    limited.envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
    limited.stdout(Stdio::null()).stderr(Stdio::piped());
    limited
}

async fn node(settings: &[(&str, &str)]) -> Node {
    Node::changed(settings, |command| *command = limited(command)).await
}

/// They open connections and say nothing, or make transports of them and never show a token.
async fn strangers(at: SocketAddr) -> Vec<TcpStream> {
    let mut strangers = Vec::new();
    for number in 0..STRANGERS {
        let mut stranger = TcpStream::connect(at).await.expect("the kernel takes it");
        if number % 2 == 0 {
            // It may be closed already.
            stranger.write_all(UPGRADE.as_bytes()).await.ok();
        }
        strangers.push(stranger);
    }
    strangers
}

/// The status that an address of this machine gets from a listener; 0 where it is closed without one.
async fn status(from: [u8; 4], at: SocketAddr, request: &str) -> u16 {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::from((Ipv4Addr::from(from), 0))).expect("all of 127/8 is this machine");
    let mut stream = socket.connect(at).await.expect("the kernel takes it");
    stream.write_all(request.as_bytes()).await.ok();
    let mut head = [0; 12];
    let read = timeout(PATIENCE, stream.read_exact(&mut head)).await.expect("an answer or the end, in time");
    let status = read.ok().and_then(|_| std::str::from_utf8(&head[9..]).ok()?.parse().ok());
    status.unwrap_or(0)
}

/// Without the harness' table, which `/metrics` of another version may not fit.
async fn turned_away(node: &Node) -> Option<u64> {
    let text = http().get(format!("http://{}/metrics", node.admin())).send().await.ok()?.text().await.ok()?;
    let lead = "hallway_over_limit_total{limit=\"descriptors\"} ";
    text.lines().find_map(|line| line.strip_prefix(lead)?.parse().ok()).filter(|count| *count > 0)
}

async fn kill_links(redis: &Redis) {
    for kind in ["normal", "pubsub"] {
        let mut kill = redis::cmd("CLIENT");
        let killed: u32 =
            kill.arg("KILL").arg("TYPE").arg(kind).query_async(&mut redis.client().await).await.expect("redis is up");
        assert!(killed > 0, "the node has links that are {kind}");
    }
}

/// What a service publishes in Redis reaches the member, and nothing else does.
async fn hears(redis: &Redis, member: &mut Client, id: &str) {
    let event = r#"{"type":"order.status_changed","payload":1}"#;
    redis.fcall(&["order:r"], event, &["ID", id]).await.expect("redis stores it");
    assert_eq!(member.event().await.1["event"]["id"], id);
}

#[tokio::test]
async fn strangers_who_take_all_they_can_get_leave_redis_and_the_operators_theirs() {
    rlimit::increase_nofile_limit(u64::MAX).expect("the limit can be read");
    let mut redis = Redis::start().await;
    let node = node(&[("HALLWAY_REDIS__URL", &redis.url()), ("HALLWAY_SOCKETIO__CONNECT_TIMEOUT", "5m")]).await;
    let mut member = Client::connect(node.main(), &token::user("u1")).await;
    member.join("order:r").await;
    hears(&redis, &mut member, "before").await;
    let strangers = strangers(node.main()).await;
    eventually("some are turned away", || turned_away(&node)).await;
    let told = || node.log().into_iter().filter(|line| line.contains("limit-reached")).collect::<Vec<_>>();
    eventually("the log says so", || async { told().first().filter(|line| line.contains("nofile")).map(drop) }).await;
    // All that are within the bound have come when one that comes behind them is turned away.
    eventually("no more gets in", || async {
        (status([127, 0, 0, 1], node.main(), UPGRADE).await != 101).then_some(())
    })
    .await;
    let open = node.descriptors();
    assert!(open > FILES / 3 && open < FILES - 32, "{open} of {FILES} are open");
    hears(&redis, &mut member, "full").await;
    for round in 0..3 {
        kill_links(&redis).await;
        hears(&redis, &mut member, &format!("killed-{round}")).await;
        node.ready().await;
    }
    // While it is away, strangers who wait to be let in could take what its links gave back.
    redis.kill();
    eventually("the node misses it", || async { (node.readyz().await == 503).then_some(()) }).await;
    redis.restart().await;
    node.ready().await;
    hears(&redis, &mut member, "restarted").await;
    assert!(!node.log().iter().any(|line| line.contains("accept-failed")), "it never ran out");
    assert_eq!(told().len(), 1, "once a minute");
    drop(strangers);
    eventually("newcomers get in", || async {
        (status([127, 0, 0, 1], node.main(), UPGRADE).await == 101).then_some(())
    })
    .await;
    eventually("the descriptors are back", || async { (node.descriptors() < FILES / 3).then_some(()) }).await;
    Client::connect(node.main(), &token::user("u2")).await.join("order:r").await;
    hears(&redis, &mut member, "after").await;
    member.nothing_came().await;
}

#[tokio::test]
async fn strangers_who_say_nothing_are_closed_in_time_and_newcomers_get_in() {
    rlimit::increase_nofile_limit(u64::MAX).expect("the limit can be read");
    let brief = [
        ("HALLWAY_SOCKETIO__CONNECT_TIMEOUT", "5s"),
        ("HALLWAY_API__BODY_TIMEOUT", "1s"),
        ("HALLWAY_REDIS__RESPONSE_TIMEOUT", "1s"),
    ];
    let node = node(&brief).await;
    let strangers = strangers(node.main()).await;
    eventually("some are turned away", || turned_away(&node)).await;
    eventually("newcomers get in", || async {
        (status([127, 0, 0, 1], node.main(), UPGRADE).await == 101).then_some(())
    })
    .await;
    assert_eq!(strangers.len(), STRANGERS, "they are still there");
}

#[tokio::test]
async fn strangers_at_the_admin_listener_keep_out_neither_clients_nor_redis_nor_other_operators() {
    rlimit::increase_nofile_limit(u64::MAX).expect("the limit can be read");
    let redis = Redis::start_forgetful().await;
    let node = node(&[("HALLWAY_REDIS__URL", &redis.url()), ("HALLWAY_ADMIN__IDLE_TIMEOUT", "5m")]).await;
    let mut member = Client::connect(node.main(), &token::user("u1")).await;
    member.join("order:r").await;
    let strangers = strangers(node.admin()).await;
    kill_links(&redis).await;
    hears(&redis, &mut member, "killed").await;
    Client::connect(node.main(), &token::user("u2")).await.join("order:r").await;
    eventually("another address is answered", || async {
        (status([127, 0, 0, 2], node.admin(), READY).await == 200).then_some(())
    })
    .await;
    assert!(!node.log().iter().any(|line| line.contains("accept-failed")), "it never ran out");
    drop(strangers);
    node.ready().await;
    member.nothing_came().await;
}

/// What `check-config` says to a person, where it calls a configuration good.
fn checked(connections: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hallway"));
    command.arg("check-config").env("HALLWAY_AUTH__HS256_SECRET", SECRET);
    command.env("HALLWAY_LIMITS__CONNECTIONS", connections);
    let output = limited(&command).stdout(Stdio::piped()).output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn a_bound_on_connections_beyond_the_descriptors_is_told_by_check_config_and_at_the_start() {
    let said = checked("5000");
    assert!(said.contains("limits.connections") && said.contains("LimitNOFILE"), "{said:?}");
    assert!(said.contains(&format!("{FILES} open files")), "{said:?}");
    assert_eq!(checked("50"), "");
    let told = async |connections| {
        let node = node(&[("HALLWAY_LIMITS__CONNECTIONS", connections)]).await;
        let told: Vec<String> = node.log().into_iter().filter(|line| line.contains("descriptors-few")).collect();
        (told, node.metric("hallway_connections_limit").await)
    };
    let (lines, bound) = told("5000").await;
    assert!(matches!(&lines[..], [line] if line.contains("limits.connections")), "{lines:?}");
    assert!(bound > 50.0 && bound < 200.0, "what there is room for: {bound}");
    let (lines, bound) = told("50").await;
    assert!(lines.is_empty() && (bound - 50.0).abs() < 0.5, "{lines:?} {bound}");
}
