//! The configuration: a TOML file, with environment variables over it.
//!
//! Each key is declared once, in the file of its section, with its doc, type, default and check (`section!`). The
//! struct, the loading, the list of known keys and `hallway.example.toml` are generated from that. A load reports
//! every mistake at once, and nothing fails open: a text that is not understood stops the start.

use std::{collections::BTreeMap, path::Path};

mod agreement;
mod api;
mod auth;
mod authorizer;
mod connection;
mod dev_host;
mod environment;
mod error;
mod example;
mod history;
mod ingest;
mod later;
mod limits;
mod log;
mod nearest;
mod pem_file;
mod proxies;
mod public_key;
mod raw;
mod redis;
mod reference;
mod report;
mod rooms;
mod rule;
mod scope;
mod secret;
mod secret_file;
mod secrets;
mod section;
mod server;
mod units;
mod value;
mod web_origin;

pub use api::{Api, ApiKeyConfig, ApiScope, Bearer};
pub use auth::AuthConfig;
pub use authorizer::AuthorizerConfig;
pub use connection::{ConnectionConfig, Shutdown, SocketIo};
pub use dev_host::{DevHost, NoHost};
pub use environment::environment;
pub use error::{ConfigError, ConfigErrors, Origin};
pub use history::HistoryConfig;
pub use ingest::IngestConfig;
pub use later::{Ack, Store, SyncDoor, WsDoor};
pub use limits::LimitsConfig;
pub use log::{Log, LogFormat};
pub use pem_file::PemFile;
pub use redis::{AccessErrors, RedisConfig};
pub use rooms::{RoomClassConfig, RoomHistory, TypeConfig};
pub use secret::Secret;
pub use secret_file::SecretFile;
pub use secrets::Secrets;
pub use server::{AdminConfig, ServerConfig};
pub use units::{ByteSize, parse_duration};
pub use web_origin::WebOrigin;

use environment::Variables;
use report::{LoadReport, read_file};
use scope::{ConfigSources, ConfigTable};
use section::Section;

/// The strictness of a load, and the defaults it starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Production: a key to verify tokens with is required.
    #[default]
    Production,
    /// One machine (`serve --dev`): fixed secrets, so every listener and the Redis must be on loopback.
    Dev,
    /// As `Dev`, but `server.listen` may be beyond loopback: the operator has named the machine's other name
    /// (`--dev-host`), or this process does not listen.
    DevNamed,
}

impl Mode {
    /// Whether this is development.
    #[must_use]
    pub const fn is_dev(self) -> bool {
        match self {
            Self::Production => false,
            Self::Dev | Self::DevNamed => true,
        }
    }
}

