//! One condition: CEL text, compiled once and judged many times. Whatever goes wrong while judging denies.

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

use super::cost;
use super::names::{Claimed, Names};
use super::values::{self, ENVIRONMENT, TooLarge};
use crate::auth::claims::Claims;

/// Longest text of a condition.
const TEXT_BYTES: usize = 2048;

/// The parser recurses per token; this is enough for the longest text, whatever stack the caller has left.
const PARSER_STACK: usize = 32 * 1024 * 1024;

/// What a condition is about: the rooms of one form, or a user whatever the room.
#[derive(Clone, Copy, Debug)]
pub enum Subject<'a> {
    /// `room` has the form's parts, and `key` is known.
    Room(&'a Form),
    /// Neither `room` nor `key` means anything.
    User,
}

/// What a condition is judged by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts<'a> {
    pub(super) claims: &'a Claims,
    /// The form whose parts are `room`, and the key.
    pub(super) room: Option<(&'a Form, &'a str)>,
    /// Whether the role is one of `auth.staff_roles`.
    pub(super) staff: bool,
    /// Seconds since the Unix epoch, as `exp` and `iat` count.
    pub(super) now_s: i64,
}

/// A condition that has been checked. Cheap to clone; equal by its text.
#[derive(Clone)]
pub struct Expression(Arc<Compiled>);

struct Compiled {
    text: String,
    program: Program,
    names: Names,
}

/// Why a text is no condition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExpressionError {
    /// Over 2 KiB.
    #[error("is longer than {TEXT_BYTES} bytes")]
    TooLong,
    /// Not CEL.
    #[error("is not CEL: line {line}, column {column}: {message}")]
    Syntax {
        /// From 1.
        line: isize,
        /// From 1.
        column: isize,
        /// The parser's words.
        message: String,
    },
    /// A name that means nothing here.
    #[error("names `{0}`, which is not known here")]
    Unknown(String),
    /// A part that the form does not have, or has twice.
    #[error("names `room.{0}`, which is no part of this form, or more than one")]
    Part(String),
    /// A loop's variable with the name of something else.
    #[error("calls the variable of a loop `{0}`, which has a meaning already")]
    Taken(String),
    /// A function that does not exist here, or not with these arguments.
    #[error("calls `{0}`, which does not exist here or takes other arguments")]
    Function(String),
    /// Too many parentheses, or too long a chain.
    #[error("is nested more than {} deep", super::names::DEPTH)]
    TooDeep,
    /// Loops in loops in loops.
    #[error("has loops more than {} deep", super::names::LOOPS)]
    TooManyLoops,
    /// It might take too long.
    #[error("might take {0} steps on the largest claims, and may take {max}", max = cost::STEPS)]
    TooCostly(u64),
    /// A text, a number: nothing that could be true.
    #[error("is no condition: it is never true or false")]
    NoCondition,
}

/// Why a condition gave neither true nor false; all of these deny.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// A claim that it names is too large to be judged.
    #[error("the claims are too large to be judged: {0}")]
    TooLarge(#[from] TooLarge),
    /// CEL says that something cannot be done, such as to look at a claim that is missing.
    #[error("{0}")]
    Evaluation(String),
    /// Something else than true or false came out.
    #[error("the rule gave something else than true or false")]
    NoBool,
    /// A defect of the library.
    #[error("the rule could not be judged")]
    Panicked,
}

impl Failure {
    /// The failure as metrics know it.
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
    /// Compiles a condition, if it is one that can be judged in bounded time.
    ///
    /// # Errors
    /// When it is not CEL, names what is not known, or might take too long.
    pub fn compile(text: &str, subject: Subject<'_>) -> Result<Self, ExpressionError> {
        if text.len() > TEXT_BYTES {
            return Err(ExpressionError::TooLong);
        }
        let stuck = |_| ExpressionError::TooDeep;
        thread::scope(|scope| {
            let builder = thread::Builder::new().stack_size(PARSER_STACK);
            let parsing =
                builder.spawn_scoped(scope, || compile(text, subject)).map_err(|_| ExpressionError::TooDeep)?;
            parsing.join().map_err(stuck)?
        })
    }

    /// The text it was made from.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// Whether it is true of these facts.
    pub(super) fn judge(&self, facts: &Facts<'_>) -> Result<bool, Failure> {
        catch_unwind(AssertUnwindSafe(|| self.evaluate(facts))).unwrap_or(Err(Failure::Panicked))
    }

