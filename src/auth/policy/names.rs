//! The names in a condition: only known ones, so that a misspelt name stops the start and not a user; and the claims
//! it uses, so that no others are converted.

use std::collections::BTreeSet;

use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, SelectExpr, operators};
use hallway_rooms::form::Form;

use super::bounds::{DEPTH, ExpressionError, LOOPS};

/// The subject of a condition: the rooms of one form, or a user in general.
#[derive(Clone, Copy, Debug)]
pub enum RuleSubject<'a> {
    /// `room` has the form's parts, and `key` is the room's key.
    Room(&'a Form),
    /// Neither `room` nor `key` is available.
    User,
}

const VARIABLES: [&str; 6] = ["claims", "room", "key", "now", "staff", "agent"];

const OPERATORS: [&str; 19] = [
    operators::CONDITIONAL,
    operators::LOGICAL_AND,
    operators::LOGICAL_OR,
    operators::LOGICAL_NOT,
    operators::SUBSTRACT,
    operators::ADD,
    operators::MULTIPLY,
    operators::DIVIDE,
    operators::MODULO,
    operators::EQUALS,
    operators::NOT_EQUALS,
    operators::GREATER_EQUALS,
    operators::LESS_EQUALS,
    operators::GREATER,
    operators::LESS,
    operators::NEGATE,
    operators::INDEX,
    operators::IN,
    operators::NOT_STRICTLY_FALSE,
];

/// Functions of one argument.
const FUNCTIONS: [&str; 7] = ["id", "size", "string", "int", "uint", "double", "bool"];

/// Methods of a string, with the number of their arguments.
const METHODS: [(&str, usize); 4] = [("contains", 1), ("startsWith", 1), ("endsWith", 1), ("size", 0)];

/// The claims that a condition uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Claimed {
    None,
    Some(BTreeSet<String>),
    /// It uses `claims` as a whole.
    All,
}

/// The names in a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Names {
    pub(super) claims: Claimed,
    variables: BTreeSet<&'static str>,
}

impl Names {
    /// Collects and checks the names of a condition.
    pub(super) fn read(expression: &IdedExpr, subject: RuleSubject<'_>) -> Result<Self, ExpressionError> {
        // Such a text is most likely a forgotten comparison; it would deny everybody.
        if matches!(&expression.expr, Expr::Literal(literal) if !matches!(literal, LiteralValue::Boolean(_))) {
            return Err(ExpressionError::NoCondition);
        }
        let names = Self { claims: Claimed::None, variables: BTreeSet::new() };
        let mut reader = NameReader { names, subject, bound: Vec::new() };
        reader.read(expression, 0)?;
        Ok(reader.names)
    }

    /// Whether it may look at this claim.
    pub(super) fn uses_claim(&self, name: &str) -> bool {
        match &self.claims {
            Claimed::None => false,
            Claimed::Some(names) => names.contains(name),
            Claimed::All => true,
        }
    }

    pub(super) fn uses_variable(&self, variable: &str) -> bool {
        self.variables.contains(variable)
    }

    fn add_claim(&mut self, name: &str) {
        match &mut self.claims {
            Claimed::None => self.claims = Claimed::Some(BTreeSet::from([name.to_owned()])),
            Claimed::Some(names) => drop(names.insert(name.to_owned())),
            Claimed::All => {}
        }
    }
}

struct NameReader<'a> {
    names: Names,
    subject: RuleSubject<'a>,
    /// The variables of the enclosing loops.
    bound: Vec<&'a str>,
}

type NameResult = Result<(), ExpressionError>;

impl<'a> NameReader<'a> {
    fn read(&mut self, node: &'a IdedExpr, depth: usize) -> NameResult {
        // Checked on the way down, since this function recurses as the evaluation does.
        if depth > DEPTH {
            return Err(ExpressionError::TooDeep);
        }
        match &node.expr {
            Expr::Literal(_) => Ok(()),
            Expr::Ident(name) => self.variable(name),
            Expr::Select(select) => self.select(select, depth),
            Expr::Call(call) => self.call(call, depth),
            Expr::List(list) => list.elements.iter().try_for_each(|element| self.read(element, depth + 1)),
            Expr::Map(map) => map.entries.iter().try_for_each(|entry| match &entry.expr {
                EntryExpr::MapEntry(entry) => {
                    self.read(&entry.key, depth + 1)?;
                    self.read(&entry.value, depth + 1)
                }
                // Claims have no messages, so neither this nor a struct below has a meaning.
                EntryExpr::StructField(field) => Err(ExpressionError::Unknown(field.field.clone())),
            }),
            Expr::Comprehension(comprehension) => self.comprehension(comprehension, depth),
            Expr::Struct(made) => Err(ExpressionError::Unknown(made.type_name.clone())),
            Expr::Unspecified => Err(ExpressionError::NoCondition),
        }
    }

