//! One condition: CEL text, compiled once and evaluated often. Every failure of an evaluation denies.

use std::collections::HashMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use cel::common::types::{CelBool, CelInt, CelMap, CelMapKey, CelNull, CelString};
use cel::common::value::Val;
use cel::{Context, Program, Value};
use hallway_rooms::form::Form;
use serde_json::{Map, Value as Json, json};

use super::bounds::{ExpressionError, TEXT_BYTES};
use super::cost;
use super::names::{Claimed, Names, RuleSubject};
use super::values::{self, ClaimsTooLarge, ENVIRONMENT};
use crate::auth::claims::Claims;

/// Stack of the parsing thread: the parser recurses per token, and this suffices for the longest text.
const PARSER_STACK: usize = 32 * 1024 * 1024;

/// The inputs of an evaluation.
#[derive(Clone, Copy, Debug)]
pub(super) struct PolicyInput<'a> {
    pub(super) claims: &'a Claims,
    /// The form whose parts are `room`, and the key.
    pub(super) room: Option<(&'a Form, &'a str)>,
    /// Whether the role is one of `auth.staff_roles`.
    pub(super) staff: bool,
    /// Seconds since the Unix epoch, like `exp` and `iat`.
    pub(super) now_s: i64,
}

/// A checked condition. Cheap to clone; equal by its text.
#[derive(Clone)]
pub struct Expression(Arc<CompiledRule>);

struct CompiledRule {
    /// For messages and comparison.
    text: String,
    program: Program,
    /// The names it uses, which bound what each evaluation has to provide.
    names: Names,
}

/// Why a condition gave neither true nor false. Each of these denies.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvaluationError {
    /// A claim that it names is too large.
    #[error("the claims are too large to be judged: {0}")]
    TooLarge(#[from] ClaimsTooLarge),
    /// CEL reports an error, such as a missing claim.
    #[error("{0}")]
    Evaluation(String),
    /// The result is not a bool.
    #[error("the rule gave something else than true or false")]
    NoBool,
    /// A defect of the library.
    #[error("the rule could not be judged")]
    Panicked,
}

impl EvaluationError {
    /// The failure's name in metrics.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooLarge(_) => "claims-too-large",
            Self::Evaluation(_) => "evaluation",
            Self::NoBool => "no-bool",
            Self::Panicked => "panicked",
        }
    }
}

impl Expression {
    /// Compiles a condition, if it can be evaluated in bounded time.
    ///
    /// # Errors
    /// When it is not CEL, uses an unknown name, or might take too long.
    pub fn compile(text: &str, subject: RuleSubject<'_>) -> Result<Self, ExpressionError> {
        if text.len() > TEXT_BYTES {
            return Err(ExpressionError::TooLong);
        }
        let stuck = |_| ExpressionError::TooDeep;
        // A thread of its own: the parser recurses, and the caller's stack may be almost used up.
        thread::scope(|scope| {
            let builder = thread::Builder::new().stack_size(PARSER_STACK);
            let parsing = builder
                .spawn_scoped(scope, || compile_condition(text, subject))
                .map_err(|_| ExpressionError::TooDeep)?;
            parsing.join().map_err(stuck)?
        })
    }

    /// The text that it was compiled from.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// Whether it asks for the roles that `staff` stands for.
    pub(super) fn uses_staff(&self) -> bool {
        self.0.names.uses_variable("staff")
    }

    /// Whether it is true for these inputs.
    pub(super) fn judge_facts(&self, facts: &PolicyInput<'_>) -> Result<bool, EvaluationError> {
        // A panic in the library must deny this one question and not end the task.
        catch_unwind(AssertUnwindSafe(|| self.evaluate(facts))).unwrap_or(Err(EvaluationError::Panicked))
    }

    fn evaluate(&self, facts: &PolicyInput<'_>) -> Result<bool, EvaluationError> {
        // Made here, since what the condition sees is borrowed of it.
        let names = &self.0.names;
        let wants_none = names.claims == Claimed::None;
        let claims = if wants_none { Map::new() } else { facts.claims.select(|name| names.uses_claim(name)) };
        let context = self.context(facts, &claims)?;
        let value = Value::resolve_val(self.0.program.expression(), &context);
        let value = value.map_err(|error| EvaluationError::Evaluation(shorten_message(&error.to_string())))?;
        value.downcast_ref::<CelBool>().map(|truth| *truth.inner()).ok_or(EvaluationError::NoBool)
    }

