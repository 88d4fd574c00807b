//! What an operator is told of a configuration: all of its mistakes at once, where each stands, and no secret.

use std::{io::Write, net::SocketAddr, path::Path, time::Duration};

use hallway::config::{
    ByteSize, Config, ConfigErrors, LogFormat, Mode, Origin, Secret, Secrets, TypeConfig, parse_duration,
};
use hallway_rooms::class::Delivery;
use tempfile::NamedTempFile;

const SECRET: &str = "a-secret-of-thirty-two-bytes-or-more";
const SIGNED: (&str, &str) = ("HALLWAY_AUTH__HS256_SECRET", SECRET);

fn file(toml: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().expect("a temporary file");
    file.write_all(toml.as_bytes()).expect("room on the disk");
    file
}

fn load(toml: &str, env: &[(&str, &str)], mode: Mode) -> Result<Config, ConfigErrors> {
    let file = file(toml);
    Config::load(Some(file.path()), env.iter().map(|(name, value)| (name.to_string(), value.to_string())), mode)
}

/// Loads for production, with a secret beside the variables given.
fn production(toml: &str, env: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    load(toml, &[env, &[SIGNED]].concat(), Mode::Production)
}

fn secrets(all: &[&str]) -> Secrets {
    all.iter().map(|secret| Secret::new(*secret)).collect()
}

/// The mistakes of a file, as `key: problem`.
fn complaints(result: Result<Config, ConfigErrors>) -> Vec<String> {
    let errors = result.expect_err("the configuration is wrong");
    errors.iter().map(|error| format!("{}: {}", error.key, error.problem)).collect()
}

#[track_caller]
fn refuses(toml: &str, expected: &str) {
    assert_eq!(complaints(production(toml, &[])), [expected]);
}

#[track_caller]
fn refuses_variable(name: &str, value: &str, expected: &str) {
    assert_eq!(complaints(production("", &[(name, value)])), [expected]);
}

#[test]
fn nothing_set_but_a_secret_gives_the_defaults() {
    let mut expected = Config::default();
    expected.auth.hs256_secret = secrets(&[SECRET]);
    assert_eq!(production("", &[]).unwrap(), expected);
}

#[test]
fn the_defaults_are_the_documented_ones() {
    let config = Config::default();
    assert_eq!(config.server.listen, ["0.0.0.0:8080".parse().unwrap()]);
    assert_eq!(config.server.aliases, ["//realtime"]);
    assert_eq!(config.admin.listen, "127.0.0.1:9090".parse().unwrap());
    assert_eq!(config.auth.max_token_ttl, Duration::from_secs(7 * 86_400));
    assert_eq!(config.history.ttl, Duration::from_secs(3_600));
    assert_eq!(config.limits.event_bytes, ByteSize::kib(64));
    assert_eq!(
        config.types["agent.location_updated"],
        TypeConfig { delivery: Delivery::Latest, key: Some("agentId".to_owned()) }
    );
    assert_eq!(config.log.format, LogFormat::Json);
}

#[test]
fn every_mistake_is_told_at_once_with_its_place() {
    let toml =
        "[server]\nlisten = [\"nowhere\"]\nlisen = 3\n\n[history]\nttl = \"soon\"\nmax_events = -5\n\n[limmits]\n";
    let env = [("HALLWAY_REDIS__CANARY", "2"), ("HALLWAY_REDIS_URL", "redis://r"), ("HALLWAY_API__KEY", "short")];
    let errors = production(toml, &env).expect_err("eight mistakes");
    let said: Vec<String> = errors.to_string().lines().map(without_directory).collect();
    assert_eq!(
        said,
        [
            "HALLWAY_REDIS_URL: is not a known variable (from HALLWAY_REDIS_URL); did you mean HALLWAY_REDIS__URL?",
            "limmits: is not a known section (from FILE:9); did you mean `limits`?",
            "server.lisen: is not a known key (from FILE:3); did you mean `listen`?",
            "server.listen: \"nowhere\" is not an IP address and port such as 127.0.0.1:8080 or [::1]:8080 \
             (from FILE:2); give an IP address and port such as 127.0.0.1:8080 or [::1]:8080",
            "api.key: is 5 bytes long, 32 is the least (from HALLWAY_API__KEY); \
             make one with `openssl rand -base64 48`",
            "redis.canary: \"2\" is not a duration with its unit, such as 500ms, 2s, 1h or 7d \
             (from HALLWAY_REDIS__CANARY); give a duration with its unit, such as 500ms, 2s, 1h or 7d",
            "history.max_events: -5 is not a whole number from 0 (from FILE:7); give a whole number from 0",
            "history.ttl: \"soon\" is not a duration with its unit, such as 500ms, 2s, 1h or 7d \
             (from FILE:6); give a duration with its unit, such as 500ms, 2s, 1h or 7d",
        ]
    );
}

