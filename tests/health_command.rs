//! `hallway health`: what a container's health check hears of the gateway beside it.

use std::io::Write;
use std::net::TcpListener;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::NamedTempFile;

use crate::harness::node::Node;
use crate::harness::redis::Redis;
use crate::harness::token::SECRET;
use crate::harness::{eventually, free_address};

/// Runs the command with nothing but these variables in its environment, as a container would.
fn health(arguments: &[&str], settings: &[(&str, &str)]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hallway"));
    command.arg("health").args(arguments).env_clear().envs(settings.iter().copied());
    let Output { status, stdout, stderr } = command.output().expect("the command runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text").trim_end().to_owned();
    (status.code().expect("no signal"), text(stdout), text(stderr))
}

/// Asserts exit 1 and one sentence that has these words.
#[track_caller]
fn ails(words: &[&str], arguments: &[&str], settings: &[(&str, &str)]) {
    let (code, said, complained) = health(arguments, settings);
    assert_eq!((code, said.as_str()), (1, ""), "{complained}");
    for word in words {
        assert!(complained.contains(word), "{word}: {complained}");
    }
}

/// A gateway whose admin listener is anywhere.
struct Gateway(Child);

impl Gateway {
    fn start(admin: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hallway"));
        command.arg("serve").env("HALLWAY_ADMIN__LISTEN", admin).env("HALLWAY_AUTH__HS256_SECRET", SECRET);
        command.env("HALLWAY_SERVER__LISTEN", free_address().to_string()).stderr(Stdio::null());
        Self(command.spawn().expect("the gateway starts"))
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[tokio::test]
async fn a_ready_gateway_is_found_wherever_it_listens() {
    for host in ["127.0.0.1", "0.0.0.0", "[::1]", "[::]"] {
        let listen = format!("{host}:{}", free_address().port());
        let _gateway = Gateway::start(&listen);
        let found = || async { (health(&[], &[("HALLWAY_ADMIN__LISTEN", &listen)]).0 == 0).then_some(()) };
        eventually(&format!("{listen} is ready"), found).await;

        let mut file = NamedTempFile::new().expect("a temporary file");
        writeln!(file, "[admin]\nlisten = \"{listen}\"\n[auth]\nissuer = 5").expect("room on the disk");
        let path = file.path().to_str().expect("UTF-8");
        // What is wrong in other sections is not judged, and no proxy is asked.
        let elsewhere = [("HALLWAY_API__LISTEN", "nonsense"), ("HTTP_PROXY", "http://127.0.0.1:1")];
        assert_eq!(health(&["--config", path], &elsewhere), (0, "ready".to_owned(), String::new()));
    }
}

#[tokio::test]
async fn a_gateway_that_is_not_ready_says_why() {
    let mut redis = Redis::start().await;
    let node = Node::on(&redis.url()).await;
    let admin = node.admin().to_string();
    redis.kill();
    eventually("the node is not ready", || async { (node.readyz().await == 503).then_some(()) }).await;
    ails(&["not ready: ", "broker (", "Redis"], &[], &[("HALLWAY_ADMIN__LISTEN", &admin)]);
    let main = node.main().to_string();
    ails(&["is no gateway", "admin.listen"], &[], &[("HALLWAY_ADMIN__LISTEN", &main)]);
}

#[test]
fn where_nothing_answers_the_check_fails_in_time() {
    let nowhere = free_address().to_string();
    ails(&["does not answer", "refused", "start the gateway"], &[], &[("HALLWAY_ADMIN__LISTEN", &nowhere)]);
    ails(&["admin.listen", "HALLWAY_ADMIN__LISTEN"], &[], &[("HALLWAY_ADMIN__LISTEN", "nonsense")]);
    ails(&["cannot be read"], &["--config", "/nowhere"], &[]);

    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = silent.local_addr().expect("bound").to_string();
    let began = Instant::now();
    ails(&["does not answer"], &["--timeout", "200ms"], &[("HALLWAY_ADMIN__LISTEN", &address)]);
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}
