//! Who may do what: one condition per room class, judged over the claims of a token, the room and the time; behind it,
//! for the classes that say so, an authorizer. Nothing fails open: whatever cannot be judged is denied.

use hallway_rooms::class::Classes;
use hallway_rooms::close::Refusal;
use hallway_rooms::form::Form;
use hallway_rooms::key::Room;
use metrics::counter;

use crate::auth::authorizer::Authorizer;
use crate::auth::claims::Claims;
use crate::clock::now_ms;
use crate::logs;

mod cost;
pub mod defaults;
mod explain;
mod expression;
mod names;
mod values;

pub use explain::{Desk, Explanation};
pub use expression::{Expression, ExpressionError, Failure, Subject};
pub use values::TooLarge;

use expression::Facts;

/// What somebody wants to do in a room. Rules are the same for all of it; an authorizer is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// To be a member, or to stay one under a new token.
    Join,
    /// To read the history.
    Missed,
}

impl Action {
    /// The action as an authorizer knows it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Join => "join",
            Self::Missed => "missed",
        }
    }
}

/// Who may enter the rooms of one class.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The form of the class.
    pub class: Form,
    /// The form as the condition knows it: its parts are `room`. Another than the class's where that has the rule of a
    /// wider class.
    pub form: Form,
    /// The condition.
    pub join: Expression,
    /// Whether the authorizer has a word, too.
    pub authorized: bool,
    /// Whether the configuration says so, and not a default.
    pub own: bool,
}

impl Rule {
    /// The default of a class.
    ///
    /// # Errors
    /// Never, as a test holds.
    pub fn default_of(form: &Form) -> Result<Self, ExpressionError> {
        let join = Expression::compile(defaults::of(form), Subject::Room(form))?;
        Ok(Self { class: form.clone(), form: form.clone(), join, authorized: false, own: false })
    }
}

/// Decides. An error inside denies.
#[derive(Debug)]
pub struct Policy {
    /// By class.
    rules: Vec<Rule>,
    /// Who may report a location.
    locate: Expression,
    /// Roles that `staff` stands for.
    staff_roles: Vec<String>,
    /// Dev mode: every room is open to everybody. Who may report a location stays as it is.
    open: bool,
    authorizer: Option<Authorizer>,
}

impl Policy {
    /// A policy of one rule per class, in the order of [`Classes::all`].
    #[must_use]
    pub fn new(rules: Vec<Rule>, locate: Expression, staff_roles: Vec<String>) -> Self {
        Self { rules, locate, staff_roles, open: false, authorizer: None }
    }

    /// Has rules that say so asked about further on.
    #[must_use]
    pub fn with_authorizer(self, authorizer: Option<Authorizer>) -> Self {
        Self { authorizer, ..self }
    }

    /// Lets everybody in everywhere: dev mode. The rules stay, to be explained.
    #[must_use]
    pub fn opened(self) -> Self {
        Self { open: true, ..self }
    }

    /// Every rule.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The condition for reporting a location.
    #[must_use]
    pub fn locate(&self) -> &Expression {
        &self.locate
    }

    /// Whether `claims` may do this in `room`.
    ///
    /// # Errors
    /// `forbidden`, or `unavailable` when the authorizer gave no answer.
    pub async fn admits(&self, claims: &Claims, room: &Room, action: Action) -> Result<(), Refusal> {
        if !self.allows(claims, room) {
            return Err(Refusal::Forbidden);
        }
        self.confirms(claims, room, action).await
    }

    /// Whether the rule of the room's class lets `claims` in, as far as that goes without asking anybody.
    #[must_use]
    pub fn allows(&self, claims: &Claims, room: &Room) -> bool {
        self.open || self.rule(room).is_some_and(|rule| self.holds(&rule.join, &self.facts(claims, Some((rule, room)))))
    }

    /// Whether the authorizer has a word in who may be in `room`.
    #[must_use]
    pub fn is_guarded(&self, room: &Room) -> bool {
        !self.open && self.rule(room).is_some_and(|rule| rule.authorized)
    }

    /// Whether the authorizer agrees, where the room's class has one.
    ///
    /// # Errors
    /// `forbidden`, or `unavailable` when it gave no answer.
    pub async fn confirms(&self, claims: &Claims, room: &Room, action: Action) -> Result<(), Refusal> {
        if !self.is_guarded(room) {
            return Ok(());
        }
        match &self.authorizer {
            Some(authorizer) => authorizer.asks(claims, room, action).await,
            None => Err(Refusal::Forbidden),
        }
    }

    /// Whether `claims` may report a location.
    #[must_use]
    pub fn may_locate(&self, claims: &Claims) -> bool {
        self.holds(&self.locate, &self.facts(claims, None))
    }

    fn rule(&self, room: &Room) -> Option<&Rule> {
        self.rules.get(room.class().index())
    }

    fn facts<'a>(&self, claims: &'a Claims, room: Option<(&'a Rule, &'a Room)>) -> Facts<'a> {
        Facts {
            claims,
            room: room.map(|(rule, room)| (&rule.form, room.key())),
            staff: claims.role().is_some_and(|role| self.staff_roles.iter().any(|staff| staff == role)),
            now_s: i64::try_from(now_ms() / 1000).unwrap_or(i64::MAX),
        }
    }

    fn holds(&self, expression: &Expression, facts: &Facts<'_>) -> bool {
        expression.judge(facts).unwrap_or_else(|failure| {
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