fn without_directory(line: &str) -> String {
    match line.split_once("(from /") {
        Some((head, rest)) => format!("{head}(from FILE{}", &rest[rest.find(':').expect("a line number")..]),
        None => line.to_owned(),
    }
}

#[test]
fn a_variable_goes_over_the_file() {
    let toml = "[server]\nlisten = [\"10.0.0.1:80\"]\n[history]\nttl = \"2h\"\nmax_events = 7";
    let env = [("HALLWAY_SERVER__LISTEN", "127.0.0.1:1, [::1]:2"), ("HALLWAY_HISTORY__TTL", "5ms")];
    let slow = [env[0], ("HALLWAY_HISTORY__TTL", "90s")];
    let config = production(toml, &slow).unwrap();
    let listen: Vec<SocketAddr> = vec!["127.0.0.1:1".parse().unwrap(), "[::1]:2".parse().unwrap()];
    assert_eq!(config.server.listen, listen);
    assert_eq!((config.history.ttl, config.history.max_events), (Duration::from_secs(90), 7));
    let expected = "history.ttl: 5ms is out of range";
    assert_eq!(complaints(production(toml, &env)), [expected]);
}

#[test]
fn a_wrong_value_in_the_file_is_told_even_under_a_good_variable() {
    let result = production("[redis]\nallow_eviction = 1", &[("HALLWAY_REDIS__ALLOW_EVICTION", "true")]);
    assert_eq!(complaints(result), ["redis.allow_eviction: 1 is not true or false"]);
}

#[test]
fn variables_read_lists_numbers_truths_durations_and_sizes() {
    let env = [
        ("HALLWAY_AUTH__STAFF_ROLES", "boss, clerk"),
        ("HALLWAY_SERVER__ALIASES", ""),
        ("HALLWAY_LIMITS__EVENT_BYTES", "128KiB"),
        ("HALLWAY_LIMITS__FRAME_BYTES", "70000"),
        ("HALLWAY_LIMITS__QUEUE_FRAMES", "100"),
        ("HALLWAY_REDIS__ALLOW_EVICTION", "true"),
        ("HALLWAY_SHUTDOWN__DRAIN", "1m 30s"),
        ("HALLWAY_LOG__FORMAT", "pretty"),
    ];
    let config = production("", &env).unwrap();
    assert_eq!(config.auth.staff_roles, ["boss", "clerk"]);
    assert!(config.server.aliases.is_empty() && config.redis.allow_eviction);
    assert_eq!((config.limits.event_bytes.get(), config.limits.frame_bytes.get()), (131_072, 70_000));
    assert_eq!((config.limits.queue_frames, config.log.format), (100, LogFormat::Pretty));
    assert_eq!(config.shutdown.drain, Duration::from_secs(90));
}

#[test]
fn unknown_variables_are_refused_and_other_programs_are_left_alone() {
    refuses_variable("HALLWAY_SERVER__LISTN", "x", "HALLWAY_SERVER__LISTN: is not a known variable");
    refuses_variable("HALLWAY_ROOMS__JOIN", "x", "HALLWAY_ROOMS__JOIN: is not a known variable");
    refuses_variable("HALLWAY_", "x", "HALLWAY_: is not a known variable");
    production("", &[("HALLWAYS", "x"), ("PATH", "/bin"), ("SERVER__LISTEN", "x")]).unwrap();
}

#[test]
fn the_service_links_of_kubernetes_do_not_stop_the_start() {
    let links = [
        ("HALLWAY_PORT", "tcp://10.0.0.7:80"),
        ("HALLWAY_PORT_80_TCP", "tcp://10.0.0.7:80"),
        ("HALLWAY_PORT_80_TCP_ADDR", "10.0.0.7"),
        ("HALLWAY_SERVICE_HOST", "10.0.0.7"),
        ("HALLWAY_SERVICE_PORT", "80"),
        ("HALLWAY_SERVICE_PORT_HTTP", "80"),
        ("HALLWAY_REDIS_MASTER_SERVICE_HOST", "10.0.0.8"),
        ("HALLWAY_ADMIN_PORT_9090_TCP_PROTO", "tcp"),
    ];
    production("", &links).unwrap();
    refuses_variable("HALLWAY_PORT", "8080", "HALLWAY_PORT: is not a known variable");
}

