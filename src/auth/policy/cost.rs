//! An upper bound on a condition's run time. The CEL library counts no steps, so they are estimated before a
//! condition is accepted, for the largest claims that are allowed.
//!
//! A step is an evaluated node or a touched value. For each node the estimate knows how heavy its result can be (its
//! values, and its strings by 32 bytes) and how many items it can have. The items of a list together weigh what the
//! list weighs, and the cost of a loop's body grows at most convexly with the weight of its item. So all items
//! together cost at most as much as one item that weighs everything and others that weigh nothing.
//! that weighs everything and the others that weigh nothing.

use cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, MapExpr, SelectExpr, operators,
};

use super::bounds::{ExpressionError, STEPS};
use super::values::{ITEMS, TEXT_BYTES, VALUES};

/// Bytes of a string that weigh as much as one value.
const BYTES: usize = 32;

/// The steps of an iteration beside its body: a name and a value, bound twice.
const ITERATION: u64 = 4;

const CLAIMS: Load =
    Load { weight: (VALUES + TEXT_BYTES / BYTES) as u64, items: ITEMS as u64, claimed: true, looped: false };

/// The parts of a room's key.
const ROOM: Load = Load { weight: 32, items: 8, claimed: false, looped: false };

const SCALAR: Load = Load { weight: 1, items: 0, claimed: false, looped: false };

/// Refuses a condition that might take too long.
pub(super) fn check_cost(expression: &IdedExpr) -> Result<(), ExpressionError> {
    let (steps, _) = Estimate { bound: Vec::new() }.estimate_node(expression);
    if steps > STEPS { Err(ExpressionError::TooCostly(steps)) } else { Ok(()) }
}

/// The largest possible size of a value.
#[derive(Clone, Copy, Debug)]
struct Load {
    /// Values in it, and its strings by 32 bytes.
    weight: u64,
    /// Items, if it is a list or object.
    items: u64,
    /// Whether it is a part of the claims, whose lists are bounded.
    claimed: bool,
    /// Whether it is a part of a loop's variable, and so weighs as much as the current item.
    looped: bool,
}

impl Load {
    fn from_weight(weight: u64, items: u64) -> Self {
        Self { weight, items, claimed: false, looped: false }
    }

    fn text(bytes: usize) -> Self {
        Self::from_weight(1 + (bytes / BYTES) as u64, 0)
    }

    fn max_with(self, other: Self) -> Self {
        Self {
            weight: self.weight.max(other.weight),
            items: self.items.max(other.items),
            claimed: self.claimed && other.claimed,
            looped: self.looped || other.looped,
        }
    }

    /// The load of a part, which may be all of it. A part of a loop's variable has as many items as it can weigh and
    /// no bound of its own; otherwise the cost of a loop would not grow convexly.
    fn part_load(self) -> Self {
        let items = if self.claimed && !self.looped { self.weight.min(ITEMS as u64) } else { self.weight };
        Self { items, ..self }
    }

    fn add_load(self, other: Self) -> Self {
        Self::from_weight(self.weight.saturating_add(other.weight), self.items.saturating_add(other.items))
    }
}

fn sum(steps: impl IntoIterator<Item = u64>) -> u64 {
    steps.into_iter().fold(0, u64::saturating_add)
}

struct Estimate<'a> {
    /// The variables of the enclosing loops, innermost last.
    bound: Vec<(&'a str, Load)>,
}

impl<'a> Estimate<'a> {
    /// The steps to evaluate a node, and the load of its result.
    fn estimate_node(&mut self, node: &'a IdedExpr) -> (u64, Load) {
        match &node.expr {
            Expr::Literal(literal) => (1, literal_load(literal)),
            Expr::Ident(name) => (1, self.variable(name)),
            Expr::Select(select) => self.select(select),
            Expr::Call(call) => self.call(call),
            Expr::List(list) => {
                let (steps, all) = self.estimate_nodes(list.elements.iter());
                let load = Load::from_weight(all.weight.saturating_add(1), list.elements.len() as u64);
                (sum([steps, load.weight]), load)
            }
            Expr::Map(map) => self.map(map),
            Expr::Comprehension(comprehension) => self.comprehension(comprehension),
            // Rejected by `names` before; without an estimate the answer is no.
            Expr::Struct(_) | Expr::Unspecified => (u64::MAX, SCALAR),
        }
    }

