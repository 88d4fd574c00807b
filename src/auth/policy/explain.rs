//! Explaining a policy decision to humans: the rule, its inputs, and the result.

use std::fmt;

use serde::Serialize;
use serde_json::{Map, Value as Json};

use super::{Classes, Policy, PolicyRule, Refusal, Room};
use crate::auth::action::Action;
use crate::auth::claims::Claims;
use crate::auth::token::{TokenError, Verifier};
use crate::clock::now_ms;

/// The parts that explain the decision about a token.
#[derive(Clone, Copy)]
pub struct PolicyExplainer<'a> {
    /// Verifies the token.
    pub verifier: &'a Verifier,
    /// The configured room classes.
    pub classes: &'a Classes,
    /// The rules.
    pub policy: &'a Policy,
    /// Whether a token has been revoked.
    pub revoked: &'a (dyn Fn(&Claims) -> bool + Sync),
}

impl fmt::Debug for PolicyExplainer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PolicyExplainer({:?})", self.policy)
    }
}

/// A decision with its reasons.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyExplanation {
    /// Whether the token permits a join of the room.
    pub allowed: bool,
    /// Why not: `token-expired`, `token-revoked`, `token-invalid`, `invalid-room`, `forbidden`, or `unavailable` when
    /// the authorizer or the keys were.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// The fault of the token, or why the rule could not be evaluated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The form of the room's class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// The condition in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// The claims that the rule names and the token has, the room's parts, the time, and the values derived from
    /// them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub saw: Option<Map<String, Json>>,
    /// The authorizer's answer: `allowed`, `forbidden` or `unavailable`. Absent when it was not asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authorizer: Option<&'static str>,
    /// Whether the join is allowed only because of dev mode.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dev: bool,
}

impl PolicyExplanation {
    fn for_denial(reason: &'static str, message: Option<String>) -> Self {
        Self { reason: Some(reason), message, ..Self::default() }
    }
}

impl PolicyExplainer<'_> {
    /// Explains whether the token permits a join of the room `key`, as if it were presented at this moment.
    pub async fn explain(&self, token: &str, key: &str) -> PolicyExplanation {
        let claims = match self.verifier.verify(token, now_ms()).await {
            Ok(claims) => claims,
            Err(error) => return PolicyExplanation::for_denial(token_reason(&error), Some(error.to_string())),
        };
        // As at a CONNECT: a revoked token is refused before the room matters.
        if (self.revoked)(&claims) {
            return PolicyExplanation::for_denial("token-revoked", None);
        }
        match self.classes.find_room(key) {
            Ok(room) => self.policy.explain(&claims, &room).await,
            Err(error) => PolicyExplanation::for_denial("invalid-room", Some(error.to_string())),
        }
    }
}

fn token_reason(error: &TokenError) -> &'static str {
    match error {
        TokenError::Expired => "token-expired",
        TokenError::KeysUnavailable => Refusal::Unavailable.code(),
        TokenError::TooLong
        | TokenError::Malformed(_)
        | TokenError::Algorithm
        | TokenError::Signature
        | TokenError::UnknownKey
        | TokenError::NotYetValid(_)
        | TokenError::Issuer
        | TokenError::Audience
        | TokenError::Claim(_)
        | TokenError::LivesTooLong => "token-invalid",
    }
}

impl Policy {
    async fn explain(&self, claims: &Claims, room: &Room) -> PolicyExplanation {
        let Some(rule) = self.rule(room) else { return PolicyExplanation::for_denial("forbidden", None) };
        let mut explanation = self.explain_rule(claims, room, rule);
        // As at a join: the authorizer is asked only about what the rule allows, and never in dev mode.
        if explanation.allowed && rule.authorized && !self.open {
            let answer = self.ask_authorizer(claims, room, Action::Join).await.map_err(Refusal::code);
            explanation.authorizer = Some(answer.err().unwrap_or("allowed"));
            explanation.reason = answer.err();
            explanation.allowed = answer.is_ok();
        }
        explanation
    }

    fn explain_rule(&self, claims: &Claims, room: &Room, rule: &PolicyRule) -> PolicyExplanation {
        let facts = self.facts(&rule.join, claims, Some((rule, room)));
        let judged = rule.join.judge_facts(&facts);
        // Judged in dev mode as well, so that the rule can be tested there.
        let allowed = self.open || judged == Ok(true);
        PolicyExplanation {
            allowed,
            reason: (!allowed).then_some(Refusal::Forbidden.code()),
            class: Some(rule.class.to_string()),
            rule: Some(rule.join.text().to_owned()),
            saw: Some(rule.join.describe_inputs(&facts)),
            dev: self.open && judged != Ok(true),
            message: judged.err().map(|failure| failure.to_string()),
            authorizer: None,
        }
    }
}