#[test]
fn wrong_types_and_odd_values_are_refused() {
    refuses("[history]\nmax_events = \"100\"", "history.max_events: \"100\" is not a whole number from 0");
    refuses("[history]\nmax_events = -1", "history.max_events: -1 is not a whole number from 0");
    refuses("[history]\nmax_events = 1.5", "history.max_events: a number with a fraction is not a whole number from 0");
    refuses("[server]\nlisten = \"127.0.0.1:1\"", "server.listen: \"127.0.0.1:1\" is not a list in brackets");
    refuses("[server]\nlisten = []", "server.listen: is empty");
    refuses("[auth]\nissuer = \"\"", "auth.issuer: is empty");
    refuses("server = 3", "server: a whole number is not a table");
    refuses("listen = 3", "listen: is not a known key");
    refuses("[log]\nlevel = \"infoo\"", "log.level: \"infoo\" is not a log filter");
    refuses("[log]\nformat = \"xml\"", "log.format: \"xml\" is not json or pretty");
    refuses("[redis]\nprefix = \"Hall\"", "redis.prefix: \"Hall\" is not a prefix");
    refuses("[limits]\nevent_bytes = \"2MiB\"", "limits.event_bytes: 2MiB is out of range");
    refuses(
        "[limits]\nevent_bytes = \"64KB\"",
        "limits.event_bytes: \"64KB\" is not a size such as 65536, 64KiB or 4MiB",
    );
    refuses("[socketio]\nping_interval = \"0s\"", "socketio.ping_interval: 0ms is out of range");
    refuses(
        "[wire]\nwrite_deadline = 10",
        "wire.write_deadline: 10 is not a duration with its unit, such as 500ms, 2s, 1h or 7d",
    );
    refuses_variable("HALLWAY_LOG__LEVEL", "\u{fffd}", "log.level: is not valid UTF-8");
}

#[test]
fn a_value_of_many_lines_stays_on_one_line_of_the_report() {
    let errors = production("\"a\\nb\" = 1", &[("HALLWAY_LOG__LEVEL", "x\ny")]).expect_err("two mistakes");
    assert_eq!(errors.to_string().lines().count(), 2);
}

#[test]
fn a_missing_file_is_told_without_blaming_the_operator_for_what_it_may_hold() {
    let path = Path::new("/nowhere/hallway.toml");
    let errors = Config::load(Some(path), std::iter::empty(), Mode::Production).expect_err("no such file");
    assert_eq!(
        errors.to_string(),
        "(file): cannot be read: No such file or directory (os error 2) (from /nowhere/hallway.toml); \
         name a TOML file this user may read"
    );
}

#[test]
fn a_syntax_error_is_told_with_its_line_and_without_the_line_itself() {
    let errors = production("[api]\nkey = hunter2hunter2\n", &[]).expect_err("no quotes");
    assert!(errors.iter().all(|error| matches!(error.origin, Origin::File { line: Some(2), .. })), "{errors}");
    assert!(!errors.to_string().contains("hunter2"), "{errors}");
}

#[test]
fn secrets_are_never_printed() {
    let url = "redis://user:hunter2-password@r:6379";
    let config = production("", &[("HALLWAY_REDIS__URL", url), ("HALLWAY_API__KEY", &"k".repeat(40))]).unwrap();
    let printed = format!("{config:?} {config:#?} {}", Secret::new(SECRET));
    assert!(printed.contains("***"));
    for secret in [SECRET, "hunter2", "kkkk"] {
        assert!(!printed.contains(secret), "{secret} in {printed}");
    }
    assert_eq!(config.redis.url.as_ref().map(Secret::expose), Some(url));
}

#[test]
fn errors_never_repeat_a_secret() {
    let toml = "[auth]\nhs256_secret = \"hunter2\"\n[redis]\nurl = \"http://hunter2@x\"\n[api]\nkey = [\"hunter2\"]";
    let env = [("HALLWAY_REDIS__URL", "hunter2"), ("HALLWAY_API__KEY", "hunter2 "), ("HALLWAY_STORE__URL", "hunter2")];
    let errors = load(toml, &env, Mode::Production).expect_err("all secrets are wrong");
    assert_eq!(errors.iter().count(), 6, "{errors}");
    assert!(!format!("{errors} {errors:?}").contains("hunter2"), "{errors}");
}

#[test]
fn the_example_has_every_section_and_fits_a_screen() {
    let example = Config::example();
    let headings: Vec<&str> = example.lines().filter(|line| line.starts_with('[')).collect();
    assert_eq!((headings.len(), headings[0]), (17, "[server]"));
    assert!(example.contains("\n# listen = [\"0.0.0.0:8080\"]\n"), "{example}");
    assert!(example.lines().all(|line| line.chars().count() <= 122), "{example}");
}

#[test]
fn the_example_is_the_defaults_as_it_is_and_uncommented() {
    let example = Config::example();
    let keyed = |line: &str| line.starts_with('[') || line.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '));
    let uncommented: Vec<&str> =
        example.lines().map(|line| line.strip_prefix("# ").filter(|rest| keyed(rest)).unwrap_or(line)).collect();
    let mut expected = Config::default();
    expected.auth.hs256_secret = secrets(&[SECRET]);
    assert_eq!(production(&example, &[]).unwrap(), expected);
    let active = |config: &Config| format!("{config:?}").split("not_in_effect").next().map(str::to_owned);
    assert_eq!(active(&production(&uncommented.join("\n"), &[]).unwrap()), active(&expected));
    assert!(uncommented.iter().filter(|line| !line.starts_with(['#', '[']) && !line.is_empty()).count() > 40);
}