    /// The variables that the condition names, and no others: converting claims is the larger part of an evaluation.
    fn context<'v>(
        &self,
        facts: &PolicyInput<'v>,
        claims: &'v Map<String, Json>,
    ) -> Result<Context<'v, 'v>, EvaluationError> {
        let names = &self.0.names;
        let mut context = Context::with_env(ENVIRONMENT.clone());
        let mut add = |name: &str, value: Box<dyn Val + 'v>| context.add_variable_as_val(name, value);
        // Each variable only where it is named; the rest would be converted for nothing.
        if names.claims != Claimed::None {
            add("claims", boxed(values::map(claims.iter())?));
        }
        if let Some((form, key)) = facts.room.filter(|_| names.uses_variable("room")) {
            let parts = form.ids_of(key).map(|(name, id)| (CelMapKey::from(name), boxed(CelString::from(id))));
            add("room", boxed(CelMap::from(parts.collect::<HashMap<_, _>>())));
        }
        if let Some((_, key)) = facts.room.filter(|_| names.uses_variable("key")) {
            add("key", boxed(CelString::from(key)));
        }
        if names.uses_variable("now") {
            add("now", boxed(CelInt::from(facts.now_s)));
        }
        if names.uses_variable("staff") {
            add("staff", boxed(CelBool::from(facts.staff)));
        }
        if names.uses_variable("agent") {
            let agent = facts.claims.agent().map(|id| boxed(CelString::from(id)));
            add("agent", agent.unwrap_or_else(|| boxed(CelNull)));
        }
        Ok(context)
    }

    /// The inputs for an explanation: the named claims that the token has, and the values derived from them.
    pub(super) fn describe_inputs(&self, facts: &PolicyInput<'_>) -> Map<String, Json> {
        let names = &self.0.names;
        // These variables are computed from claims that the rule does not name itself.
        let derived: &[&str] = match (names.uses_variable("staff"), names.uses_variable("agent")) {
            (_, true) => &["role", "agentId", "sub"],
            (true, false) => &["role"],
            (false, false) => &[],
        };
        let claims = facts.claims.select(|name| names.uses_claim(name) || derived.contains(&name));
        let mut saw = Map::from_iter([("claims".to_owned(), claims.into()), ("now".to_owned(), facts.now_s.into())]);
        if let Some((form, key)) = facts.room {
            let parts: Map<String, Json> = form.ids_of(key).map(|(name, id)| (name.to_owned(), id.into())).collect();
            saw.insert("room".to_owned(), parts.into());
        }
        if names.uses_variable("staff") {
            saw.insert("staff".to_owned(), facts.staff.into());
        }
        if names.uses_variable("agent") {
            saw.insert("agent".to_owned(), json!(facts.claims.agent()));
        }
        saw
    }
}

fn compile_condition(text: &str, subject: RuleSubject<'_>) -> Result<Expression, ExpressionError> {
    let program = ENVIRONMENT.compile(text).map_err(|errors| syntax(&errors))?;
    let names = Names::read(program.expression(), subject)?;
    cost::check_cost(program.expression())?;
    Ok(Expression(Arc::new(CompiledRule { text: text.to_owned(), program, names })))
}

fn syntax(errors: &cel::ParseErrors) -> ExpressionError {
    let first = errors.errors.first();
    let (line, column) = first.map_or((1, 1), |error| error.pos);
    let message = first.map_or_else(String::new, |error| shorten_message(&error.msg.replace('\n', " ")));
    ExpressionError::Syntax { line: line.max(1), column: column.max(1), message }
}

/// Cuts a message, which may quote a long text.
fn shorten_message(message: &str) -> String {
    const CHARS: usize = 200;
    message.chars().take(CHARS).collect()
}

fn boxed<'v>(value: impl Val + 'v) -> Box<dyn Val + 'v> {
    Box::new(value)
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Expression({})", self.text())
    }
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

impl Eq for Expression {}
