//! The policy: one condition per room class, over a token's claims, the room and the time, and an authorizer behind
//! it where the class asks for one. Nothing fails open: a question that cannot be decided is denied.

use hallway_rooms::class::Classes;
use hallway_rooms::close::Refusal;
use hallway_rooms::form::Form;
use hallway_rooms::key::Room;
use metrics::counter;

use crate::auth::action::Action;
use crate::auth::authorizer::Authorizer;
use crate::auth::claims::Claims;
use crate::clock::now_ms;
use crate::logs;

mod bounds;
mod cost;
pub mod defaults;
mod explain;
mod expression;
mod names;
mod values;

pub use bounds::ExpressionError;
pub use explain::{PolicyExplainer, PolicyExplanation};
pub use expression::{EvaluationError, Expression};
pub use names::RuleSubject;
pub use values::ClaimsTooLarge;

use expression::PolicyInput;

/// The rule of one class.
#[derive(Clone, Debug)]
pub struct PolicyRule {
    /// The form of the class.
    pub class: Form,
    /// The form whose parts are `room` in the condition. It differs from the class's where that inherits the rule of
    /// a wider class.
    pub form: Form,
    /// The condition.
    pub join: Expression,
    /// Whether the authorizer must agree as well.
    pub authorized: bool,
    /// Whether the configuration sets it, rather than a default.
    pub own: bool,
}

impl PolicyRule {
    /// The default rule of a class.
    ///
    /// # Errors
    /// Never: a test compiles the defaults.
    pub fn default_of(form: &Form) -> Result<Self, ExpressionError> {
        let join = Expression::compile(defaults::rule_for(form), RuleSubject::Room(form))?;
        Ok(Self { class: form.clone(), form: form.clone(), join, authorized: false, own: false })
    }
}

/// Decides who may do what. An error inside denies.
#[derive(Debug)]
pub struct Policy {
    /// By class index.
    rules: Vec<PolicyRule>,
    /// The condition for reporting a location.
    locate: Expression,
    /// The roles that `staff` stands for.
    staff_roles: Vec<String>,
    /// Dev mode: every room is open to every user. The condition for locations still applies.
    open: bool,
    /// Asked about rooms whose rule requires it.
    authorizer: Option<Authorizer>,
}

impl Policy {
    /// A policy of one rule per class, in the order of [`Classes::all_classes`].
    #[must_use]
    pub fn new(rules: Vec<PolicyRule>, locate: Expression, staff_roles: Vec<String>) -> Self {
        Self { rules, locate, staff_roles, open: false, authorizer: None }
    }

    /// Sets the authorizer for the rules that require one.
    #[must_use]
    pub fn with_authorizer(self, authorizer: Option<Authorizer>) -> Self {
        Self { authorizer, ..self }
    }

    /// Opens every room to every user: dev mode. The rules are kept for explanations.
    #[must_use]
    pub fn into_open(self) -> Self {
        Self { open: true, ..self }
    }

    /// Every rule.
    #[must_use]
    pub fn rules(&self) -> &[PolicyRule] {
        &self.rules
    }

    /// The condition for reporting a location.
    #[must_use]
    pub fn locate_condition(&self) -> &Expression {
        &self.locate
    }

    /// Whether `claims` permit the action in `room`.
    ///
    /// # Errors
    /// `forbidden`, or `unavailable` when the authorizer gave no answer.
    pub async fn check_access(&self, claims: &Claims, room: &Room, action: Action) -> Result<(), Refusal> {
        // The rule first: a request to the authorizer costs a round trip.
        if !self.rule_allows(claims, room) {
            return Err(Refusal::Forbidden);
        }
        self.ask_authorizer(claims, room, action).await
    }

    /// Whether the rule of the room's class permits it, without asking the authorizer.
    #[must_use]
    pub fn rule_allows(&self, claims: &Claims, room: &Room) -> bool {
        self.open
            || self
                .rule(room)
                .is_some_and(|rule| self.is_true_for(&rule.join, &self.facts(&rule.join, claims, Some((rule, room)))))
    }

    /// Whether the authorizer must agree to joins of `room`.
    #[must_use]
    pub fn is_guarded(&self, room: &Room) -> bool {
        !self.open && self.rule(room).is_some_and(|rule| rule.authorized)
    }

    /// Whether the authorizer agrees, where the room's class requires it.
    ///
    /// # Errors
    /// `forbidden`, or `unavailable` when it gave no answer.
    pub async fn ask_authorizer(&self, claims: &Claims, room: &Room, action: Action) -> Result<(), Refusal> {
        if !self.is_guarded(room) {
            return Ok(());
        }
        match &self.authorizer {
            Some(authorizer) => authorizer.check_access(claims, room, action).await,
            // A rule that requires an authorizer denies without one: nothing fails open.
            None => Err(Refusal::Forbidden),
        }
    }

    /// Whether `claims` may report a location.
    #[must_use]
    pub fn may_locate(&self, claims: &Claims) -> bool {
        self.is_true_for(&self.locate, &self.facts(&self.locate, claims, None))
    }

    fn rule(&self, room: &Room) -> Option<&PolicyRule> {
        self.rules.get(room.class().index())
    }

    fn facts<'a>(
        &self,
        condition: &Expression,
        claims: &'a Claims,
        room: Option<(&'a PolicyRule, &'a Room)>,
    ) -> PolicyInput<'a> {
        PolicyInput {
            claims,
            room: room.map(|(rule, room)| (&rule.form, room.key())),
            // Only where it is asked: the role is a claim, and has to be read.
            staff: condition.uses_staff() && claims.role().is_some_and(|role| self.staff_roles.contains(&role)),
            now_s: i64::try_from(now_ms() / 1000).unwrap_or(i64::MAX),
        }
    }

    fn is_true_for(&self, expression: &Expression, facts: &PolicyInput<'_>) -> bool {
        // Denied, counted, and logged without the claims: an operator reproduces it with `hallway policy`.
        expression.judge_facts(facts).unwrap_or_else(|failure| {
            counter!(crate::metrics::POLICY_FAILURES, "reason" => failure.code()).increment(1);
            let class = facts.room.map(|(form, _)| tracing::field::display(form));
            tracing::debug!(
                event = logs::POLICY_NOT_JUDGED,
                class,
                why = failure.code(),
                "a rule could not be judged, which denies; see `hallway policy`"
            );
            false
        })
    }
}

#[cfg(test)]
mod tests;
