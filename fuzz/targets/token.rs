//! Tokens, real, forged and mutated: what is accepted was signed with the secret, untouched, and is within its times.

#![no_main]

use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arbitrary::Arbitrary;
use futures_util::FutureExt;
use hallway::auth::claims::MAX_ID_BYTES;
use hallway::auth::keys::VerifyingKey as Proof;
use hallway::auth::token::{TokenRules, Verifier};
use jsonwebtoken::crypto::sign;
use jsonwebtoken::{Algorithm, EncodingKey};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

const SECRET: &[u8] = b"a-secret-for-fuzzing-of-more-than-32-bytes";
const LEEWAY: i64 = 2;
/// The clock may go on by so much between the making of a token and its check.
const SLACK: i64 = 5;
const LONGEST: i64 = 3600;
const PEM: &str = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEgcKsJwyHExlnxzb3JuYEePRuBzUT\n+5JfNSvuHbg3+StUiAzQVdWBLMfkz75dGd1rjXdZR9TC3G2jUj/PmoSHtQ==\n-----END PUBLIC KEY-----\n";

#[derive(Arbitrary, Debug)]
enum Input<'a> {
    Any(&'a str),
    Made {
        algorithm: Alg,
        extra: Vec<(&'a str, &'a str)>,
        key: Key<'a>,
        claims: Claims<'a>,
        change: Option<Change>,
        around: Around,
    },
}

#[derive(Arbitrary, Clone, Copy, Debug, PartialEq)]
enum Alg {
    Hs256,
    Hs384,
    Hs512,
    None,
    Es256,
    Rs256,
    EdDsa,
    Lower,
}

#[derive(Arbitrary, Debug, PartialEq)]
enum Key<'a> {
    Right,
    Pem,
    Empty,
    Other(&'a [u8]),
    NoSignature,
    Bytes(&'a [u8]),
}

#[derive(Arbitrary, Debug)]
struct Claims<'a> {
    subject: Option<Subject<'a>>,
    expires_in: Option<i16>,
    issued_ago: Option<i16>,
    not_before_in: Option<i16>,
    issuer: Option<Issuer<'a>>,
    more: Vec<(&'a str, &'a str)>,
}

#[derive(Arbitrary, Debug, PartialEq)]
enum Subject<'a> {
    Text(&'a str),
    Whole(u64),
    Negative(i64),
    Fraction(f64),
}

#[derive(Arbitrary, Debug, PartialEq)]
enum Issuer<'a> {
    Right,
    Other(&'a str),
    List(Vec<&'a str>),
}

#[derive(Arbitrary, Debug)]
enum Change {
    Byte(u16, u8),
    Cut(u16),
    Insert(u16, char),
    SwapCase(u16),
}

#[derive(Arbitrary, Debug)]
enum Around {
    Nothing,
    /// The scheme, with capitals where a bit is set.
    Bearer(u8),
    Blanks,
}

impl Subject<'_> {
    fn json(&self) -> Value {
        match self {
            Self::Text(text) => (*text).into(),
            Self::Whole(number) => (*number).into(),
            Self::Negative(number) => (*number).into(),
            Self::Fraction(number) => (*number).into(),
        }
    }

    /// The user that it names.
    fn id(&self) -> Option<String> {
        match self {
            Self::Text(text) => Some((*text).to_owned()).filter(|text| is_short(text)),
            Self::Whole(number) => Some(number.to_string()),
            Self::Negative(number) => u64::try_from(*number).ok().map(|number| number.to_string()),
            Self::Fraction(_) => None,
        }
    }
}

impl Alg {
    fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Hs384 => "HS384",
            Self::Hs512 => "HS512",
            Self::None => "none",
            Self::Es256 => "ES256",
            Self::Rs256 => "RS256",
            Self::EdDsa => "EdDSA",
            Self::Lower => "hs256",
        }
    }

    fn hmac(self) -> Option<Algorithm> {
        match self {
            Self::Hs256 => Some(Algorithm::HS256),
            Self::Hs384 => Some(Algorithm::HS384),
            Self::Hs512 => Some(Algorithm::HS512),
            Self::None | Self::Es256 | Self::Rs256 | Self::EdDsa | Self::Lower => None,
        }
    }
}

impl Claims<'_> {
    fn json(&self, now: i64) -> Value {
        let mut claims = json!({});
        for (name, text) in &self.more {
            claims[name] = serde_json::from_str(text).unwrap_or(Value::Null);
        }
        let ours = ["sub", "exp", "iat", "nbf", "iss", "aud", "jti"];
        ours.iter().for_each(|name| drop(claims.as_object_mut().expect("an object").remove(*name)));
        let mut set = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                claims[name] = value;
            }
        };
        set("sub", self.subject.as_ref().map(Subject::json));
        set("exp", self.expires_in.map(|s| (now + i64::from(s)).into()));
        set("iat", self.issued_ago.map(|s| (now - i64::from(s)).into()));
        set("nbf", self.not_before_in.map(|s| (now + i64::from(s)).into()));
        set(
            "iss",
            self.issuer.as_ref().map(|issuer| match issuer {
                Issuer::Right => "us".into(),
                Issuer::Other(other) => (*other).into(),
                Issuer::List(list) => list.clone().into(),
            }),
        );
        claims
    }

    /// Whether such claims are to be accepted; none where the clock may decide either way.
    fn good(&self) -> Option<bool> {
        let issuer = match &self.issuer {
            Some(Issuer::Right) => true,
            Some(Issuer::Other(other)) => *other == "us",
            Some(Issuer::List(_)) | None => false,
        };
        let named = self.subject.as_ref().and_then(Subject::id).is_some() && issuer;
        let expires = self.expires_in.map(i64::from).filter(|_| named);
        let Some(expires) = expires else { return Some(false) };
        let born_ago = self.issued_ago.map(i64::from).or(self.not_before_in.map(|s| -i64::from(s)));
        let life = expires + born_ago.unwrap_or_default();
        let ahead = -self.issued_ago.map_or(0, i64::from);
        let early = self.not_before_in.map_or(0, i64::from);
        let judge = |good: bool, bad: bool| (good || bad).then_some(good);
        let verdicts = [
            judge(expires + LEEWAY > SLACK, expires + LEEWAY < 0),
            judge(life <= LONGEST, life > LONGEST + SLACK),
            judge(early <= LEEWAY, early > LEEWAY + SLACK),
            judge(ahead <= LEEWAY, ahead > LEEWAY + SLACK),
        ];
        if verdicts.contains(&Some(false)) { Some(false) } else { (!verdicts.contains(&None)).then_some(true) }
    }
}