    /// Several nodes, with the load of all results.
    fn estimate_nodes(&mut self, nodes: impl Iterator<Item = &'a IdedExpr>) -> (u64, Load) {
        nodes.fold((1, Load::from_weight(0, 0)), |(steps, load), node| {
            let (more, other) = self.estimate_node(node);
            (steps.saturating_add(more), load.add_load(other))
        })
    }

    fn variable(&self, name: &str) -> Load {
        // The innermost loop hides outer variables of the same name.
        let bound = self.bound.iter().rev().find(|(bound, _)| *bound == name);
        match (bound, name) {
            (Some((_, load)), _) => *load,
            (None, "claims") => CLAIMS,
            (None, "room" | "key") => ROOM,
            (None, _) => Load::text(TEXT_BYTES),
        }
    }

    fn select(&mut self, select: &'a SelectExpr) -> (u64, Load) {
        let (steps, of) = self.estimate_node(&select.operand);
        // Claims are borrowed; a computed value is copied to take a member out.
        let taken_apart = if of.claimed { 1 } else { of.weight.saturating_add(1) };
        (sum([steps, taken_apart]), if select.test { SCALAR } else { of.part_load() })
    }

    fn map(&mut self, map: &'a MapExpr) -> (u64, Load) {
        let entries = map.entries.iter().filter_map(|entry| match &entry.expr {
            EntryExpr::MapEntry(entry) => Some([&entry.key, &entry.value]),
            EntryExpr::StructField(_) => None,
        });
        let (steps, all) = self.estimate_nodes(entries.flatten());
        let load = Load::from_weight(all.weight.saturating_add(1), map.entries.len() as u64);
        (sum([steps, load.weight]), load)
    }

    fn call(&mut self, call: &'a CallExpr) -> (u64, Load) {
        let target = call.target.as_deref().map(|target| self.estimate_node(target));
        let arguments: Vec<(u64, Load)> = call.args.iter().map(|argument| self.estimate_node(argument)).collect();
        let every = target.iter().chain(&arguments);
        let all = every.clone().fold(Load::from_weight(0, 0), |all, (_, load)| all.add_load(*load));
        let steps = sum(every.map(|(steps, _)| *steps).chain([1, all.weight, comparison_steps(call, &arguments)]));
        let load = match (call.func_name.as_str(), arguments.as_slice()) {
            // Strings and lists grow by `+`; everything else gives a scalar.
            (operators::ADD, _) => all,
            (operators::CONDITIONAL, [_, (_, yes), (_, no)]) => yes.max_with(*no),
            (operators::INDEX, [(_, of), _]) => of.part_load(),
            ("string" | "id", _) => Load::from_weight(all.weight.saturating_add(1), 0),
            _ => SCALAR,
        };
        (steps, load)
    }

    fn comprehension(&mut self, comprehension: &'a ComprehensionExpr) -> (u64, Load) {
        let (first, range) = self.estimate_node(&comprehension.iter_range);
        let (second, start) = self.estimate_node(&comprehension.accu_init);
        // Twice: the body with an empty item, and with one that weighs everything; the header explains why these two
        // suffice.
        let (light, small) = self.body(comprehension, Load { weight: 0, items: 0, looped: true, ..range }, start);
        let heaviest = Load { items: range.weight, looped: true, ..range };
        let (heavy, large) = self.body(comprehension, heaviest, start);
        let steps = sum([first, second, range.weight, heavy, light.saturating_mul(range.items)]);
        // `all`, `exists` and the like reduce to a bool; only `map` and `filter` build a list.
        let load = if matches!(comprehension.accu_init.expr, Expr::Literal(_)) {
            SCALAR
        } else {
            let others = small.weight.saturating_mul(range.items);
            Load::from_weight(large.weight.saturating_add(others).saturating_add(1), range.items)
        };
        (sum([steps, load.weight]), load)
    }

