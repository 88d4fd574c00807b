//! `hallway serve`: loads, builds, announces its listeners, and stops in order.

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;

use super::signals::Signals;
use super::{load, print_error, welcome};
use crate::config::{Config, DevHost, Log, LogFormat, Mode};
use crate::gateway::{Gateway, StartError};
use crate::logs;
use crate::{metrics, telemetry};

pub(super) fn run(file: Option<&Path>, dev: bool, hosts: &[DevHost]) -> ExitCode {
    let mode = match (dev, hosts) {
        (false, _) => Mode::Production,
        (true, []) => Mode::Dev,
        (true, [_, ..]) => Mode::DevNamed,
    };
    match start(file, mode, hosts) {
        Ok(code) => code,
        Err(problem) => {
            print_error(&format!("hallway cannot serve: {problem}"));
            ExitCode::FAILURE
        }
    }
}

/// Starts and serves. Signals are registered first: until then each of them ends the process.
fn start(file: Option<&Path>, mode: Mode, hosts: &[DevHost]) -> Result<ExitCode, StartError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let signals = runtime.block_on(async { Signals::listen() })?;
    let config = match load(file, mode) {
        Ok(config) => config,
        Err(code) => return Ok(code),
    };
    let outcome = runtime.block_on(serve(config, mode, hosts, signals));
    // A DNS lookup cannot be cancelled, and would hold up the exit.
    runtime.shutdown_background();
    outcome.map(|()| ExitCode::SUCCESS)
}

async fn serve(config: Config, mode: Mode, hosts: &[DevHost], mut signals: Signals) -> Result<(), StartError> {
    telemetry::init(&config.log)?;
    let numbers = metrics::install()?;
    // Logged and not refused: one configuration may serve this version and the next.
    for key in config.not_in_effect() {
        tracing::warn!(event = logs::SETTING_WITHOUT_EFFECT, key, "this setting has no effect in this version");
    }
    // Before the listeners: the limit decides how many connections they take.
    raise_open_files();
    let gateway = Gateway::bind(&config, mode, hosts, numbers)?;
    for address in gateway.addresses() {
        log_listening(&config.log, address);
    }
    // Behind the bind, so that the printed commands name the real port.
    if mode.is_dev() {
        warn_exposed(&gateway.addresses()[..config.server.listen.len()]);
        welcome::print(&config, &gateway)?;
        welcome::print_device_urls(&config, &gateway, hosts);
    }
    signals.asked_to_stop().await;
    tracing::info!(event = logs::STOPPING, "stopping");
    gateway.shutdown(&config.shutdown).await;
    Ok(())
}

/// Warns about dev mode beyond loopback: its public secrets open the gateway to all who can reach it.
fn warn_exposed(addresses: &[SocketAddr]) {
    for address in addresses.iter().filter(|address| !address.ip().is_loopback()) {
        tracing::warn!(
            event = logs::DEV_EXPOSED,
            %address,
            "dev mode listens beyond this machine: all who reach it may act as any user and publish anything"
        );
    }
}

/// Announces a listener: an object for a log collector, a sentence for a human.
fn log_listening(log: &Log, address: &SocketAddr) {
    match log.format {
        LogFormat::Json => tracing::info!(event = logs::LISTENING, %address, "listening"),
        LogFormat::Pretty => print_error(&format!("listening on {address}")),
    }
}

fn raise_open_files() {
    match super::raise_open_files() {
        Ok(open_files) => {
            tracing::info!(event = logs::OPEN_FILES, open_files, "the limit on open files; each connection takes one")
        }
        Err(error) => {
            tracing::warn!(event = logs::OPEN_FILES_FIXED, %error, "the limit on open files could not be raised")
        }
    }
}
