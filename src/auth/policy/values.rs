//! Claims as CEL sees them: borrowed, and bounded in number, size and depth.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use cel::common::types::{
    CelBool, CelDouble, CelInt, CelList, CelMap, CelMapKey, CelNull, CelString, CelUInt, DYN_TYPE,
};
use cel::common::value::{CowVal, Val};
use cel::{Env, ExecutionError};
use serde_json::{Number, Value as Json};

/// Values in all claims that a condition names, lists and objects included.
pub(super) const VALUES: usize = 1024;

/// Items of one list, or members of one object.
pub(super) const ITEMS: usize = 256;

/// Nesting of lists and objects.
const DEPTH: usize = 16;

/// Bytes of all strings: what a token of 8 KiB can hold.
pub(super) const TEXT_BYTES: usize = 6 * 1024;

/// The functions and macros of conditions. `id` is the gateway's own. Nothing in it depends on the configuration, so
/// it is made once.
pub(super) static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut env = Env::stdlib().with_optional_support(false);
    env.add_overload("id", "dyn_to_id", vec![DYN_TYPE], id_function).expect("the library has no `id`");
    Arc::new(env)
});

/// The claims are too many, too large or too deep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClaimsTooLarge {
    /// More than 1024 values.
    #[error("more than {VALUES} values")]
    Values,
    /// A list or object with more than 256 items.
    #[error("a list or object with more than {ITEMS} items")]
    Items,
    /// Nested more than 16 deep.
    #[error("nested more than {DEPTH} deep")]
    Depth,
    /// More text than a token can hold.
    #[error("more than {TEXT_BYTES} bytes of text")]
    Text,
}

/// The remaining allowance while claims are converted.
struct ClaimBudget {
    values: usize,
    text: usize,
}

/// A CEL object of these members.
pub(super) fn map<'v>(members: impl Iterator<Item = (&'v String, &'v Json)>) -> Result<CelMap<'v>, ClaimsTooLarge> {
    object(members, 0, &mut ClaimBudget { values: VALUES, text: TEXT_BYTES })
}

fn object<'v>(
    members: impl Iterator<Item = (&'v String, &'v Json)>,
    depth: usize,
    left: &mut ClaimBudget,
) -> Result<CelMap<'v>, ClaimsTooLarge> {
    let mut map: HashMap<CelMapKey<'v>, Box<dyn Val + 'v>> = HashMap::new();
    for (name, member) in members {
        // Checked before the insert, so that a huge object is never built.
        if map.len() == ITEMS {
            return Err(ClaimsTooLarge::Items);
        }
        left.text(name)?;
        map.insert(CelMapKey::from(name.as_str()), value(member, depth + 1, left)?);
    }
    Ok(CelMap::from(map))
}

fn list<'v>(items: &'v [Json], depth: usize, left: &mut ClaimBudget) -> Result<CelList<'v>, ClaimsTooLarge> {
    if items.len() > ITEMS {
        return Err(ClaimsTooLarge::Items);
    }
    let items: Result<Vec<_>, _> = items.iter().map(|item| value(item, depth + 1, left)).collect();
    Ok(CelList::from(items?))
}

fn value<'v>(json: &'v Json, depth: usize, left: &mut ClaimBudget) -> Result<Box<dyn Val + 'v>, ClaimsTooLarge> {
    if depth > DEPTH {
        return Err(ClaimsTooLarge::Depth);
    }
    left.values = left.values.checked_sub(1).ok_or(ClaimsTooLarge::Values)?;
    Ok(match json {
        Json::Null => Box::new(CelNull),
        Json::Bool(truth) => Box::new(CelBool::from(*truth)),
        Json::Number(number) => convert_number(number),
        Json::String(text) => {
            left.text(text)?;
            Box::new(CelString::from(text.as_str()))
        }
        Json::Array(items) => Box::new(list(items, depth, left)?),
        Json::Object(members) => Box::new(object(members.iter(), depth, left)?),
    })
}

fn convert_number(number: &Number) -> Box<dyn Val> {
    match (number.as_i64(), number.as_u64()) {
        // As CEL counts: integers stay integers, so that `==` compares them exactly.
        (Some(int), _) => Box::new(CelInt::from(int)),
        (None, Some(uint)) => Box::new(CelUInt::from(uint)),
        (None, None) => Box::new(CelDouble::from(number.as_f64().unwrap_or(f64::NAN))),
    }
}

impl ClaimBudget {
    fn text(&mut self, text: &str) -> Result<(), ClaimsTooLarge> {
        self.text = self.text.checked_sub(text.len()).ok_or(ClaimsTooLarge::Text)?;
        Ok(())
    }
}

/// `id(x)`: a string as it is, a whole number from 0 as its digits (many issuers write ids so), and null for anything
/// else.
fn id_function<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let value = arguments.into_iter().next().ok_or(ExecutionError::MissingArgumentOrTarget)?;
    if value.downcast_ref::<CelString<'_>>().is_some() {
        return Ok(value);
    }
    let int = value.downcast_ref::<CelInt>().and_then(|int| u64::try_from(*int.inner()).ok());
    let number = int.or_else(|| value.downcast_ref::<CelUInt>().map(|uint| *uint.inner()));
    Ok(match number {
        Some(number) => CowVal::owned(CelString::from(number.to_string())),
        None => CowVal::owned(CelNull),
    })
}