/// Generates `Config` from the list of its sections.
macro_rules! sections {
    ($($name:ident: $section:ty,)+) => {
        /// The whole configuration. `Default` is production's without any setting, unchecked.
        #[derive(Debug, Clone, PartialEq)]
        pub struct Config {
            $(#[doc = concat!("The section `", stringify!($name), "`.")] pub $name: $section,)+
            /// Room classes by form, as the file spells it. No two have one shape.
            pub rooms: BTreeMap<String, RoomClassConfig>,
            /// Event types with a delivery of their own.
            pub types: BTreeMap<String, TypeConfig>,
            /// Keys that were set and have no effect in this version.
            not_in_effect: Vec<String>,
        }

        impl Config {
            fn defaults(mode: Mode) -> Self {
                Self {
                    $($name: Section::defaults(mode),)+
                    rooms: BTreeMap::new(),
                    types: rooms::default_types(),
                    not_in_effect: Vec::new(),
                }
            }

            fn read(root: &mut ConfigTable<'_>, mode: Mode) -> Self {
                root.refuse_unknown(&[$(stringify!($name),)+ "rooms", "types"]);
                Self {
                    $($name: Section::read(&mut root.child(stringify!($name)), mode),)+
                    rooms: rooms::read_rooms(&mut root.child("rooms"), mode),
                    types: rooms::read_types(&mut root.child("types")),
                    not_in_effect: Vec::new(),
                }
            }

            fn sections() -> Vec<example::SectionDoc> {
                vec![$((stringify!($name), <$section>::ABOUT, <$section>::keys(Mode::Production)),)+]
            }
        }
    };
}

sections! {
    server: ServerConfig,
    admin: AdminConfig,
    api: Api,
    auth: AuthConfig,
    authorizer: AuthorizerConfig,
    redis: RedisConfig,
    history: HistoryConfig,
    limits: LimitsConfig,
    wire: ConnectionConfig,
    socketio: SocketIo,
    shutdown: Shutdown,
    log: Log,
    ack: Ack,
    sync: SyncDoor,
    ws: WsDoor,
    ingest: IngestConfig,
    store: Store,
}

impl Default for Config {
    fn default() -> Self {
        Self::defaults(Mode::Production)
    }
}

impl Config {
    /// The `auth.hs256_secret` of development. Refused in production.
    pub const DEV_SECRET: &str = "hallway-dev-secret-do-not-use-in-production";

    /// The `api.key` of development. Refused in production.
    pub const DEV_API_KEY: &str = "hallway-dev-api-key-do-not-use-in-production";

    /// Loads the file, if one is named, with the variables over it. See [`environment()`] for the process's own
    /// variables.
    ///
    /// # Errors
    /// Every mistake found. There is no configuration while there is one.
    pub fn load(
        file: Option<&Path>,
        env: impl Iterator<Item = (String, String)>,
        mode: Mode,
    ) -> Result<Self, ConfigErrors> {
        Self::load_for(file, env, mode, agreement::check_serving)
    }

    /// As [`Config::load`] in production, for a command that verifies no token: the key for it may be missing.
    ///
    /// # Errors
    /// Every mistake found. There is no configuration while there is one.
    pub fn load_without_keys(
        file: Option<&Path>,
        env: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigErrors> {
        Self::load_for(file, env, Mode::Production, |_, _| {})
    }

    /// The address where this machine's gateway answers probes. Nothing else is read or checked: a probe is started
    /// with the gateway's variables and may lack its files.
    ///
    /// # Errors
    /// Every mistake in `[admin]`, and a file that cannot be read.
    pub fn load_admin(
        file: Option<&Path>,
        env: impl Iterator<Item = (String, String)>,
    ) -> Result<AdminConfig, ConfigErrors> {
        let mut report = LoadReport::default();
        let variables = Variables::collect_known(env, &Self::paths(|_| true), &mut report);
        let table = file.map(|path| read_file(path, &mut report)).unwrap_or_default();
        let sources = ConfigSources { path: file.unwrap_or(Path::new("")), variables: &variables };
        let admin =
            Section::read(&mut ConfigTable::root(&table, &sources, &mut report).child("admin"), Mode::Production);
        let errors = report.into_errors();
        if errors.is_empty() { Ok(admin) } else { Err(ConfigErrors::new(errors)) }
    }

    fn load_for(
        file: Option<&Path>,
        env: impl Iterator<Item = (String, String)>,
        mode: Mode,
        further: fn(&Self, &mut LoadReport),
    ) -> Result<Self, ConfigErrors> {
        let mut report = LoadReport::default();
        let variables = Variables::collect_known(env, &Self::paths(|_| true), &mut report);
        let table = file.map(|path| read_file(path, &mut report)).unwrap_or_default();
        let sources = ConfigSources { path: file.unwrap_or(Path::new("")), variables: &variables };
        let mut config = Self::read(&mut ConfigTable::root(&table, &sources, &mut report), mode);
        // Before the checks across keys, which see the secrets whatever they came by.
        secrets::read_files(&mut config, &mut report);
        // Without the file's table every key would count as left out, and the complaints would mislead.
        if !report.file_unknown {
            agreement::check_agreement(&config, mode, &mut report);
            further(&config, &mut report);
        }
        // Last, as the report knows which keys were set.
        config.not_in_effect = config.set_without_effect(&report);
        let errors = report.into_errors();
        if errors.is_empty() { Ok(config) } else { Err(ConfigErrors::new(errors)) }
    }

    /// The documented example file: every key with its doc and default. It is valid TOML as it is and uncommented.
    #[must_use]
    pub fn example() -> String {
        example::write(&Self::sections())
    }

    /// `docs/configuration.md`: every key with its type, default and meaning.
    #[must_use]
    pub fn reference() -> String {
        reference::page(&Self::sections())
    }

    /// The keys that are set and have no effect in this version, for a warning at the start.
    #[must_use]
    pub fn not_in_effect(&self) -> Vec<String> {
        self.not_in_effect.clone()
    }

    /// The `section.key` of every key that passes, in the order of declaration.
    fn paths(passes: impl Fn(&section::ConfigKey) -> bool) -> Vec<String> {
        let of = |(section, _, keys): example::SectionDoc| {
            let keys = keys.into_iter().filter(&passes);
            keys.map(|key| format!("{section}.{}", key.name)).collect::<Vec<_>>()
        };
        Self::sections().into_iter().flat_map(of).collect()
    }

    fn set_without_effect(&self, report: &LoadReport) -> Vec<String> {
        let later = Self::paths(|key| key.later).into_iter().filter(|path| report.is_set(path));
        // Classes are declared by the operator, so the list of keys does not contain this one.
        let presence = self.rooms.iter().filter(|(_, class)| class.presence);
        later.chain(presence.map(|(form, _)| format!("rooms.{}.presence", value::toml_string(form)))).collect()
    }
}
