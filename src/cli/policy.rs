//! `hallway policy`: whether a token opens a room, and why. The token is never printed. Revocations are known to a
//! running node alone.

use std::io::Read;
use std::process::ExitCode;

use tokio_util::sync::CancellationToken;

use super::{EXIT_CONFIG, PolicyArgs, load, mode, print, print_error};
use crate::auth::policy::{Policy, PolicyExplainer, PolicyExplanation};
use crate::config::{Config, Mode};
use crate::gateway;

/// Bytes read from standard input: more than any token.
const MOST_INPUT: u64 = 64 * 1024;

pub(super) fn run(args: &PolicyArgs) -> ExitCode {
    let config = match load(args.config.config.as_deref(), mode(args.dev)) {
        Ok(config) => config,
        Err(code) => return code,
    };
    match explain(args, &config) {
        Ok(explanation) => {
            print(&describe(&explanation));
            if explanation.allowed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(problem) => {
            print_error(&problem.to_string());
            ExitCode::from(EXIT_CONFIG)
        }
    }
}

fn explain(args: &PolicyArgs, config: &Config) -> Result<PolicyExplanation, gateway::StartError> {
    let token = if args.token == "-" { standard_input()? } else { args.token.clone() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let classes = gateway::build_classes(config)?;
        let policy = gateway::build_policy(config, mode(args.dev), CancellationToken::new())?;
        let verifier = gateway::build_verifier(config)?;
        // No revocation list here, so a revoked token looks valid.
        let explainer =
            PolicyExplainer { verifier: &verifier, classes: &classes, policy: &policy, revoked: &|_| false };
        Ok(explainer.explain(token.trim(), &args.room).await)
    })
}

fn standard_input() -> Result<String, gateway::StartError> {
    let mut token = String::new();
    std::io::stdin().take(MOST_INPUT).read_to_string(&mut token)?;
    Ok(token)
}

fn describe(explanation: &PolicyExplanation) -> String {
    let mut text = if explanation.allowed { "allowed\n" } else { "denied\n" }.to_owned();
    let mut say = |what: &str, said: Option<&str>| {
        said.iter().for_each(|said| text.push_str(&format!("{what}: {}\n", said.trim())));
    };
    say("why", explanation.reason);
    say("because", explanation.message.as_deref());
    say("class", explanation.class.as_deref());
    say("rule", explanation.rule.as_deref());
    for (name, value) in explanation.saw.iter().flatten() {
        say(&format!("saw {name}"), Some(&value.to_string()));
    }
    say("authorizer", explanation.authorizer);
    say("dev mode", explanation.dev.then_some("open to all; in production the rule would not let this token in"));
    text
}

/// Every class with its rule, for `hallway check-config`.
pub(super) fn describe_rules(config: &Config) -> Result<String, gateway::StartError> {
    Ok(table(&gateway::build_policy(config, Mode::Production, CancellationToken::new())?))
}

fn table(policy: &Policy) -> String {
    let width = policy.rules().iter().map(|rule| rule.class.to_string().len()).max().unwrap_or_default();
    let lines = policy.rules().iter().map(|rule| {
        let then = if rule.authorized { "   (then the authorizer)" } else { "" };
        let from = match (rule.class.same_shape(&rule.form), rule.own) {
            // The rule comes from a wider class, whose form has the names used in it.
            (false, _) => format!("   (as {})", rule.form),
            (true, true) => String::new(),
            (true, false) => "   (default)".to_owned(),
        };
        format!("  {:width$}  {}{from}{then}\n", rule.class.to_string(), rule.join.text())
    });
    format!(
        "who may join, and read the history of:\n{}who may report a location: {}\n",
        lines.collect::<String>(),
        policy.locate_condition().text()
    )
}
