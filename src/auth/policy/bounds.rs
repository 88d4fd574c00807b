//! The bounds of a condition, and the error of a text that is beyond them or no condition at all.

/// Bytes of a condition's text.
pub(super) const TEXT_BYTES: usize = 2048;

/// The deepest nesting of a parsed condition. The evaluation recurses, and a level takes up to 40 KiB of a worker's 2
/// MiB of stack in a build without optimization. Chains of `&&` and `||` are not nested.
pub(super) const DEPTH: usize = 20;

/// The deepest nesting of loops.
pub(super) const LOOPS: usize = 3;

/// The most steps: every item of one list with every item of another takes two million, which is about ten
/// milliseconds.
pub(super) const STEPS: u64 = 2_500_000;

/// Why a text is not a valid condition.
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
    /// A name that is unknown here.
    #[error("names `{0}`, which is not known here")]
    Unknown(String),
    /// A part that the form does not have, or has twice.
    #[error("names `room.{0}`, which is no part of this form, or more than one")]
    Part(String),
    /// A loop's variable with a name that is taken.
    #[error("calls the variable of a loop `{0}`, which has a meaning already")]
    Taken(String),
    /// A function that does not exist here, or not with these arguments.
    #[error("calls `{0}`, which does not exist here or takes other arguments")]
    Function(String),
    /// Too many parentheses, or too long a chain.
    #[error("is nested more than {} deep", DEPTH)]
    TooDeep,
    /// Loops nested too deep.
    #[error("has loops more than {} deep", LOOPS)]
    TooManyLoops,
    /// It might take too long.
    #[error("might take {0} steps on the largest claims, and may take {max}", max = STEPS)]
    TooCostly(u64),
    /// A constant that is neither true nor false.
    #[error("is no condition: it is never true or false")]
    NoCondition,
}
