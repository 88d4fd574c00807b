//! `hallway health`: asks `/readyz` of the gateway on this machine, for a container's health check. Docker knows two
//! exit codes, so every failure exits with 1, with one sentence on stderr.

use std::net::SocketAddr;
use std::process::ExitCode;

use reqwest::Client;
use reqwest::redirect::Policy;
use serde_json::Value;

use super::local::{innermost, reachable_address};
use super::{HealthArgs, print, print_error};
use crate::config::{Config, environment};

pub(super) fn run(args: &HealthArgs) -> ExitCode {
    match check_gateway(args) {
        Ok(()) => print("ready\n"),
        Err(problem) => {
            print_error(&problem);
            ExitCode::FAILURE
        }
    }
}

fn check_gateway(args: &HealthArgs) -> Result<(), String> {
    let file = args.config.config.as_deref();
    let admin = Config::load_admin(file, environment()).map_err(|errors| errors.to_string())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("this process cannot run: {error}"))?;
    runtime.block_on(ask_readyz(reachable_address(admin.listen), args))
}

async fn ask_readyz(address: SocketAddr, args: &HealthArgs) -> Result<(), String> {
    let url = format!("http://{address}/readyz");
    let silent = |error: reqwest::Error| {
        let why = innermost(&error);
        format!("{url} does not answer: {why}; start the gateway, or set admin.listen to where it listens")
    };
    // A proxy from the environment has another loopback, and the system's certificates may be absent.
    let builder = Client::builder().no_proxy().tls_certs_only([]).redirect(Policy::none());
    let client = builder.timeout(args.timeout).build();
    let response = client.map_err(silent)?.get(&url).send().await.map_err(silent)?;
    let status = response.status().as_u16();
    let body = response.text().await.map_err(silent)?;
    match (status, serde_json::from_str::<Value>(&body)) {
        (200, Ok(said)) if said["ready"] == true => Ok(()),
        // Answered by a gateway, so its own checks say more than the status.
        (_, Ok(said)) if said["checks"].is_object() => Err(format!("not ready: {}", describe_failing(&said["checks"]))),
        (_, Ok(_) | Err(_)) => Err(format!("what answers at {url} (status {status}) is no gateway; see admin.listen")),
    }
}

/// The failing checks, each with its failure.
fn describe_failing(checks: &Value) -> String {
    let failing = checks.as_object().into_iter().flatten().filter(|(_, check)| check["ready"] == false);
    let said = failing.map(|(name, check)| {
        let problem = check["problem"].as_str();
        problem.map_or_else(|| name.clone(), |problem| format!("{name} ({problem})"))
    });
    said.collect::<Vec<_>>().join(", ")
}