#[test]
fn development_needs_nothing_and_listens_to_this_machine_alone() {
    let config = load("", &[], Mode::Dev).unwrap();
    assert_eq!(config.server.listen, ["127.0.0.1:8080".parse().unwrap()]);
    assert_eq!(config.auth.hs256_secret, secrets(&[Config::DEV_SECRET]));
    assert_eq!(config.api.key.as_ref().map(Secret::expose), Some(Config::DEV_API_KEY));
    assert_eq!(config.log.format, LogFormat::Pretty);
    assert!(Config::DEV_SECRET.len() >= 32 && Config::DEV_API_KEY.len() >= 32);
}

#[test]
fn development_refuses_listeners_beyond_this_machine() {
    for key in ["server.listen", "admin.listen", "api.listen"] {
        let name = format!("HALLWAY_{}", key.replace('.', "__").to_uppercase());
        let expected = format!("{key}: 192.168.0.1:7 is not loopback, which --dev insists on");
        assert_eq!(complaints(load("", &[(&name, "192.168.0.1:7")], Mode::Dev)), [expected]);
    }
}

#[test]
fn development_refuses_a_redis_beyond_this_machine() {
    let redis = |url: &str| load("", &[("HALLWAY_REDIS__URL", url)], Mode::Dev);
    let far =
        ["redis://10.0.0.1", "redis://localhost.evil.org", "redis://127.0.0.1:1@evil.org", "rediss://redis:6379/0"];
    for url in far {
        assert_eq!(complaints(redis(url)), ["redis.url: is not on loopback, which --dev insists on"], "{url}");
    }
    for url in ["redis://localhost", "redis://127.0.0.9:1/0", "redis://[::1]:6379", "unix:///run/redis.sock"] {
        redis(url).unwrap();
    }
}

#[test]
fn production_wants_a_key_to_verify_tokens_with() {
    let errors = load("", &[], Mode::Production).expect_err("no key");
    assert_eq!(
        errors.to_string(),
        "auth: no key to verify tokens with (from the default); set auth.hs256_secret, auth.public_key_file \
         or auth.jwks_url, or try things out with `hallway serve --dev`, and `hallway policy --dev` beside it"
    );
}

#[test]
fn production_takes_a_public_key_alone_if_it_is_one() {
    let pem = |text: &str| file(text).into_temp_path();
    let with = |path: &Path| load("", &[("HALLWAY_AUTH__PUBLIC_KEY_FILE", path.to_str().unwrap())], Mode::Production);
    let folder = tempfile::tempdir().unwrap();
    with(&crate::harness::pair::Pair::ed25519(&folder, "good").public).unwrap();
    for (text, problem) in [
        ("-----BEGIN PRIVATE KEY-----", "holds a private key"),
        ("ssh-rsa A", "is not PEM"),
        ("-----BEGIN PUBLIC KEY-----\n", "holds anything but one PEM public key of RSA, P-256, P-384 or Ed25519"),
    ] {
        assert!(complaints(with(&pem(text)))[0].ends_with(problem));
    }
    assert!(complaints(with(Path::new("/nowhere.pem")))[0].contains("cannot be read"));
}

#[test]
fn production_refuses_the_secrets_of_development() {
    let env = [("HALLWAY_AUTH__HS256_SECRET", Config::DEV_SECRET), ("HALLWAY_API__KEY", Config::DEV_API_KEY)];
    let problem = "is the development value, which everybody knows";
    let expected = [format!("auth.hs256_secret: {problem}"), format!("api.key: {problem}")];
    assert_eq!(complaints(load("", &env, Mode::Production)), expected);
}

#[test]
fn several_secrets_are_a_list_in_the_file_and_a_variable_is_one() {
    let (old, new) = ("o".repeat(32), "n".repeat(32));
    let both = format!("[auth]\nhs256_secret = [\"{new}\", \"{old}\"]");
    let with =
        |toml: &str, env: &[(&str, &str)]| load(toml, env, Mode::Production).map(|config| config.auth.hs256_secret);
    assert_eq!(with(&both, &[]), Ok(secrets(&[&new, &old])));
    let commas = format!("{old},{new}");
    assert_eq!(with(&both, &[(SIGNED.0, &commas)]), Ok(secrets(&[&commas])), "no comma splits a secret");
    let short = format!("[auth]\nhs256_secret = [\"{new}\", \"short\"]");
    let expected = ["auth.hs256_secret: is 5 bytes long, 32 is the least"];
    assert_eq!(complaints(load(&short, &[], Mode::Production)), expected);
    assert!(complaints(load("[auth]\nhs256_secret = []", &[], Mode::Production))[0].contains("no key to verify"));
    let pem = format!("[auth]\nhs256_secret = \"-----BEGIN PUBLIC KEY-----{new}\"");
    assert_eq!(
        complaints(load(&pem, &[], Mode::Production)),
        ["auth.hs256_secret: is a key in PEM, and no shared secret"]
    );
}