    /// One iteration: its steps, and what it adds to the result.
    fn body(&mut self, comprehension: &'a ComprehensionExpr, item: Load, start: Load) -> (u64, Load) {
        self.bound.push((&comprehension.iter_var, item));
        self.bound.push((&comprehension.accu_var, Load { weight: start.weight.min(1), items: 0, ..start }));
        let (condition, _) = self.estimate_node(&comprehension.loop_cond);
        let (step, added) = self.estimate_node(&comprehension.loop_step);
        self.bound.truncate(self.bound.len() - 2);
        (sum([ITERATION, condition, step]), added)
    }
}

/// `in` copies the sought value for every number in the list, since the library compares those by way of an error.
fn comparison_steps(call: &CallExpr, arguments: &[(u64, Load)]) -> u64 {
    match (call.func_name.as_str(), arguments) {
        (operators::IN, [(_, sought), (_, within)]) => sought.weight.saturating_mul(within.items),
        _ => 0,
    }
}

fn literal_load(literal: &LiteralValue) -> Load {
    match literal {
        LiteralValue::String(text) => Load::text(text.inner().len()),
        LiteralValue::Bytes(bytes) => Load::text(bytes.inner().len()),
        LiteralValue::Boolean(_)
        | LiteralValue::Double(_)
        | LiteralValue::Int(_)
        | LiteralValue::Null
        | LiteralValue::UInt(_) => SCALAR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::claims::Claims;
    use crate::auth::policy::expression::{Expression, PolicyInput};
    use crate::auth::policy::names::RuleSubject;
    use proptest::prelude::*;
    use serde_json::{Value as Json, json};
    use std::time::{Duration, Instant};

    /// Ten times what the dearest takes on a busy machine, without optimization.
    const PATIENCE: Duration = Duration::from_secs(8);

    fn compile(text: &str) -> Result<Expression, ExpressionError> {
        Expression::compile(text, RuleSubject::User)
    }

    /// The largest claims that are let in: lists as long as may be, and lists in a list.
    fn largest() -> Claims {
        let numbers: Vec<Json> = (0..ITEMS).map(Json::from).collect();
        let nested: Vec<Json> = (0..ITEMS / 4).map(|n| json!([n, n + 1, n + 2])).collect();
        let all = json!({"a": numbers, "b": numbers, "c": nested, "t": "x".repeat(4096), "sub": "u"});
        let json = all.to_string().into();
        Claims { subject: "u".into(), expires_ms: 0, issued_ms: None, token_id: None, json }
    }

    /// What is allowed though it is as dear as can be. Each is judged to its end.
    const DEAREST: [&str; 9] = [
        "claims.a.all(x, claims.b.all(y, x != -1 && y != -1))",
        "claims.a.all(x, claims.b.exists(y, x == y))",
        "claims.c.all(l, l.all(x, x >= 0 || x < now))",
        "claims.c.all(l, l.all(x, claims.b.exists(y, y == x))) || true",
        "claims.a.map(x, claims.b).all(l, size(l) == 256)",
        "claims.a.all(x, !(x in claims.b) || claims.a == claims.a)",
        "claims.a.map(x, claims.t + claims.t).all(t, size(t) == 8192)",
        "(claims.a + claims.b).filter(x, x >= 0).map(x, x + 1).all(x, x > 0)",
        "claims.a.all(x, claims.a < claims.b) || true",
    ];

    #[test]
    fn what_compiles_is_judged_in_bounded_time_on_the_largest_claims() {
        let claims = largest();
        let facts = PolicyInput { claims: &claims, room: None, staff: false, now_s: 1 };
        let mut compiled = 0;
        for text in DEAREST {
            let Ok(expression) = compile(text) else { continue };
            compiled += 1;
            let began = Instant::now();
            let judged = expression.judge_facts(&facts);
            let took = began.elapsed();
            assert!(took < PATIENCE, "{text}: {took:?}");
            assert!(!matches!(judged, Err(crate::auth::policy::EvaluationError::TooLarge(_))), "{text}: {judged:?}");
        }
        assert!(compiled >= 6, "the bound is so narrow that the test says nothing: {compiled}");
    }

    /// Expressions of every shape that costs something, most of no meaning.
    fn any_expression() -> impl Strategy<Value = String> {
        let leaf =
            prop::sample::select(vec!["claims.a", "claims.b", "claims.c", "claims.t", "claims", "x", "y", "1", "'t'"]);
        leaf.prop_map(str::to_owned).prop_recursive(6, 24, 3, |inner| {
            let shapes = vec![
                "({0}).all(x, {1} != {2})",
                "({0}).all(y, {1} != {2} || {1} < {2})",
                "({0}).exists(x, {1} == {2})",
                "({0}).map(x, {1})",
                "({0}).map(y, {1} + {2})",
                "({0}).filter(x, {1} != {2})",
                "({0}) + ({1})",
                "[{0}, {1}, {2}]",
                "{'k': {0}, 'l': {1}}",
                "({0})[0]",
                "size({0}) == 1 ? {1} : {2}",
                "({0}) in ({1})",
                "({0}) == ({1})",
                "string({0})",
            ];
            (prop::sample::select(shapes), inner.clone(), inner.clone(), inner)
                .prop_map(|(shape, a, b, c)| shape.replace("{0}", &a).replace("{1}", &b).replace("{2}", &c))
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn whatever_compiles_is_judged_in_bounded_time(text in any_expression()) {
            let claims = largest();
            let facts = PolicyInput { claims: &claims, room: None, staff: false, now_s: 1 };
            // Loops around give `x` and `y` a meaning.
            let text = format!("[claims.a, claims.c].all(x, claims.c.all(y, ({text}) != 5))");
            if let Ok(expression) = compile(&text) {
                let began = Instant::now();
                let judged = expression.judge_facts(&facts);
                prop_assert!(began.elapsed() < PATIENCE, "{text}: {:?}", began.elapsed());
                prop_assert_ne!(judged, Err(crate::auth::policy::EvaluationError::Panicked), "{}", text);
            }
        }
    }

    #[test]
    fn what_might_take_too_long_does_not_compile() {
        for text in [
            "claims.a.all(x, claims.b.all(y, claims.c.all(z, x != y && y != z)))",
            "claims.a.map(x, claims.b.map(y, claims.a)).size() > 0",
            "claims.a.map(x, claims.a.map(y, claims.t + claims.t)).size() > 0",
            "claims.a.all(x, x.all(y, y.all(z, z == x)))",
            "claims.c.all(x, claims.c.all(y, !(claims in claims.b)))",
            "claims.a.map(x, claims.a).map(l, l + claims.b).all(l, l.all(x, x != claims.b))",
        ] {
            let error = compile(text).expect_err(text);
            assert!(matches!(error, ExpressionError::TooCostly(_)), "{text}: {error}");
        }
        let four = "claims.a.all(w, w.all(x, x.all(y, y.all(z, z == 1))))";
        assert_eq!(compile(four).expect_err("four loops"), ExpressionError::TooManyLoops);
    }

    #[test]
    fn what_people_write_compiles() {
        for text in [
            "claims.stores.exists(s, s.id == claims.current)",
            "claims.stores.exists(s, s.shifts.exists(h, h.from <= now && now < h.until))",
            "claims.scope.contains('orders:read') && claims.exp - claims.iat < 3600",
            "'admin' in claims['https://example.com/roles']",
            "claims.stores.map(s, id(s)).exists(s, s == '7') || has(claims.all)",
            "claims.roles.exists(r, r in ['admin', 'staff', 'dispatcher'])",
            "claims.groups.exists(g, claims.allowed.exists(a, a == g))",
        ] {
            compile(text).expect(text);
        }
        let many = vec!["claims.role == 'x'"; 60].join(" || ");
        compile(&many).expect("many alternatives are no nesting");
    }
}
