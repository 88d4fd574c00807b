//! The declaration of a key: doc, type, default and check. Everything else about the key is generated from it.

use super::{Mode, scope::ConfigTable};

/// A table of known keys.
pub(super) trait Section: Sized {
    /// The section's description, line by line.
    const ABOUT: &'static [&'static str];

    /// The values of keys that are not set.
    fn defaults(mode: Mode) -> Self;

    /// Reads every key and reports mistakes.
    fn read(scope: &mut ConfigTable<'_>, mode: Mode) -> Self;

    /// The declared keys with their defaults.
    fn keys(mode: Mode) -> Vec<ConfigKey>;
}

/// A key as the example file presents it.
#[derive(Debug)]
pub(super) struct ConfigKey {
    pub(super) name: &'static str,
    /// Its type, as declared.
    pub(super) kind: &'static str,
    pub(super) doc: &'static [&'static str],
    /// The default in TOML; `None` where the key is not set.
    pub(super) default: Option<String>,
    /// A value to copy, in TOML, where the default displays none.
    pub(super) sample: Option<&'static str>,
    /// The least and the greatest value, where its check has such.
    #[cfg(test)]
    pub(super) range: Option<[String; 2]>,
    /// Known and checked, but without effect in this version.
    pub(super) later: bool,
}

/// Declares a section:
///
/// ```text
/// section! {
///     /// What the section is about.
///     pub struct Name for mode {
///         /// What the key means, and why the default is what it is.
///         key: Type = default, check rule, eg "TOML to copy";
///         /// A key whose feature does not exist yet.
///         @later other: Type = default;
///     }
/// }
/// ```
///
/// `check` and `eg` may be left out; a default may depend on `mode`. Tables whose names the operator chooses follow
/// behind `with`, in braces, as `name: Type = how to read them;`. Only the file can set them.
macro_rules! section {
    (
        $(#[doc = $about:literal])+
        pub struct $name:ident for $mode:ident {
            $(
                $(#[doc = $doc:literal])+
                $(@$later:ident)? $key:ident: $type:ty = $default:expr $(, check $rule:expr)? $(, eg $sample:literal)?;
            )+
        } $(with {
            $($(#[doc = $table_doc:literal])+ $table:ident: $table_type:ty = $table_read:path;)+
        })?
    ) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name {
            $(
                $(#[doc = $doc])+
                #[doc = concat!("\n\nDefault: `", stringify!($default), "`." $(, " Check: `", stringify!($rule), "`.")?)]
                pub $key: $type,
            )+
            $($($(#[doc = $table_doc])+ pub $table: $table_type,)+)?
        }

        impl Default for $name {
            /// The defaults of production.
            fn default() -> Self {
                $crate::config::section::Section::defaults($crate::config::Mode::Production)
            }
        }

        impl $crate::config::section::Section for $name {
            const ABOUT: &'static [&'static str] = &[$($about),+];

            fn defaults($mode: $crate::config::Mode) -> Self {
                // Most sections have no default that depends on it.
                let _ = $mode;
                Self { $($key: $default,)+ $($($table: <$table_type>::default(),)+)? }
            }

            fn read(scope: &mut $crate::config::scope::ConfigTable<'_>, mode: $crate::config::Mode) -> Self {
                let defaults = Self::defaults(mode);
                scope.refuse_unknown(&[$(stringify!($key),)+ $($(stringify!($table),)+)?]);
                Self {
                    $($key: scope.key(stringify!($key), defaults.$key, &[$(&$rule)?]),)+
                    $($($table: $table_read(&mut scope.child(stringify!($table)), mode),)+)?
                }
            }

            fn keys(mode: $crate::config::Mode) -> Vec<$crate::config::section::ConfigKey> {
                let defaults = Self::defaults(mode);
                vec![$($crate::config::section::ConfigKey {
                    name: stringify!($key),
                    kind: stringify!($type),
                    doc: &[$($doc),+],
                    default: $crate::config::value::ConfigValue::shown(&defaults.$key),
                    // A slice of none or one, as a macro cannot turn an absent fragment into `None`.
                    sample: <[&'static str]>::first(&[$($sample)?]).copied(),
                    #[cfg(test)]
                    range: <[&dyn $crate::config::rule::Rule<$type>]>::first(&[$(&$rule)?]).and_then(|rule| rule.shown_range()),
                    later: !<[&'static str]>::is_empty(&[$(stringify!($later))?]),
                }),+]
            }
        }
    };
}
pub(super) use section;

#[cfg(test)]
mod tests {
    use super::Section;
    use crate::config::{Config, Mode, RoomHistory};

    /// The prose says it where it fits in the sentence; the check is what holds.
    #[test]
    fn a_key_with_a_range_says_the_one_that_is_checked() {
        let mut wrong = Vec::new();
        let of_a_class = ("rooms.history", RoomHistory::ABOUT, RoomHistory::keys(Mode::Production));
        for (section, _, keys) in Config::sections().into_iter().chain([of_a_class]) {
            for key in keys {
                let Some([low, high]) = key.range else { continue };
                let prose = key.doc.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ");
                // Zero has no unit of its own, and a second is the one in everyday use.
                let low = if low == "0ms" { "0s".to_owned() } else { low };
                let said = format!("{low} to {high}");
                if !prose.contains(&said) {
                    wrong.push(format!("{section}.{}: say `{said}` in: {prose}", key.name));
                }
            }
        }
        assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
    }
}