    fn evaluate(&self, facts: &Facts<'_>) -> Result<bool, Failure> {
        let context = self.context(facts)?;
        let value = Value::resolve_val(self.0.program.expression(), &context);
        let value = value.map_err(|error| Failure::Evaluation(short(&error.to_string())))?;
        value.downcast_ref::<CelBool>().map(|truth| *truth.inner()).ok_or(Failure::NoBool)
    }

    /// The variables that it names, and no others.
    fn context<'v>(&self, facts: &Facts<'v>) -> Result<Context<'v, 'v>, Failure> {
        let names = &self.0.names;
        let mut context = Context::with_env(ENVIRONMENT.clone());
        let mut add = |name: &str, value: Box<dyn Val + 'v>| context.add_variable_as_val(name, value);
        if let Some(claims) = self.claims(facts)? {
            add("claims", boxed(claims));
        }
        if let Some((form, key)) = facts.room.filter(|_| names.uses("room")) {
            let parts = form.parts(key).map(|(name, id)| (CelMapKey::from(name), boxed(CelString::from(id))));
            add("room", boxed(CelMap::from(parts.collect::<HashMap<_, _>>())));
        }
        if let Some((_, key)) = facts.room.filter(|_| names.uses("key")) {
            add("key", boxed(CelString::from(key)));
        }
        if names.uses("now") {
            add("now", boxed(CelInt::from(facts.now_s)));
        }
        if names.uses("staff") {
            add("staff", boxed(CelBool::from(facts.staff)));
        }
        if names.uses("agent") {
            let agent = facts.claims.agent().map(|id| boxed(CelString::from(id.into_owned())));
            add("agent", agent.unwrap_or_else(|| boxed(CelNull)));
        }
        Ok(context)
    }

    fn claims<'v>(&self, facts: &Facts<'v>) -> Result<Option<CelMap<'v>>, TooLarge> {
        let all = &facts.claims.all;
        match &self.0.names.claims {
            Claimed::None => Ok(None),
            Claimed::Some(names) => {
                let named = all.iter().filter(|(name, _)| names.contains(name.as_str()));
                values::map(named).map(Some)
            }
            Claimed::All => values::map(all.iter()).map(Some),
        }
    }

    /// What it looked at, for people: the claims it names that the token has, and what came from them.
    pub(super) fn saw(&self, facts: &Facts<'_>) -> Map<String, Json> {
        let names = &self.0.names;
        let derived: &[&str] = match (names.uses("staff"), names.uses("agent")) {
            (_, true) => &["role", "agentId", "sub"],
            (true, false) => &["role"],
            (false, false) => &[],
        };
        let is_named = |name: &str| match &names.claims {
            Claimed::None => false,
            Claimed::Some(names) => names.contains(name),
            Claimed::All => true,
        };
        let claims = facts.claims.all.iter().filter(|(name, _)| is_named(name) || derived.contains(&name.as_str()));
        let claims: Map<String, Json> = claims.map(|(name, value)| (name.clone(), value.clone())).collect();
        let mut saw = Map::from_iter([("claims".to_owned(), claims.into()), ("now".to_owned(), facts.now_s.into())]);
        if let Some((form, key)) = facts.room {
            let parts: Map<String, Json> = form.parts(key).map(|(name, id)| (name.to_owned(), id.into())).collect();
            saw.insert("room".to_owned(), parts.into());
        }
        if names.uses("staff") {
            saw.insert("staff".to_owned(), facts.staff.into());
        }
        if names.uses("agent") {
            saw.insert("agent".to_owned(), json!(facts.claims.agent()));
        }
        saw
    }
}

fn compile(text: &str, subject: Subject<'_>) -> Result<Expression, ExpressionError> {
    let program = ENVIRONMENT.compile(text).map_err(|errors| syntax(&errors))?;
    let names = Names::read(program.expression(), subject)?;
    cost::bound(program.expression())?;
    Ok(Expression(Arc::new(Compiled { text: text.to_owned(), program, names })))
}

fn syntax(errors: &cel::ParseErrors) -> ExpressionError {
    let first = errors.errors.first();
    let (line, column) = first.map_or((1, 1), |error| error.pos);
    let message = first.map_or_else(String::new, |error| short(&error.msg.replace('\n', " ")));
    ExpressionError::Syntax { line: line.max(1), column: column.max(1), message }
}

/// A message may quote what it is about.
fn short(message: &str) -> String {
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
