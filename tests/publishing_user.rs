//! The Redis user of a publishing service: the line that `hallway redis-function` prints is all it needs, and the function
//! it is printed with can be loaded.

use std::process::Command;

use redis::aio::MultiplexedConnection;

use crate::harness::redis::Redis;

const EVENT: &str = r#"{"type":"order.status_changed","payload":{"status":"ready"}}"#;
const LOCATION: &str = r#"{"type":"agent.location_updated","payload":{"agentId":"a1","location":{"lat":1,"lng":2}}}"#;

/// What `hallway redis-function` prints.
pub(crate) fn library(prefix: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hallway"));
    let output = command.arg("redis-function").env("HALLWAY_REDIS__PREFIX", prefix).output().expect("it runs");
    assert!(output.status.success());
    String::from_utf8(output.stdout).expect("text")
}

/// The line that makes the user, as it is printed.
fn line(library: &str) -> &str {
    of_user(library, "svc")
}

/// The line that makes the user of this name, as it is printed.
pub(crate) fn of_user<'a>(library: &'a str, user: &str) -> &'a str {
    let lead = format!("SETUSER {user} ");
    let lines = library.lines().filter_map(|line| line.strip_prefix("--   ACL "));
    let lines: Vec<&str> = lines.filter(|line| line.starts_with(&lead)).collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    lines[0]
}

/// A Redis with the library, and a connection of a user with just the printed rights.
async fn with_the_user(prefix: &str) -> (Redis, MultiplexedConnection) {
    let redis = Redis::start().await;
    let library = library(prefix);
    let mut admin = redis.client().await;
    let mut load = redis::cmd("FUNCTION");
    load.arg("LOAD").arg("REPLACE").arg(&library).exec_async(&mut admin).await.expect("it can be loaded");
    let words: Vec<&str> = line(&library).split(' ').collect();
    assert_eq!(words[..4], ["SETUSER", "svc", "on", ">secret"]);
    redis::cmd("ACL").arg(&words).exec_async(&mut admin).await.expect("the line is right");
    let client = redis::Client::open(format!("redis://svc:secret@{}", redis.address())).expect("a url");
    let user = client.get_multiplexed_async_connection().await.expect("the user may connect");
    (redis, user)
}

async fn run(user: &mut MultiplexedConnection, words: &[&str]) -> redis::RedisResult<redis::Value> {
    redis::cmd(words[0]).arg(&words[1..]).query_async(user).await
}

async fn check_publishing(prefix: &str) {
    let (_redis, mut user) = with_the_user(prefix).await;
    let name = format!("{prefix}_publish");
    let key = |room: &str, end: &str| format!("{prefix}:{{{room}}}{end}");
    let (agent, order) = (key("agent:a1", ""), key("order:o1", ""));
    let (history, last) = (key("order:o1", ":history"), key("order:o1", ":last"));
    let odd = key("user:_.~-|@+=%,!$&'()*;/", "");
    let (of_agent, last_of_agent) = (key("agent:a1", ":history"), key("agent:a1", ":last"));
    for event in [EVENT, LOCATION] {
        for words in [
            vec![&name, "1", &order, event, "ID", "e1"],
            vec![&name, "1", &order, event, "ID", "e1"],
            vec![&name, "2", &order, &agent, event],
            vec![&name, "1", &odd, event, "ID", "e1"],
            vec![&name, "2", &agent, &order, event, "ID", "e2", "REQUIRESACK"],
            vec![&name, "2", &history, &last, event, "ID", "e3"],
            vec![&name, "2", &history, &last, event, "ID", "e3", "ROOMS", "order:o1", "agent:a1"],
            vec![&name, "2", &of_agent, &last_of_agent, event, "ID", "e3", "ROOMS", "order:o1", "agent:a1"],
            vec![&name, "4", &history, &last, &of_agent, &last_of_agent, event],
        ] {
            let reply = run(&mut user, &[&["FCALL"], words.as_slice()].concat()).await;
            assert!(reply.is_ok(), "{words:?}: {reply:?}");
        }
    }
}

#[tokio::test]
async fn a_user_with_the_printed_line_can_publish_in_every_form() {
    check_publishing("hallway").await;
    check_publishing("shop").await;
}

#[tokio::test]
async fn a_user_with_the_printed_line_can_do_nothing_else() {
    let (redis, mut user) = with_the_user("hallway").await;
    let mut admin = redis.client().await;
    run(&mut admin, &["SET", "other", "1"]).await.expect("redis is up");
    for words in [
        &["GET", "other"][..],
        &["MGET", "other"],
        &["MGET", "hallway:{order:o1}:last", "other"],
        &["SET", "other", "2"],
        &["SET", "hallway:birth", "0"],
        &["HGETALL", "hallway:nodes"],
        &["HSET", "other", "a", "b"],
        &["XADD", "hallway:ingest", "*", "a", "b"],
        &["XADD", "other:{order:o1}:history", "*", "a", "b"],
        &["PEXPIRE", "other", "1"],
        &["DEL", "hallway:{order:o1}:history"],
        &["XTRIM", "hallway:{order:o1}:history", "MAXLEN", "0"],
        &["PUBLISH", "hallway:control", "x"],
        &["PUBLISH", "other", "x"],
        &["SUBSCRIBE", "hallway:{order:o1}"],
        &["FCALL", "hallway_publish", "1", "shop:{order:o1}", EVENT],
        &["FUNCTION", "LOAD", "REPLACE", "#!lua name=hallway\n"],
        &["FUNCTION", "DELETE", "hallway"],
        &["EVAL", "return 1", "0"],
        &["FLUSHALL"],
        &["FLUSHDB"],
        &["KEYS", "*"],
        &["SCAN", "0"],
        &["CONFIG", "GET", "*"],
        &["ACL", "LIST"],
        &["CLIENT", "LIST"],
        &["CLUSTER", "NODES"],
        &["INFO"],
        &["MONITOR"],
        &["SHUTDOWN"],
    ] {
        let error = run(&mut user, words).await.expect_err("it is refused");
        assert_eq!(error.code(), Some("NOPERM"), "{words:?}: {error}");
    }
}

#[test]
fn the_page_has_the_printed_line() {
    let page = include_str!("../docs/publishing.md");
    let line = format!("ACL {}", line(&library("hallway")));
    assert!(page.lines().any(|shown| shown == line), "write into docs/publishing.md:\n{line}");
}
