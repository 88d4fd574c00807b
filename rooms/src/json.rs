//! JSON that strict parsers accept and clients do not: lone surrogate escapes, unbounded nesting and overlong
//! numbers. Also arrays in the place of objects, which derived readers accept.

use serde::de::{Deserialize, Error as _};

use crate::limits::NUMBER_CHARS;

/// The error of [`object`] for other JSON.
pub(crate) const NO_OBJECT: &str = "expected an object";

/// A text is JSON that not every client can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonFault {
    /// Arrays and objects nested deeper than the bound.
    #[error("nested deeper than {0} levels")]
    TooDeep(usize),
    /// Half of a surrogate pair in `\u` escapes.
    #[error("a lone surrogate escape is no character")]
    LoneSurrogate,
    /// A number longer than the bound: stock Python clients drop a packet with such an integer.
    #[error("a number of {0} characters; at most {NUMBER_CHARS} are taken: write it as a string")]
    LongNumber(usize),
}

/// Parses a JSON object. A reader derived for a struct would accept an array of its values as well.
///
/// # Errors
/// When the text is not JSON, not an object, or not of the form of a `T`.
pub fn object<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, serde_json::Error> {
    let value = serde_json::from_str(text)?;
    if text.trim_ascii_start().starts_with('{') { Ok(value) } else { Err(serde_json::Error::custom(NO_OBJECT)) }
}

/// Checks well-formed JSON: at most `depth` levels, no lone surrogate escapes, and numbers of at most
/// [`NUMBER_CHARS`] characters.
///
/// # Errors
/// The first fault found.
pub fn check_json(text: &str, depth: usize) -> Result<(), JsonFault> {
    // Byte by byte: quotes and brackets are ASCII, and no byte of a longer character equals one.
    let bytes = text.as_bytes();
    let (mut at, mut level) = (0, 0_usize);
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => {
                // Past the string as a whole, so that brackets and digits in it count for nothing.
                at = string_end(bytes, at + 1)?;
                continue;
            }
            b'-' | b'0'..=b'9' => {
                at = number_end(bytes, at)?;
                continue;
            }
            b'[' | b'{' => level += 1,
            b']' | b'}' => level = level.saturating_sub(1),
            _ => {}
        }
        if level > depth {
            return Err(JsonFault::TooDeep(depth));
        }
        at += 1;
    }
    Ok(())
}

/// The end of the number that begins at `at`.
fn number_end(bytes: &[u8], at: usize) -> Result<usize, JsonFault> {
    let rest = &bytes[at..];
    let chars = rest.iter().take_while(|b| matches!(b, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')).count();
    if chars > NUMBER_CHARS { Err(JsonFault::LongNumber(chars)) } else { Ok(at + chars) }
}

/// The end of the string whose first character is at `at`.
fn string_end(bytes: &[u8], mut at: usize) -> Result<usize, JsonFault> {
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => return Ok(at + 1),
            b'\\' if bytes.get(at + 1) == Some(&b'u') => at = escape_end(bytes, at)?,
            // Skips the escaped character too: it may be a quote.
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    Ok(at)
}

/// The end of the `\u` escape at `at`, with its second half if it is a pair.
fn escape_end(bytes: &[u8], at: usize) -> Result<usize, JsonFault> {
    match unit(bytes, at) {
        Some(0xD800..=0xDBFF) => match unit(bytes, at + 6) {
            Some(0xDC00..=0xDFFF) => Ok(at + 12),
            _ => Err(JsonFault::LoneSurrogate),
        },
        Some(0xDC00..=0xDFFF) => Err(JsonFault::LoneSurrogate),
        _ => Ok(at + 6),
    }
}

/// The UTF-16 unit of a `\uXXXX` at `at`, if there is one.
fn unit(bytes: &[u8], at: usize) -> Option<u16> {
    let escape = bytes.get(at..at + 6)?;
    let hex = std::str::from_utf8(escape.strip_prefix(b"\\u")?).ok()?;
    u16::from_str_radix(hex, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nesting_is_bounded_and_braces_in_strings_do_not_count() {
        let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert_eq!(check_json(&nested(64), 64), Ok(()));
        assert_eq!(check_json(&nested(65), 64), Err(JsonFault::TooDeep(64)));
        assert_eq!(check_json(&format!("{:?}", "[".repeat(99)), 64), Ok(()));
        assert_eq!(check_json("[[],[],[]]", 2), Ok(()));
    }

    #[test]
    fn a_number_has_a_hundred_characters_at_most_whatever_they_are() {
        let long = |count: usize| {
            let mut integer = "9".repeat(count - 1);
            integer.insert(1, '0');
            let fraction = format!("0.{}", "1".repeat(count - 2));
            [integer, format!("-{}", "7".repeat(count - 1)), fraction, format!("1e+{}", "0".repeat(count - 3))]
        };
        for (fits, exceeds) in long(NUMBER_CHARS).iter().zip(long(NUMBER_CHARS + 1)) {
            for (before, behind) in [("", ""), ("[", "]"), (r#"{"a":["x",{"b":1,"c": "#, " }]}")] {
                assert_eq!(check_json(&format!("{before}{fits}{behind}"), 64), Ok(()));
                assert_eq!(check_json(&format!("{before}{exceeds}{behind}"), 64), Err(JsonFault::LongNumber(101)));
            }
        }
        assert_eq!(check_json(&format!("{:?}", "9".repeat(1000)), 64), Ok(()), "a text is no number");
        assert_eq!(check_json(&format!("[{}]", vec!["12345"; 100].join(",")), 64), Ok(()));
    }

    #[test]
    fn pairs_pass_and_halves_do_not() {
        for text in [r#""😀""#, r#""\\ud83d""#, r#""\u0041\"\\""#, r#"{"é":"é"}"#] {
            assert_eq!(check_json(text, 64), Ok(()), "{text}");
        }
        for text in [r#""\ud83d""#, r#""\ude00""#, r#""\ud83dx""#, r#""\ud83d\u0041""#, r#""\ud83d\ud83d""#] {
            assert_eq!(check_json(text, 64), Err(JsonFault::LoneSurrogate), "{text}");
        }
    }
}
