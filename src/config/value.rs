//! The types of keys: parsing from TOML or a variable, and writing the default.

use std::{net::SocketAddr, path::PathBuf};

use super::{error::Complaint, raw::Raw};

/// A type that a key may have.
pub(super) trait ConfigValue: Sized {
    /// A valid value in words, to end the sentences "… is not" and "give".
    const KIND: &'static str;

    /// Parses the value, or returns the complaint.
    fn parse(raw: &Raw) -> Result<Self, Complaint>;

    /// The value in TOML; `None` where TOML cannot express it, which means: not set.
    fn shown(&self) -> Option<String>;
}

/// The complaint about a value of another kind. `what` quotes the value, unless that is secret.
pub(super) fn mismatch(what: impl AsRef<str>, kind: &str) -> Complaint {
    Complaint::new(format!("{} is not {kind}", what.as_ref()), format!("give {kind}"))
}

/// A TOML string.
pub(super) fn toml_string(text: &str) -> String {
    toml::Value::from(text).to_string()
}

impl ConfigValue for bool {
    const KIND: &'static str = "true or false";

    fn parse(raw: &Raw) -> Result<Self, Complaint> {
        match raw {
            Raw::Boolean(boolean) => Ok(*boolean),
            // Only a variable's text may stand for another type: in TOML `"true"` is a string.
            Raw::Plain(text) => text.trim().parse().map_err(|_| mismatch(raw.quote_or_kind(), Self::KIND)),
            Raw::Text(_) | Raw::Integer(_) | Raw::List(_) | Raw::Table(_) | Raw::Other(_) => {
                Err(mismatch(raw.quote_or_kind(), Self::KIND))
            }
        }
    }

    fn shown(&self) -> Option<String> {
        Some(self.to_string())
    }
}

macro_rules! whole_number {
    ($($type:ty),+) => {$(
        impl ConfigValue for $type {
            const KIND: &'static str = "a whole number from 0";

            fn parse(raw: &Raw) -> Result<Self, Complaint> {
                let number = raw.integer().and_then(|number| number.try_into().ok());
                number.ok_or_else(|| mismatch(raw.quote_or_kind(), Self::KIND))
            }

            fn shown(&self) -> Option<String> {
                Some(self.to_string())
            }
        }
    )+};
}
whole_number!(u32, u64, usize);

impl ConfigValue for String {
    const KIND: &'static str = "a string";

    fn parse(raw: &Raw) -> Result<Self, Complaint> {
        match raw.text() {
            // No key has a meaning for the empty text; leaving the key out has one.
            Some("") => Err(Complaint::new("is empty", "give it a value, or leave it out altogether")),
            Some(text) => Ok(text.to_owned()),
            None => Err(mismatch(raw.quote_or_kind(), Self::KIND)),
        }
    }

    fn shown(&self) -> Option<String> {
        Some(toml_string(self))
    }
}

impl ConfigValue for PathBuf {
    const KIND: &'static str = "a path";

    fn parse(raw: &Raw) -> Result<Self, Complaint> {
        String::parse(raw).map(Self::from)
    }

    fn shown(&self) -> Option<String> {
        self.to_str().map(toml_string)
    }
}

impl ConfigValue for SocketAddr {
    const KIND: &'static str = "an IP address and port such as 127.0.0.1:8080 or [::1]:8080";

    fn parse(raw: &Raw) -> Result<Self, Complaint> {
        let address = raw.text().and_then(|text| text.trim().parse().ok());
        address.ok_or_else(|| mismatch(raw.quote_or_kind(), Self::KIND))
    }

    fn shown(&self) -> Option<String> {
        Some(toml_string(&self.to_string()))
    }
}

impl<T: ConfigValue> ConfigValue for Option<T> {
    const KIND: &'static str = T::KIND;

    fn parse(raw: &Raw) -> Result<Self, Complaint> {
        T::parse(raw).map(Some)
    }

    fn shown(&self) -> Option<String> {
        self.as_ref().and_then(T::shown)
    }
}

/// In a variable the items are separated by commas, and the empty text is the empty list.
impl<T: ConfigValue> ConfigValue for Vec<T> {
    const KIND: &'static str = "a list in brackets";

    fn parse(raw: &Raw) -> Result<Self, Complaint> {
        match raw {
            // Splitting it would give a list with one empty item.
            Raw::Plain(text) if text.trim().is_empty() => Ok(Self::new()),
            Raw::Plain(text) => text.split(',').map(|item| T::parse(&Raw::Plain(item.trim().to_owned()))).collect(),
            Raw::List(items) => items.iter().map(T::parse).collect(),
            Raw::Text(_) | Raw::Integer(_) | Raw::Boolean(_) | Raw::Table(_) | Raw::Other(_) => {
                Err(mismatch(raw.quote_or_kind(), Self::KIND))
            }
        }
    }

    fn shown(&self) -> Option<String> {
        let items: Vec<String> = self.iter().filter_map(T::shown).collect();
        Some(format!("[{}]", items.join(", ")))
    }
}

/// Makes an enum a key's type: its values are words.
macro_rules! words {
    ($name:ty: $kind:literal { $($text:literal => $word:ident,)+ }) => {
        impl $crate::config::value::ConfigValue for $name {
            const KIND: &'static str = $kind;

            fn parse(raw: &$crate::config::raw::Raw) -> Result<Self, $crate::config::error::Complaint> {
                match raw.text() {
                    $(Some($text) => Ok(Self::$word),)+
                    _ => Err($crate::config::value::mismatch(raw.quote_or_kind(), Self::KIND)),
                }
            }

            fn shown(&self) -> Option<String> {
                let word = match self {
                    $(Self::$word => $text,)+
                };
                Some($crate::config::value::toml_string(word))
            }
        }
    };
}
pub(super) use words;