    fn variable(&mut self, name: &str) -> NameResult {
        // A loop's variable hides nothing, as `comprehension` refuses taken names.
        if self.bound.contains(&name) {
            return Ok(());
        }
        let known = VARIABLES.iter().find(|known| **known == name);
        let of_rooms = ["room", "key"].contains(&name);
        let known = known.filter(|_| !of_rooms || matches!(self.subject, RuleSubject::Room(_)));
        let known = known.ok_or_else(|| ExpressionError::Unknown(name.to_owned()))?;
        // Not followed by a field: any claim may be looked at.
        if *known == "claims" {
            self.names.claims = Claimed::All;
        }
        self.names.variables.insert(known);
        Ok(())
    }

    fn select(&mut self, select: &'a SelectExpr, depth: usize) -> NameResult {
        let of = if let Expr::Ident(name) = &select.operand.expr { name } else { "" };
        // A single claim by name, so that the others need no conversion.
        if of == "claims" {
            self.names.add_claim(&select.field);
            return Ok(());
        }
        self.read(&select.operand, depth + 1)?;
        if of == "room" { self.check_part(&select.field) } else { Ok(()) }
    }

    /// Checks a part of the room. A part that occurs twice would have the value of the last one, which no operator
    /// should have to know.
    fn check_part(&self, name: &str) -> NameResult {
        let RuleSubject::Room(form) = self.subject else { return Ok(()) };
        let key = form.to_string();
        match form.ids_of(&key).filter(|(part, _)| *part == name).count() {
            1 => Ok(()),
            _ => Err(ExpressionError::Part(name.to_owned())),
        }
    }

    fn call(&mut self, call: &'a CallExpr, depth: usize) -> NameResult {
        let (name, count) = (call.func_name.as_str(), call.args.len());
        // A closed list: a function of the library that is not here has no known cost.
        let known = match &call.target {
            Some(_) => METHODS.contains(&(name, count)),
            None => OPERATORS.contains(&name) || FUNCTIONS.contains(&name) && count == 1,
        };
        if !known {
            return Err(ExpressionError::Function(name.to_owned()));
        }
        let claims = |node: &IdedExpr| matches!(&node.expr, Expr::Ident(name) if name == "claims");
        // `claims['a b']` and `'a' in claims` name one claim as `claims.a` does; any other index may name all.
        let named = match call.args.as_slice() {
            [of, name] if call.func_name == operators::INDEX && claims(of) => literal(name),
            [name, of] if call.func_name == operators::IN && claims(of) => literal(name),
            _ => None,
        };
        if let Some(name) = named {
            self.names.add_claim(name);
            return Ok(());
        }
        call.target.iter().try_for_each(|target| self.read(target, depth + 1))?;
        call.args.iter().try_for_each(|argument| self.read(argument, depth + 1))
    }

    fn comprehension(&mut self, comprehension: &'a ComprehensionExpr, depth: usize) -> NameResult {
        let variables = [comprehension.iter_var.as_str(), comprehension.accu_var.as_str()];
        // Macros would otherwise shadow `claims` and the like, and the collected names would be wrong.
        if let Some(taken) = variables.iter().find(|name| VARIABLES.contains(name)) {
            return Err(ExpressionError::Taken((*taken).to_owned()));
        }
        self.read(&comprehension.iter_range, depth + 1)?;
        self.read(&comprehension.accu_init, depth + 1)?;
        self.bound.extend(variables);
        // Each loop binds two variables: the item and the accumulator.
        if self.bound.len() > LOOPS * variables.len() {
            return Err(ExpressionError::TooManyLoops);
        }
        for part in [&comprehension.loop_cond, &comprehension.loop_step, &comprehension.result] {
            self.read(part, depth + 1)?;
        }
        // The variables are out of scope behind the loop.
        self.bound.truncate(self.bound.len() - variables.len());
        Ok(())
    }
}

fn literal(node: &IdedExpr) -> Option<&str> {
    if let Expr::Literal(LiteralValue::String(text)) = &node.expr { Some(text.inner()) } else { None }
}