#[test]
fn secrets_come_from_files_without_their_last_line_end() {
    let (one, two) = (file(&format!("{}\n", "1".repeat(32))), file(&format!("{}\r\n", "2".repeat(40))));
    let paths = [one.path(), two.path()].map(|path| path.to_str().unwrap().to_owned());
    let env = [("HALLWAY_AUTH__HS256_SECRET_FILE", paths.join(","))];
    let env = env.each_ref().map(|(name, value)| (*name, value.as_str()));
    let from_files = [&*"1".repeat(32), &*"2".repeat(40)];
    let with = |env: &[(&str, &str)], mode| load("", env, mode).map(|config| config.auth.hs256_secret);
    assert_eq!(with(&env, Mode::Production), Ok(secrets(&from_files)));
    assert_eq!(with(&env, Mode::Dev), Ok(secrets(&from_files)), "not the one that everybody knows");
    let all = [SECRET, from_files[0], from_files[1]];
    assert_eq!(with(&[env[0], SIGNED], Mode::Production), Ok(secrets(&all)), "the ones of files come after");
}

/// Public keys as a console of an identity provider shows them.
const SPKI_EC: &str = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEu8gnIGLwgvR1As50sKkdT5Aya4PC/VsCYAHABsQgWly9bhndC2JM1GkVQE33HFI4mVybwP/jeFH+haw6z3uUvg==";
const SPKI_ED: &str = "MCowBQYDK2VwAyEAsMobzcL5Soe16leon+5+WqxstSQ9tcjMGWXRBlPlEHI=";
const SPKI_RSA: &str = concat!(
    "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAwX4v2Ck22a/b3YQJPsPiVhAN+zwuw/6CwNlsXKXyNAaLbOUjbeAFytnj",
    "ad/rAT4oDOslFkg/TkW5aIO62fj27TWYgNqn098UEIvdQ566SBAt04H6JvPEdxLrYmk2nk++eRfq3Kr1zz0XBzVWJM4lEDEMjvzi",
    "lh97CPyvowe0QPipaVxUuxCpz+/zpEKhCN30siXCKwJh/Rzhv9MnxlhQBjbL17eQqVYiptLf5eSxlPJAj7xrMsPfkRqSM5b9+V8j",
    "3SuhX+bbya31+sNpVueq9tluwhr4kDZn4q68rfIqI4D3qoN/jIE7RJLNFV7j7DN5dAv+K0MnjVjsVpxJEwYqFwIDAQAB",
);
const CERTIFICATE: &str = concat!(
    "MIIBbTCCAROgAwIBAgIUEKAHaok2Jio1fLrfPpaKZpBVIEowCgYIKoZIzj0EAwIwDDEKMAgGA1UEAwwBeDAeFw0yNjExMjUwOTUx",
    "MjJaFw0yNjExMjYwOTUxMjJaMAwxCjAIBgNVBAMMAXgwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAQ0cDFv22G+C2HgpAIvcEZ0",
    "SpxJpWvPj64tZ474DLvsxIHY/lfKQFRAbXK96URkO3BTwMxHna/BrNGfxTSuIJzso1MwUTAdBgNVHQ4EFgQUSvQx3sD3P+ICYGbe",
    "tCEqxR3YCXcwHwYDVR0jBBgwFoAUSvQx3sD3P+ICYGbetCEqxR3YCXcwDwYDVR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNIADBF",
    "AiEAlDmEVsMrenroU6A2/6E5JMlesBzXmvuDZS98PmqZg+ECIEWS3wLONBXV1IX/aW/YnOuCerG2CcFnjLsJpWGtYYD8",
);

