//! The official clients: socket.io-client 4.8 and python-socketio 5, unmodified, against a gateway on a real Redis.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::json;

use crate::harness::node::Node;
use crate::harness::redis::Redis;
use crate::harness::token::{self, API_KEY, SECRET};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e")
}

fn agent(id: &str) -> String {
    token::with(json!({"sub": "courier", "role": "agent", "agentId": id}))
}

/// Runs a script with all it needs to know in its environment.
async fn run(program: PathBuf, script: &str) {
    let redis = Redis::start().await;
    let node = Node::on(&redis.url()).await;
    let expired = token::with(json!({"sub": "u1", "iat": token::now_s() - 120, "exp": token::now_s() - 60}));
    let good = token::user("u1");
    let (signed, _) = good.rsplit_once('.').expect("a token has three parts");
    let mut command = Command::new(&program);
    command
        .current_dir(folder())
        .arg(script)
        .env("E2E_ADDRESS", node.main().to_string())
        .env("E2E_ADMIN", node.admin().to_string())
        .env("E2E_REDIS", redis.url())
        .env("E2E_API_KEY", API_KEY)
        .env("E2E_SECRET", SECRET)
        .env("E2E_FORGED_TOKEN", format!("{signed}.{}", "A".repeat(43)))
        .env("E2E_TOKEN", &good)
        .env("E2E_AGENT_TOKEN", agent("a1"))
        .env("E2E_NEXT_AGENT_TOKEN", agent("a2"))
        .env("E2E_EXPIRED_TOKEN", expired);
    let done = tokio::task::spawn_blocking(move || command.output()).await.expect("the script is waited for");
    let Output { status, stdout, stderr } =
        done.unwrap_or_else(|error| panic!("{} does not run ({error}); ./check installs it", program.display()));
    let (said, complained) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(
        status.success(),
        "{script} ended with {status}\n{said}{complained}\nthe gateway's log:\n{:#?}",
        node.log()
    );
}

/// Fails with what to do where ./check has not run.
fn installed(what: &str) -> PathBuf {
    let path = folder().join(what);
    assert!(path.exists(), "tests/e2e/{what} is missing: ./check installs it");
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn the_javascript_client_gets_everything_it_is_promised() {
    installed("node_modules/socket.io-client");
    run(PathBuf::from("node"), "node.mjs").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_python_client_gets_everything_it_is_promised() {
    run(installed(".venv/bin/python"), "python.py").await;
}
