//! Durations and sizes with their units: `2s`, `64KiB`.

use std::{fmt, time::Duration};

use super::{
    error::Complaint,
    raw::Raw,
    value::{ConfigValue, mismatch, toml_string},
};

/// Parses a duration such as `500ms`, `2s`, `1h` or `7d`. The error is a message for a command line.
///
/// # Errors
/// When the text is not a number with a unit of time.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text.trim()).map_err(|error| error.to_string())
}

/// A number of bytes. Written plain, or with `KiB`, `MiB` or `GiB` (1024, 1024², 1024³).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(usize);

const UNITS: [(&str, usize); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

impl ByteSize {
    /// That many bytes.
    #[must_use]
    pub const fn bytes(count: usize) -> Self {
        Self(count)
    }

    /// That many times 1024 bytes.
    #[must_use]
    pub const fn kib(count: usize) -> Self {
        Self(count << 10)
    }

    /// That many times 1024² bytes.
    #[must_use]
    pub const fn mib(count: usize) -> Self {
        Self(count << 20)
    }

    /// The number of bytes.
    #[must_use]
    pub const fn get(self) -> usize {
        self.0
    }

    fn from_text(text: &str) -> Option<Self> {
        let text = text.trim();
        let (number, unit) = UNITS
            .iter()
            .find_map(|(name, unit)| Some((text.strip_suffix(name)?.trim_end(), *unit)))
            .unwrap_or((text, 1));
        // `parse` alone would accept a plus sign.
        let digits = number.bytes().all(|byte| byte.is_ascii_digit());
        number.parse::<usize>().ok().filter(|_| digits)?.checked_mul(unit).map(Self)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Zero is a multiple of every unit, and would be displayed as `0GiB`.
        let whole = |(_, unit): &&(&str, usize)| self.0 > 0 && self.0.is_multiple_of(*unit);
        let (name, unit) = UNITS.iter().find(whole).unwrap_or(&("B", 1));
        write!(f, "{}{name}", self.0 / unit)
    }
}

impl ConfigValue for ByteSize {
    const KIND: &'static str = "a size such as 65536, 64KiB or 4MiB";

    fn parse(raw: &Raw) -> Result<Self, Complaint> {
        let size = match raw.text() {
            Some(text) => Self::from_text(text),
            // TOML may write a plain number of bytes without quotes.
            None => raw.integer().and_then(|count| count.try_into().ok()).map(Self),
        };
        size.ok_or_else(|| mismatch(raw.quote_or_kind(), Self::KIND))
    }

    fn shown(&self) -> Option<String> {
        Some(toml_string(&self.to_string()))
    }
}

impl ConfigValue for Duration {
    const KIND: &'static str = "a duration with its unit, such as 500ms, 2s, 1h or 7d";

    fn parse(raw: &Raw) -> Result<Self, Complaint> {
        let duration = raw.text().and_then(|text| parse_duration(text).ok());
        duration.ok_or_else(|| mismatch(raw.quote_or_kind(), Self::KIND))
    }

    fn shown(&self) -> Option<String> {
        Some(toml_string(&in_one_unit(*self)))
    }
}

/// A duration in the largest unit that divides it, days at most.
fn in_one_unit(duration: Duration) -> String {
    let millis = duration.as_millis();
    let units = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)];
    let whole = units.iter().find(|(_, unit)| millis > 0 && millis.is_multiple_of(*unit));
    whole.map_or_else(|| format!("{millis}ms"), |(name, unit)| format!("{}{name}", millis / unit))
}
