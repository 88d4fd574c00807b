//! What an operator can set, from a TOML file and the environment over it.
//!
//! Each key is declared once, in the file of its section, with its doc, type, default and check (`section!`); the
//! struct, the loading, the list of known keys and `hallway.example.toml` all come from that. A load tells every mistake
//! at once, and nothing fails open: what is not understood stops the start.

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
pub use auth::Auth;
pub use authorizer::Authorizer;
pub use connection::{Shutdown, SocketIo, Wire};
pub use dev_host::{DevHost, NoHost};
pub use environment::environment;
pub use error::{ConfigError, ConfigErrors, Origin};
pub use history::History;
pub use ingest::Ingest;
pub use later::{Ack, Store, SyncDoor, WsDoor};
pub use limits::Limits;
pub use log::{Log, LogFormat};
pub use pem_file::PemFile;
pub use redis::{AccessErrors, Redis};
pub use rooms::{RoomClassConfig, RoomHistory, TypeConfig};
pub use secret::Secret;
pub use secret_file::SecretFile;
pub use secrets::Secrets;
pub use server::{Admin, Server};
pub use units::{ByteSize, parse_duration};
pub use web_origin::WebOrigin;

use environment::Variables;
use report::{Report, read_file};
use scope::{Scope, Sources};
use section::Section;

/// How strict a load is, and which defaults it starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// For the world: a key to verify tokens with is required.
    #[default]
    Production,
    /// For one machine (`serve --dev`): fixed secrets, so every listener and the Redis must be on loopback.
    Dev,
    /// As `Dev`, and `server.listen` may be beyond loopback: the operator has named what else the machine is called
    /// (`--dev-host`), or this process listens nowhere.
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

/// Makes `Config` from the list of its sections.
macro_rules! sections {
    ($($name:ident: $section:ty,)+) => {
        /// Everything an operator can set. `Default` is what production gets when nothing is set, unchecked.
        #[derive(Debug, Clone, PartialEq)]
        pub struct Config {
            $(#[doc = concat!("The section `", stringify!($name), "`.")] pub $name: $section,)+
            /// Classes of rooms by form, as the file writes it. No two are of one shape.
            pub rooms: BTreeMap<String, RoomClassConfig>,
            /// Types of events delivered otherwise than their room's class says.
            pub types: BTreeMap<String, TypeConfig>,
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

            fn read(root: &mut Scope<'_>, mode: Mode) -> Self {
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
    server: Server,
    admin: Admin,
    api: Api,
    auth: Auth,
    authorizer: Authorizer,
    redis: Redis,
    history: History,
    limits: Limits,
    wire: Wire,
    socketio: SocketIo,
    shutdown: Shutdown,
    log: Log,
    ack: Ack,
    sync: SyncDoor,
    ws: WsDoor,
    ingest: Ingest,
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

    /// Reads the file, where one is named, and the variables over it; see [`environment()`] for the process's own.
    ///
    /// # Errors
    /// Every mistake found, and no configuration while there is one.
    pub fn load(
        file: Option<&Path>,
        env: impl Iterator<Item = (String, String)>,
        mode: Mode,
    ) -> Result<Self, ConfigErrors> {
        Self::load_for(file, env, mode, agreement::serving)
    }

    /// As [`Config::load`] in production, for a command that verifies no token: the key for that may be missing.
    ///
    /// # Errors
    /// Every mistake found, and no configuration while there is one.
    pub fn load_without_keys(
        file: Option<&Path>,
        env: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigErrors> {
        Self::load_for(file, env, Mode::Production, |_, _| {})
    }

    /// Where the gateway of this machine answers probes. Nothing else is read or judged: a probe is started with the
    /// gateway's variables, and may lack its files.
    ///
    /// # Errors
    /// Every mistake in `[admin]`, and a file that cannot be read.
    pub fn load_admin(file: Option<&Path>, env: impl Iterator<Item = (String, String)>) -> Result<Admin, ConfigErrors> {
        let mut report = Report::default();
        let variables = Variables::collect(env, &Self::paths(|_| true), &mut report);
        let table = file.map(|path| read_file(path, &mut report)).unwrap_or_default();
        let sources = Sources { path: file.unwrap_or(Path::new("")), variables: &variables };
        let admin = Section::read(&mut Scope::root(&table, &sources, &mut report).child("admin"), Mode::Production);
        let errors = report.into_errors();
        if errors.is_empty() { Ok(admin) } else { Err(ConfigErrors::new(errors)) }
    }

    fn load_for(
        file: Option<&Path>,
        env: impl Iterator<Item = (String, String)>,
        mode: Mode,
        further: fn(&Self, &mut Report),
    ) -> Result<Self, ConfigErrors> {
        let mut report = Report::default();
        let variables = Variables::collect(env, &Self::paths(|_| true), &mut report);
        let table = file.map(|path| read_file(path, &mut report)).unwrap_or_default();
        let sources = Sources { path: file.unwrap_or(Path::new("")), variables: &variables };
        let mut config = Self::read(&mut Scope::root(&table, &sources, &mut report), mode);
        secrets::read_files(&mut config, &mut report);
        if !report.file_unknown {
            agreement::check(&config, mode, &mut report);
            further(&config, &mut report);
        }
        config.not_in_effect = config.set_without_effect(&report);
        let errors = report.into_errors();
        if errors.is_empty() { Ok(config) } else { Err(ConfigErrors::new(errors)) }
    }

    /// The documented example file: every key with its doc and its default, valid TOML as it is and uncommented.
    #[must_use]
    pub fn example() -> String {
        example::write(&Self::sections())
    }

    /// `docs/configuration.md`: every key with its type, its default and its meaning.
    #[must_use]
    pub fn reference() -> String {
        reference::page(&Self::sections())
    }

    /// The keys that the operator has set and that do nothing in this version, for a warning at start.
    #[must_use]
    pub fn not_in_effect(&self) -> Vec<String> {
        self.not_in_effect.clone()
    }

    /// `section.key` of every key that passes, in the order of their declaration.
    fn paths(passes: impl Fn(&section::Key) -> bool) -> Vec<String> {
        let of = |(section, _, keys): example::SectionDoc| {
            let keys = keys.into_iter().filter(&passes);
            keys.map(|key| format!("{section}.{}", key.name)).collect::<Vec<_>>()
        };
        Self::sections().into_iter().flat_map(of).collect()
    }

    fn set_without_effect(&self, report: &Report) -> Vec<String> {
        let later = Self::paths(|key| key.later).into_iter().filter(|path| report.is_set(path));
        let presence = self.rooms.iter().filter(|(_, class)| class.presence);
        later.chain(presence.map(|(form, _)| format!("rooms.{}.presence", value::toml_string(form)))).collect()
    }
}