#[test]
fn a_bad_secret_file_stops_the_start_and_is_named() {
    let with = |path: &str| {
        let errors = load("", &[("HALLWAY_AUTH__HS256_SECRET_FILE", path)], Mode::Production).expect_err("a bad file");
        errors.to_string()
    };
    for (text, problem) in [
        ("hunter2", "is 7 bytes long, 32 is the least"),
        (" \n", "is empty"),
        ("-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0D\n", "is a key in PEM, and no shared secret"),
        (SPKI_EC, "is a public key, and no shared secret"),
        (SPKI_RSA, "is a public key, and no shared secret"),
        (CERTIFICATE, "is a public key, and no shared secret"),
        (SPKI_ED, "is a public key, and no shared secret"),
        (&format!("{}\n{}\n", &SPKI_EC[..64], &SPKI_EC[64..]), "is a public key, and no shared secret"),
        (r#"{"keys": [{"kty" : "oct", "k": "hunter2hunter2hunter2"}]}"#, "is a public key, and no shared secret"),
        (Config::DEV_SECRET, "is the development value, which everybody knows"),
    ] {
        let file = file(text);
        let path = file.path().to_str().unwrap();
        let said = with(path);
        assert!(said.contains(problem) && said.contains("auth.hs256_secret"), "{said}");
        assert!(said.contains(path) || text == Config::DEV_SECRET, "{said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
    assert!(with("/nowhere/secret").starts_with("auth.hs256_secret_file: \"/nowhere/secret\" cannot be read"));
}

#[test]
fn a_secret_in_base64_is_no_public_key() {
    for start in ["MFkw", "MIIB", "MCow", "AAAA", "////"] {
        let secret = format!("{start}{}", "EwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEu8gnIGLwgvR1As50sKkdT5Aya4PC");
        production("", &[("HALLWAY_AUTH__HS256_SECRET", &secret)]).unwrap();
    }
}

#[test]
fn a_file_without_an_end_is_not_read_for_a_secret() {
    for (section, key) in [
        ("auth", "hs256_secret_file"),
        ("auth", "public_key_file"),
        ("redis", "url_file"),
        ("authorizer", "secret_file"),
    ] {
        let variable = format!("HALLWAY_{}__{}", section.to_uppercase(), key.to_uppercase());
        let said = production("", &[(&variable, "/dev/zero")]).expect_err("no secret").to_string();
        let expected = format!("{section}.{key}: \"/dev/zero\" cannot be read: it is longer than any key");
        assert!(said.starts_with(&expected), "{said}");
    }
}

#[test]
fn the_url_of_redis_may_stand_in_a_file() {
    let good = file("redis://:hunter2@r:6379\n");
    let path = good.path().to_str().unwrap();
    let config = production("", &[("HALLWAY_REDIS__URL_FILE", path)]).unwrap();
    assert_eq!(config.redis.url.as_ref().map(Secret::expose), Some("redis://:hunter2@r:6379"));
    let both = production("", &[("HALLWAY_REDIS__URL_FILE", path), ("HALLWAY_REDIS__URL", "redis://r")]);
    assert_eq!(complaints(both), ["redis.url_file: is set, and redis.url too"]);
    let bad = file("http://hunter2@r");
    let said = production("", &[("HALLWAY_REDIS__URL_FILE", bad.path().to_str().unwrap())]).expect_err("no Redis URL");
    assert!(said.to_string().contains("is not a Redis URL") && !said.to_string().contains("hunter2"), "{said}");
    let far = load("", &[("HALLWAY_REDIS__URL_FILE", path)], Mode::Dev);
    assert_eq!(complaints(far), ["redis.url: is not on loopback, which --dev insists on"]);
}

#[test]
fn a_jwks_comes_over_https_or_from_this_machine() {
    let with = |settings: &str| load(&format!("[auth]\n{settings}"), &[], Mode::Production);
    let url = |url: &str| format!("jwks_url = \"{url}\"");
    for good in ["https://id/keys", "http://localhost:1/k", "http://127.0.0.1/k", "http://[::1]:9/k?a=b"] {
        with(&url(good)).unwrap();
    }
    for bad in ["http://id/keys", "http://10.0.0.1/k", "http://localhost.evil/k", "http://127.0.0.1.evil/k"] {
        let expected = "auth.jwks_url: is plain http, which anybody in between can change";
        assert_eq!(complaints(with(&url(bad))), [expected], "{bad}");
        with(&format!("{}\njwks_insecure = true", url(bad))).unwrap();
    }
    for bad in ["id/keys", "ftp://id/keys", "file:///etc/passwd", "https://u:hunter2@id/keys", "https://"] {
        assert_eq!(complaints(with(&url(bad))), ["auth.jwks_url: is not the URL of a JWKS"], "{bad}");
    }
    let stale = format!("{}\njwks_max_stale = \"10m\"", url("https://id/keys"));
    assert_eq!(complaints(with(&stale)), ["auth.jwks_max_stale: is not longer than auth.jwks_refresh"]);
}

#[test]
fn history_is_remembered_at_least_as_long_as_it_is_kept() {
    refuses("[limits]\nmemory = \"32MiB\"", "limits.memory: 32MiB is out of range");
    refuses(
        "[limits]\nmemory = \"128MiB\"",
        "limits.memory: 128MiB is less than twice what publishes and histories may take up",
    );
    refuses(
        "[limits]\nmemory = \"512MiB\"\nqueue_bytes = \"64MiB\"",
        "limits.memory: 512MiB is less than 16 times limits.queue_bytes",
    );
    refuses("[history]\nttl = \"8d\"", "history.memory: is shorter than history.ttl");
    let room = "[rooms.\"order:{id}\"]\nhistory = { ttl = \"8d\" }";
    refuses(room, "rooms.\"order:{id}\".history.ttl: is longer than history.memory");
}

#[test]
fn a_socket_queue_holds_two_events_at_least() {
    refuses("[limits]\nqueue_bytes = \"64KiB\"", "limits.queue_bytes: holds less than two events");
}

#[test]
fn listeners_must_be_distinct() {
    refuses(
        "[api]\nlisten = \"127.0.0.1:8080\"",
        "api.listen: 127.0.0.1:8080 clashes with 0.0.0.0:8080 of server.listen",
    );
    refuses(
        "[server]\nlisten = [\"0.0.0.0:9090\"]",
        "server.listen: 127.0.0.1:9090 clashes with 0.0.0.0:9090 of server.listen",
    );
    production("[server]\nlisten = [\"0.0.0.0:0\", \"127.0.0.1:0\"]\n[admin]\nlisten = \"127.0.0.1:0\"", &[]).unwrap();
    for (one, other) in
        [("0.0.0.0", "[::]"), ("127.0.0.1", "[::]"), ("[::]", "[::1]"), ("[::ffff:127.0.0.1]", "127.0.0.1")]
    {
        let said = complaints(production(&format!("[server]\nlisten = [\"{one}:80\", \"{other}:80\"]"), &[]));
        assert_eq!(said, [format!("server.listen: {other}:80 clashes with {one}:80 of server.listen")]);
    }
    production("[server]\nlisten = [\"0.0.0.0:80\", \"[::1]:80\", \"[::]:81\"]", &[]).unwrap();
}

#[test]
fn a_default_in_place_of_a_wrong_value_is_not_blamed() {
    let toml = "[admin]\nlisten = 9\n[server]\nlisten = [\"127.0.0.1:9090\"]\n[history]\nmemory = 1\nttl = \"8d\"";
    let errors = production(toml, &[]).expect_err("wrong values");
    let keys: Vec<&str> = errors.iter().map(|error| error.key.as_str()).collect();
    assert_eq!(keys, ["admin.listen", "history.memory"]);
    let short = load("", &[("HALLWAY_AUTH__HS256_SECRET", "short")], Mode::Production);
    assert_eq!(complaints(short), ["auth.hs256_secret: is 5 bytes long, 32 is the least"]);
}

#[test]
fn namespaces_are_names_a_packet_can_carry() {
    for name in ["realtime", "/a,b", "/a?b", "/a b"] {
        let expected = format!("server.namespace: {name:?} is not a namespace");
        refuses(&format!("[server]\nnamespace = {name:?}"), &expected);
        let expected = format!("server.aliases: {name:?} is not a namespace");
        refuses(&format!("[server]\naliases = [{name:?}]"), &expected);
    }
    refuses("[server]\naliases = [\"/realtime\"]", "server.aliases: \"/realtime\" is named twice");
}

#[test]
fn the_secret_of_the_authorizer_comes_from_one_place() {
    let secret = file("from-a-file\n");
    let path = secret.path().to_str().expect("text");
    let from_file = [("HALLWAY_AUTHORIZER__SECRET_FILE", path)];
    let config = production("", &from_file).unwrap();
    assert_eq!(config.authorizer.bearer().map(Secret::expose), Some("from-a-file"));
    let both = [from_file[0], ("HALLWAY_AUTHORIZER__SECRET", "s3cret")];
    assert_eq!(complaints(production("", &both)), ["authorizer.secret_file: is set beside authorizer.secret"]);
    let url = "https://user:hunter2@authz/x";
    refuses_variable("HALLWAY_AUTHORIZER__URL", url, "authorizer.url: holds a name or a password");
    refuses_variable("HALLWAY_AUTHORIZER__SECRET", "a b", "authorizer.secret: cannot be sent in a header");
    let missing = complaints(production("", &[("HALLWAY_AUTHORIZER__SECRET_FILE", "/nowhere/secret")]));
    assert!(missing.len() == 1 && missing[0].contains("\"/nowhere/secret\" cannot be read"), "{missing:?}");
    let empty = file("\n");
    let empty = [("HALLWAY_AUTHORIZER__SECRET_FILE", empty.path().to_str().expect("text"))];
    assert!(complaints(production("", &empty))[0].ends_with(" is empty"));
    let two_lines = file("one\ntwo\n");
    let two_lines = [("HALLWAY_AUTHORIZER__SECRET_FILE", two_lines.path().to_str().expect("text"))];
    assert!(complaints(production("", &two_lines))[0].ends_with(" cannot be sent in a header"));
}

#[test]
fn keys_without_effect_are_checked_and_named() {
    let toml = "[ack]\nretries = 2\n[rooms.\"order:{id}\"]\npresence = true";
    let env = [("HALLWAY_INGEST__EMITTERS", "socket.io,python-socketio"), ("HALLWAY_WS__IDLE_TIMEOUT", "30s")];
    let config = production(toml, &env).unwrap();
    let expected = ["ack.retries", "ws.idle_timeout", "ingest.emitters", "rooms.\"order:{id}\".presence"];
    assert_eq!(config.not_in_effect(), expected);
    assert!(production("", &[]).unwrap().not_in_effect().is_empty());
    refuses("[ack]\nretries = \"two\"", "ack.retries: \"two\" is not a whole number from 0");
    refuses("[ingest]\nemitters = [\"soket.io\"]", "ingest.emitters: \"soket.io\" is not an emitter dialect");
}

#[test]
fn ids_are_remembered_for_two_terms_of_the_ingest_lease() {
    let toml = "[redis]\nurl = \"redis://localhost\"\n[history]\nid_window = \"1m\"\n[ingest]\nlease = ";
    refuses(&format!("{toml}\"40s\""), "history.id_window: is shorter than two terms of ingest.lease");
    assert!(production(&format!("{toml}\"30s\""), &[]).is_ok());
}

#[test]
fn room_classes_and_types_come_from_the_file() {
    let toml = r#"
        [rooms."order:{orderId}"]
        history = { max_events = 500 }
        delivery = "ephemeral"
        [rooms."fleet:{fleetId}:alerts"]
        [types."order.ticked"]
        delivery = "latest"
    "#;
    let config = production(toml, &[]).unwrap();
    let order = &config.rooms["order:{orderId}"];
    assert_eq!((order.history.max_events, order.history.ttl), (Some(500), None));
    assert_eq!((order.delivery, order.presence), (Some(Delivery::Ephemeral), false));
    assert_eq!(config.rooms["fleet:{fleetId}:alerts"].delivery, None);
    assert_eq!(config.types.len(), 2);
}

#[test]
fn room_classes_and_types_are_checked() {
    for form in ["Order:{id}", "order:", "order:{}", "{a b}", "order:id}", ""] {
        refuses(&format!("[rooms.{form:?}]"), &format!("rooms.{form:?}: is not a room form"));
    }
    let twice = "[rooms.\"order:{a}\"]\n[rooms.\"order:{b}\"]";
    refuses(twice, "rooms.\"order:{b}\": is the same form as \"order:{a}\"");
    refuses("[rooms.user]\nttl = 1", "rooms.user.ttl: is not a known key");
    refuses("[rooms.user.history]\nmax = 1", "rooms.user.history.max: is not a known key");
    refuses("[rooms]\nuser = 1", "rooms.user: a whole number is not a table");
    refuses("[types.\"a b\"]", "types.\"a b\": is not an event type");
    refuses("[types.connect]", "types.connect: is not an event type");
    refuses("[types.a]\ndelivery = \"late\"", "types.a.delivery: \"late\" is not durable, latest or ephemeral");
}

#[test]
fn durations_on_a_command_line_need_a_unit() {
    assert_eq!(parse_duration("1h"), Ok(Duration::from_secs(3_600)));
    assert!(parse_duration("10").is_err() && parse_duration("").is_err() && parse_duration("-1s").is_err());
}

#[test]
fn origins_and_proxies_are_checked() {
    let toml = r#"
        [server]
        origins = ["https://app.example.com", "https://*.example.com"]
        trusted_proxies = ["10.0.0.0/8", "192.0.2.1", "fd00::/8", "::ffff:10.1.0.0/112"]
    "#;
    let server = production(toml, &[]).unwrap().server;
    assert!(
        server.origins[1].includes("https://a.example.com") && !server.origins[0].includes("https://a.example.com")
    );
    let proxies: Vec<String> = server.trusted_proxies.iter().map(ToString::to_string).collect();
    assert_eq!(proxies, ["10.0.0.0/8", "192.0.2.1/32", "fd00::/8", "10.1.0.0/16"]);
    for origin in ["*", "null", "app.example.com", "https://app.example.com/", "https://*.com"] {
        let kind = "an origin such as https://app.example.com or https://*.example.com, without a path";
        refuses(&format!("[server]\norigins = [{origin:?}]"), &format!("server.origins: {origin:?} is not {kind}"));
    }
    for net in ["10.0.0.0/33", "proxy", ""] {
        let kind = "an IP address or a network such as 10.0.0.0/8 or fd00::/8";
        let expected = format!("server.trusted_proxies: {net:?} is not {kind}");
        refuses(&format!("[server]\ntrusted_proxies = [{net:?}]"), &expected);
    }
    let everybody = "server.trusted_proxies: 0.0.0.0/0 is everybody, so every client could say where it comes from";
    refuses("[server]\ntrusted_proxies = [\"0.0.0.0/0\"]", everybody);
    refuses("[limits]\nconnections = 0", "limits.connections: 0 is out of range");
}

#[test]
fn the_page_of_the_configuration_is_fresh() {
    let fresh = crate::tidy::read("docs/configuration.md") == hallway::config::Config::reference();
    assert!(fresh, "write it anew: cargo run -- reference configuration > docs/configuration.md");
}
