//! The command line. Output for programs goes to stdout, everything else to stderr. A bad configuration exits with 64
//! and reports all of its mistakes.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::{Config, ConfigErrors, DevHost, Mode, environment, parse_duration};
use crate::gateway::{Gateway, process_shortage};
use crate::logs;
use crate::metrics;

mod health;
mod local;
mod policy;
mod publish;
mod serve;
mod signals;
mod token;
mod welcome;

/// The exit code of a bad configuration (`EX_USAGE`).
const EXIT_CONFIG: u8 = 64;

/// A Socket.IO-compatible, room-based realtime gateway.
#[derive(Debug, Parser)]
#[command(name = "hallway", version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: CliCommand,
}

#[derive(Debug, Subcommand)]
enum CliCommand {
    /// Run the gateway.
    Serve {
        #[command(flatten)]
        config: ConfigFile,
        /// Development: a fixed secret, open rooms, loopback only, and commands to copy.
        #[arg(long)]
        dev: bool,
        /// A further name or address that devices have for this machine, such as 10.0.2.2 for the Android emulator; may be
        /// repeated. With it `server.listen` may be an address of the local network, for a phone.
        #[arg(long = "dev-host", value_name = "NAME", requires = "dev")]
        dev_hosts: Vec<DevHost>,
    },
    /// Print a token, signed with the configured (or the dev) secret.
    Token(TokenArgs),
    /// Publish an event and print what became of it; over the configured Redis, or else by HTTP.
    Publish(PublishArgs),
    /// Say whether a token opens a room, and why.
    Policy(PolicyArgs),
    /// Say everything that is wrong with the configuration, or who may join what by it.
    CheckConfig {
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Say whether the gateway of this machine is ready: exit 0 if it is, 1 if not. For a container's health check.
    Health(HealthArgs),
    /// Print a documented example configuration.
    ExampleConfig,
    /// Print a page of the documentation.
    Reference {
        /// Which one.
        page: ReferencePage,
    },
    /// Print the Lua library that a locked-down Redis needs loaded.
    RedisFunction {
        #[command(flatten)]
        config: ConfigFile,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ReferencePage {
    /// Every metric: its meaning, unit and labels.
    Metrics,
    /// Every log event: its name, level and meaning.
    Logs,
    /// Every key of the configuration: its type, default and meaning.
    Configuration,
}

#[derive(Args, Debug)]
struct ConfigFile {
    /// The TOML file; the environment (`HALLWAY_SECTION__KEY`) goes over it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Args, Debug)]
struct TokenArgs {
    #[command(flatten)]
    config: ConfigFile,
    /// The user's id.
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    sub: String,
    /// The user's role.
    #[arg(long)]
    role: Option<String>,
    /// A further claim; the value is JSON, or else a string.
    #[arg(long = "claim", value_name = "KEY=JSON")]
    claims: Vec<String>,
    /// How long it is good for; 1h unless said, or `auth.max_token_ttl` where that is shorter.
    #[arg(long, value_parser = parse_duration)]
    ttl: Option<Duration>,
}

#[derive(Args, Debug)]
struct HealthArgs {
    #[command(flatten)]
    config: ConfigFile,
    /// How long the answer may take.
    #[arg(long, default_value = "3s", value_parser = parse_duration)]
    timeout: Duration,
}

#[derive(Args, Debug)]
struct PolicyArgs {
    #[command(flatten)]
    config: ConfigFile,
    /// Use what `serve --dev` uses.
    #[arg(long)]
    dev: bool,
    /// The token, which is not printed; `-` reads it from standard input.
    #[arg(long, value_name = "TOKEN")]
    token: String,
    /// The room, such as `order:ord_123`.
    #[arg(long, value_name = "ROOM")]
    room: String,
}

#[derive(Args, Debug)]
struct PublishArgs {
    #[command(flatten)]
    config: ConfigFile,
    /// Use what `serve --dev` uses.
    #[arg(long)]
    dev: bool,
    /// The rooms, such as `order:ord_123`.
    #[arg(required = true, value_name = "ROOM")]
    rooms: Vec<String>,
    /// What happened, such as `order.status_changed`.
    #[arg(long = "type", value_name = "TYPE")]
    kind: String,
    /// Any JSON; `-` reads it from standard input.
    #[arg(long, value_name = "JSON", allow_negative_numbers = true, value_parser = publish::payload)]
    payload: String,
    /// Names the event, so that trying again stores it once.
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// How urgent it is.
    #[arg(long, ignore_case = true, value_parser = ["LOW", "NORMAL", "HIGH", "CRITICAL"])]
    priority: Option<String>,
    /// A JSON object to pass on as `meta`.
    #[arg(long, value_name = "JSON", value_parser = publish::meta)]
    meta: Option<String>,
    /// Ask receivers to acknowledge it.
    #[arg(long)]
    requires_ack: bool,
    /// Publish over this Redis.
    #[arg(long, value_name = "URL", conflicts_with = "http")]
    redis: Option<String>,
    /// Publish by HTTP to this gateway.
    #[arg(long, value_name = "URL")]
    http: Option<String>,
    /// The API key, in the place of the configured one.
    #[arg(long, value_name = "API_KEY")]
    key: Option<String>,
}

impl Cli {
    /// Runs the command.
    #[must_use]
    pub fn run(self) -> ExitCode {
        match self.command {
            CliCommand::Serve { config, dev, dev_hosts } => serve::run(config.config.as_deref(), dev, &dev_hosts),
            CliCommand::Token(args) => token::run(&args),
            CliCommand::Publish(args) => publish::run(&args),
            CliCommand::Policy(args) => policy::run(&args),
            CliCommand::CheckConfig { config } => check_config(config.config.as_deref()),
            CliCommand::Health(args) => health::run(&args),
            CliCommand::ExampleConfig => print(&Config::example()),
            CliCommand::Reference { page: ReferencePage::Metrics } => print(&metrics::page(metrics::TABLE)),
            CliCommand::Reference { page: ReferencePage::Logs } => print(&logs::page()),
            CliCommand::Reference { page: ReferencePage::Configuration } => print(&Config::reference()),
            CliCommand::RedisFunction { config } => print_function(config.config.as_deref()),
        }
    }
}

/// The mode of a command that does not listen.
const fn mode(dev: bool) -> Mode {
    if dev { Mode::DevNamed } else { Mode::Production }
}

/// Loads the configuration, or prints all of its mistakes.
fn load(file: Option<&Path>, mode: Mode) -> Result<Config, ExitCode> {
    Config::load(file, environment(), mode).map_err(|errors| report_config_errors(&errors))
}

fn check_config(file: Option<&Path>) -> ExitCode {
    let config = match load(file, Mode::Production) {
        Ok(config) => config,
        Err(code) => return code,
    };
    // Builds the same as `serve`, so that both come to one verdict.
    match Gateway::try_out(&config).and_then(|()| policy::describe_rules(&config)) {
        Ok(rules) => {
            // A limit that cannot be raised stays, and its consequences are reported all the same.
            raise_open_files().ok();
            process_shortage(&config).iter().for_each(|problem| print_error(problem));
            print(&format!("the configuration is good\n{rules}"))
        }
        Err(error) => {
            print_error(&error.to_string());
            ExitCode::from(EXIT_CONFIG)
        }
    }
}

/// Raises the limit on open files to the system's, and returns it. A shell's soft limit (often 1024) is not meant for
/// connections.
fn raise_open_files() -> std::io::Result<u64> {
    rlimit::increase_nofile_limit(u64::MAX)
}

/// Prints the function. A publishing service needs its settings and not this node's keys, which may be missing here.
fn print_function(file: Option<&Path>) -> ExitCode {
    match load_for_publishing(file) {
        Ok(config) => print(crate::gateway::build_function(&config).code()),
        Err(errors) => report_config_errors(&errors),
    }
}

fn report_config_errors(errors: &ConfigErrors) -> ExitCode {
    print_error(&errors.to_string());
    ExitCode::from(EXIT_CONFIG)
}

/// Loads a configuration for publishing, which verifies no token.
fn load_for_publishing(file: Option<&Path>) -> Result<Config, ConfigErrors> {
    Config::load_without_keys(file, environment())
        .or_else(|errors| Config::load(file, environment(), Mode::Dev).map_err(|_| errors))
}

/// Loads a configuration that need not be able to serve: without keys it is dev mode's.
fn load_leniently(file: Option<&Path>) -> Result<Config, ConfigErrors> {
    Config::load(file, environment(), Mode::Production)
        .or_else(|errors| Config::load(file, environment(), Mode::Dev).map_err(|_| errors))
}

#[expect(clippy::print_stdout, reason = "stdout is what this command is for")]
fn print(text: &str) -> ExitCode {
    print!("{text}");
    ExitCode::SUCCESS
}

#[expect(clippy::print_stderr, reason = "there may be no log yet, and this is for a person")]
fn print_error(text: &str) {
    eprintln!("{}", text.trim_end());
}