/// Whether it may name a user.
fn is_short(id: &str) -> bool {
    (1..=MAX_ID_BYTES).contains(&id.len()) && !id.contains(char::is_control)
}

impl Change {
    fn apply(&self, text: &str) -> String {
        let mut letters: Vec<char> = text.chars().collect();
        let length = letters.len().max(1);
        let place = |at: u16| usize::from(at) % length;
        match *self {
            Self::Byte(at, byte) => letters[place(at)] = char::from(byte),
            Self::Cut(at) => letters.truncate(place(at)),
            Self::Insert(at, letter) => letters.insert(place(at), letter),
            Self::SwapCase(at) => {
                let letter = &mut letters[place(at)];
                *letter =
                    if letter.is_ascii_lowercase() { letter.to_ascii_uppercase() } else { letter.to_ascii_lowercase() };
            }
        }
        letters.into_iter().collect()
    }
}

fn bearer(capitals: u8) -> String {
    let letter = |(at, letter): (usize, char)| {
        if capitals >> at & 1 == 1 { letter.to_ascii_uppercase() } else { letter }
    };
    "bearer".chars().enumerate().map(letter).collect()
}

/// Base64url without padding.
fn encode(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let group = |group: &[u8]| {
        let bits = group.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        (0..=group.len()).map(move |i| char::from(LETTERS[(bits >> (18 - 6 * i) & 63) as usize])).collect::<String>()
    };
    bytes.chunks(3).map(group).collect()
}

fn signature(message: &str, algorithm: Alg, key: &Key) -> String {
    let with = |secret: &[u8]| {
        let algorithm = algorithm.hmac().unwrap_or(Algorithm::HS256);
        sign(message.as_bytes(), &EncodingKey::from_secret(secret), algorithm).expect("a signature")
    };
    match key {
        Key::Right => with(SECRET),
        Key::Pem => with(PEM.as_bytes()),
        Key::Empty => with(b""),
        Key::Other(secret) => with(secret),
        Key::NoSignature => String::new(),
        Key::Bytes(bytes) => encode(bytes),
    }
}

static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| {
    let path = std::env::temp_dir().join(format!("hallway-fuzz-{}.pem", std::process::id()));
    std::fs::write(&path, PEM).expect("there is a folder for temporary files");
    let seconds = |s: i64| Duration::from_secs(s.unsigned_abs());
    let rules = TokenRules {
        issuer: Some("us".to_owned()),
        audience: None,
        leeway: seconds(LEEWAY),
        max_ttl: seconds(LONGEST),
        require_iat: false,
    };
    let public = Proof::from_file(&path).expect("a key");
    std::fs::remove_file(&path).ok();
    Verifier::new(rules, vec![Proof::secret(SECRET), public], None)
});

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_secs().cast_signed()
}

fn accepts(token: &str) -> Option<hallway::auth::claims::Claims> {
    let verified = VERIFIER.verify(token, now().unsigned_abs() * 1000).now_or_never().expect("no key is fetched");
    verified.inspect_err(|error| assert!(error.to_string().len() < 200, "a reason repeats the token: {error}")).ok()
}

fuzz_target!(|input: Input<'_>| match input {
    Input::Any(text) => assert_eq!(accepts(&text), None, "nobody knows the secret"),
    Input::Made { algorithm, extra, key, claims, change, around } => {
        let mut header = json!({});
        extra.iter().for_each(|(name, text)| header[*name] = (*text).into());
        header["alg"] = algorithm.name().into();
        let written = claims.json(now());
        let message = format!("{}.{}", encode(header.to_string().as_bytes()), encode(written.to_string().as_bytes()));
        let made = format!("{message}.{}", signature(&message, algorithm, &key));
        let token = change.map_or_else(|| made.clone(), |change| change.apply(&made));
        let shown = match around {
            Around::Nothing => token.clone(),
            Around::Bearer(capitals) => format!("{} {token}", bearer(capitals)),
            Around::Blanks => format!("  {token}\n"),
        };
        let signed = matches!(&key, Key::Right) || matches!(&key, Key::Other(secret) if *secret == SECRET);
        let untouched = token.trim() == made && made.len() <= 8 * 1024;
        let real = signed && untouched && algorithm.hmac().is_some();
        let accepted = accepts(&shown);
        assert!(real || accepted.is_none(), "a forged token is accepted: {shown:?}");
        if let Some(good) = claims.good().filter(|_| real && extra.is_empty()) {
            assert_eq!(accepted.is_some(), good, "{claims:?}");
        }
        if let Some(accepted) = accepted {
            assert_eq!(Some(&*accepted.subject), claims.subject.as_ref().and_then(Subject::id).as_deref());
            let mut read: Value = serde_json::from_str(&written.to_string()).expect("it was written as JSON");
            read["sub"] = (&*accepted.subject).into();
            assert_eq!(Value::from(accepted.all()), read);
        }
    }
});
