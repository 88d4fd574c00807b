//! Untyped values: the contents of the TOML file or of a variable, with the line.

use std::{collections::BTreeMap, ops::Range};

use toml::de::{DeTable, DeValue};

/// A TOML table, by key.
pub(super) type RawTable = BTreeMap<String, RawEntry>;

/// A value of the file, with its line.
#[derive(Debug, Clone)]
pub(super) struct RawEntry {
    pub(super) value: Raw,
    pub(super) line: usize,
}

/// An untyped value. `Plain` is a variable's text, which may stand for any type.
#[derive(Debug, Clone)]
pub(super) enum Raw {
    Plain(String),
    Text(String),
    Integer(i128),
    Boolean(bool),
    List(Vec<Raw>),
    Table(RawTable),
    /// Neither of these; the text says which kind, for the complaint.
    Other(&'static str),
}

/// A syntax error: its line and the parser's message.
pub(super) type SyntaxError = (usize, String);

/// Parses a whole file. Gives the table or all syntax errors.
pub(super) fn parse(text: &str) -> Result<RawTable, Vec<SyntaxError>> {
    let (root, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        return Ok(table(root.get_ref(), text));
    }
    // The parser's `Display` quotes the line, which may contain a secret; its message does not.
    let located = |error: &toml::de::Error| (line_of(text, error.span()), error.message().replace('\n', " "));
    Err(errors.iter().map(located).collect())
}

fn table(source: &DeTable<'_>, text: &str) -> RawTable {
    let entry =
        |value: &DeValue<'_>, span| RawEntry { value: Raw::from_toml(value, text), line: line_of(text, Some(span)) };
    source.iter().map(|(key, value)| (key.get_ref().to_string(), entry(value.get_ref(), key.span()))).collect()
}

fn line_of(text: &str, span: Option<Range<usize>>) -> usize {
    let end = span.map_or(0, |span| span.start).min(text.len());
    1 + text.as_bytes()[..end].iter().filter(|byte| **byte == b'\n').count()
}

impl Raw {
    fn from_toml(value: &DeValue<'_>, text: &str) -> Self {
        match value {
            DeValue::String(string) => Self::Text(string.to_string()),
            // Wider than any key's type, so that a number out of range is reported as such.
            DeValue::Integer(integer) => i128::from_str_radix(integer.as_str(), integer.radix())
                .map_or(Self::Other("a number far too large"), Self::Integer),
            DeValue::Boolean(boolean) => Self::Boolean(*boolean),
            DeValue::Array(items) => {
                Self::List(items.iter().map(|item| Self::from_toml(item.get_ref(), text)).collect())
            }
            DeValue::Table(inner) => Self::Table(table(inner, text)),
            DeValue::Float(_) => Self::Other("a number with a fraction"),
            DeValue::Datetime(_) => Self::Other("a date"),
        }
    }

    /// The kind of the value, without its content.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Plain(_) => "the text",
            Self::Text(_) => "a string",
            Self::Integer(_) => "a whole number",
            Self::Boolean(_) => "true or false",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
            Self::Other(kind) => kind,
        }
    }

    /// The value itself if it is short enough to quote, else its kind.
    pub(super) fn quote_or_kind(&self) -> String {
        const LONGEST: usize = 60;
        match self {
            // A long quote would drown the sentence around it.
            Self::Plain(text) | Self::Text(text) if text.chars().count() <= LONGEST => format!("{text:?}"),
            Self::Integer(integer) => integer.to_string(),
            Self::Boolean(boolean) => boolean.to_string(),
            Self::Plain(_) | Self::Text(_) => "the long text".to_owned(),
            Self::List(_) | Self::Table(_) | Self::Other(_) => self.kind().to_owned(),
        }
    }

    /// The text, if it is one.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Plain(text) | Self::Text(text) => Some(text),
            Self::Integer(_) | Self::Boolean(_) | Self::List(_) | Self::Table(_) | Self::Other(_) => None,
        }
    }

    /// The whole number, if it is one.
    pub(super) fn integer(&self) -> Option<i128> {
        match self {
            Self::Plain(text) => text.trim().parse().ok(),
            Self::Integer(integer) => Some(*integer),
            Self::Text(_) | Self::Boolean(_) | Self::List(_) | Self::Table(_) | Self::Other(_) => None,
        }
    }
}
