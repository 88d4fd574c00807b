//! What is believed and what is refused, as a table: each token is one step from a good one.

use std::time::Duration;

use futures_util::FutureExt;
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use serde_json::{Value, json};

use super::{TokenError, TokenRules, Verifier};
use crate::auth::claims::Claims;
use crate::auth::keys::VerifyingKey;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

const SECRET: &[u8] = b"a-secret-for-tests-of-more-than-32-bytes";
const NOW_S: u64 = 1_800_000_000;
const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

fn verify(token: &str) -> Result<Claims, TokenError> {
    with(
        TokenRules { leeway: Duration::from_secs(2), max_ttl: Duration::from_hours(1), ..TokenRules::default() },
        token,
    )
}

fn with(rules: TokenRules, token: &str) -> Result<Claims, TokenError> {
    let verifier = Verifier::new(rules, vec![VerifyingKey::secret(SECRET)], None);
    verifier.verify(token, NOW_S * 1000).now_or_never().expect("no key is waited for")
}

/// A token with this header and these claims, letter by letter, and a good signature.
fn raw(header: &str, claims: &str) -> String {
    signed(&URL_SAFE_NO_PAD.encode(header), &URL_SAFE_NO_PAD.encode(claims))
}

fn signed(header: &str, claims: &str) -> String {
    let message = format!("{header}.{claims}");
    let key = EncodingKey::from_secret(SECRET);
    format!("{message}.{}", crypto::sign(message.as_bytes(), &key, Algorithm::HS256).expect("it can be signed"))
}

fn good() -> Value {
    json!({"sub": "u1", "iat": NOW_S, "exp": NOW_S + 60})
}

/// A good token but for one claim; `null` leaves it out.
fn changed(name: &str, value: Value) -> String {
    let mut claims = good();
    claims[name] = value;
    raw(HEADER, &claims.to_string())
}

fn why(outcome: Result<Claims, TokenError>) -> String {
    outcome.map_or_else(|error| error.metric_label().to_owned(), |_| "good".to_owned())
}

#[track_caller]
fn check_claims(name: &str, cases: &[(Value, &str)]) {
    for (value, expected) in cases {
        assert_eq!(why(verify(&changed(name, value.clone()))), *expected, "{name}: {value}");
    }
}

#[track_caller]
fn check_texts(cases: &[(&str, &str)]) {
    for (claims, expected) in cases {
        assert_eq!(why(verify(&raw(HEADER, claims))), *expected, "{claims}");
    }
}

#[track_caller]
fn check_headers(cases: &[(&str, &str)]) {
    for (header, expected) in cases {
        assert_eq!(why(verify(&raw(header, &good().to_string()))), *expected, "{header}");
    }
}

#[test]
fn a_good_token_says_who_it_is_until_when_and_since_when() {
    let claims = verify(&changed("jti", json!("t-1"))).expect("it is good");
    assert_eq!((&*claims.subject, claims.expires_ms), ("u1", (NOW_S + 60) * 1000));
    assert_eq!((claims.issued_ms, claims.token_id.as_deref()), (Some(NOW_S * 1000), Some("t-1")));
    let plain = verify(&changed("iat", Value::Null)).expect("it is good");
    assert_eq!((plain.issued_ms, plain.token_id), (None, None));
}

#[test]
fn an_end_is_a_number_that_lies_ahead() {
    check_claims(
        "exp",
        &[
            (json!(NOW_S + 1), "good"),
            (json!(NOW_S + 3600), "good"),
            (json!(NOW_S as f64 + 0.5), "good"),
            (json!(NOW_S - 1), "good"),
            (json!(NOW_S - 2), "expired"),
            (json!(0), "expired"),
            (json!(-0.0), "expired"),
            (json!(NOW_S + 3601), "lives-too-long"),
            (json!(u64::MAX), "claims"),
            (json!(1e300), "claims"),
            (json!(-1), "claims"),
            (json!((NOW_S + 60).to_string()), "claims"),
            (Value::Null, "claims"),
            (json!(true), "claims"),
            (json!([NOW_S + 60]), "claims"),
        ],
    );
    check_texts(&[
        (r#"{"sub":"u1","exp":NaN}"#, "malformed"),
        (r#"{"sub":"u1","exp":Infinity}"#, "malformed"),
        (r#"{"sub":"u1","exp":1e999}"#, "malformed"),
        (r#"{"sub":"u1"}"#, "claims"),
    ]);
}

#[test]
fn a_token_from_the_future_is_refused() {
    for name in ["nbf", "iat"] {
        check_claims(
            name,
            &[
                (json!(NOW_S - 5), "good"),
                (json!(NOW_S + 2), "good"),
                (json!(NOW_S + 3), "not-yet-valid"),
                (json!(NOW_S + 59), "not-yet-valid"),
                (json!(NOW_S.to_string()), "claims"),
                (json!(-1), "claims"),
                (json!(1e300), "claims"),
            ],
        );
    }
    check_claims(
        "iat",
        &[(json!(NOW_S - 3539), "good"), (json!(NOW_S - 3541), "lives-too-long"), (json!(0), "lives-too-long")],
    );
}

#[test]
fn a_life_is_measured_by_the_clock_of_whoever_signs() {
    for (iat, exp, expected) in [
        (NOW_S, NOW_S + 3600, "good"),
        (NOW_S, NOW_S + 3601, "lives-too-long"),
        (NOW_S + 2, NOW_S + 3602, "good"),
        (NOW_S + 2, NOW_S + 3603, "lives-too-long"),
        (NOW_S + 3, NOW_S + 3603, "not-yet-valid"),
        (NOW_S - 3600, NOW_S, "good"),
    ] {
        let token = raw(HEADER, &json!({"sub": "u1", "iat": iat, "exp": exp}).to_string());
        assert_eq!(why(verify(&token)), expected, "{iat} {exp}");
    }
    check_claims("iat", &[(Value::Null, "good")]);
    let undated = |exp: u64| why(verify(&raw(HEADER, &json!({"sub": "u1", "exp": exp}).to_string())));
    assert_eq!((undated(NOW_S + 3600), undated(NOW_S + 3601)), ("good".to_owned(), "lives-too-long".to_owned()));
    let begun = |nbf: u64, iat: Option<u64>| {
        why(verify(&raw(HEADER, &json!({"sub": "u1", "nbf": nbf, "iat": iat, "exp": NOW_S + 60}).to_string())))
    };
    assert_eq!((begun(NOW_S - 3540, None).as_str(), begun(NOW_S - 3541, None).as_str()), ("good", "lives-too-long"));
    assert_eq!(begun(NOW_S - 3600, Some(NOW_S)), "good", "iat says more than nbf");
}

#[test]
fn where_it_is_wanted_a_token_says_when_it_was_made() {
    let rules = TokenRules { max_ttl: Duration::from_hours(1), require_iat: true, ..TokenRules::default() };
    let half_an_hour = NOW_S + 1800;
    for (claims, expected) in [
        (json!({"sub": "u1", "iat": NOW_S, "exp": half_an_hour}), Ok("u1".to_owned())),
        (json!({"sub": "u1", "iat": 0, "exp": half_an_hour}), Err(TokenError::LivesTooLong)),
        (json!({"sub": "u1", "exp": half_an_hour}), Err(TokenError::Claim("iat"))),
        (json!({"sub": "u1", "iat": null, "exp": half_an_hour}), Err(TokenError::Claim("iat"))),
    ] {
        let outcome = with(rules.clone(), &raw(HEADER, &claims.to_string()));
        assert_eq!(outcome.map(|claims| claims.subject.into_string()), expected, "{claims}");
    }
}

#[test]
fn ids_are_short_texts_without_control_characters() {
    for name in ["sub", "jti"] {
        let absent = if name == "sub" { "claims" } else { "good" };
        check_claims(
            name,
            &[
                (json!("u:1/ü 😀"), "good"),
                (json!("x".repeat(256)), "good"),
                (json!("x".repeat(257)), "claims"),
                (json!("ü".repeat(129)), "claims"),
                (json!(""), "claims"),
                (json!("a\u{0}b"), "claims"),
                (json!("a\nb"), "claims"),
                (json!("a\u{7f}"), "claims"),
                (json!("a\u{85}b"), "claims"),
                (json!(true), "claims"),
                (json!(["u1"]), "claims"),
                (Value::Null, absent),
            ],
        );
    }
}

#[test]
fn an_integer_for_an_id_is_its_decimal_text_and_no_other_number_is_one() {
    for name in ["sub", "jti"] {
        let with = |number: &str| {
            let sub = if name == "sub" { "" } else { r#""sub":"u1","# };
            verify(&raw(HEADER, &format!(r#"{{{sub}"{name}":{number},"exp":{}}}"#, NOW_S + 60)))
        };
        for number in ["0", "5", "42", "9007199254740993", "18446744073709551615"] {
            let claims = with(number).expect("an integer is an id");
            let read = if name == "sub" { Some(&*claims.subject) } else { claims.token_id.as_deref() };
            assert_eq!(read, Some(number));
            assert_eq!(claims.all()[name], json!(number), "rules see what everybody else sees");
        }
        for number in ["-1", "-0", "5.0", "5.5", "5e0", "1E3", "18446744073709551616", "1e400", "05", "+5"] {
            let why = why(with(number));
            assert!(["claims", "malformed"].contains(&why.as_str()), "{name}: {number}: {why}");
        }
    }
}

#[test]
fn issuer_and_audience_are_compared_where_they_are_wanted() {
    let wanted = |name: &str| TokenRules {
        issuer: (name == "iss").then(|| "x".to_owned()),
        audience: (name == "aud").then(|| "x".to_owned()),
        max_ttl: Duration::from_hours(1),
        ..TokenRules::default()
    };
    for (name, value, expected) in [
        ("iss", json!("x"), "good"),
        ("iss", json!("X"), "issuer"),
        ("iss", json!(["x"]), "issuer"),
        ("iss", Value::Null, "issuer"),
        ("aud", json!("x"), "good"),
        ("aud", json!(["y", "x"]), "good"),
        ("aud", json!([]), "audience"),
        ("aud", json!("xx"), "audience"),
        ("aud", json!({"x": 1}), "audience"),
        ("aud", Value::Null, "audience"),
    ] {
        assert_eq!(why(with(wanted(name), &changed(name, value.clone()))), expected, "{name}: {value}");
    }
}

#[test]
fn claims_are_one_json_object_with_each_name_once() {
    check_texts(&[
        (r#"{"sub":"u1","exp":1800000060}"#, "good"),
        (r#"  {"sub":"u1","exp":1800000060}  "#, "good"),
        (r#"{"sub":"u1","sub":"u2","exp":1800000060}"#, "malformed"),
        (r#"{"sub":"u1","exp":1800000060,"exp":1800000061}"#, "malformed"),
        (r#"{"sub":"u1","exp":1800000060,"s\u0075b":"u2"}"#, "malformed"),
        (r#"{"sub":"u1","exp":1800000060,"role":"user","role":"admin"}"#, "malformed"),
        (r#"{"sub":"u1","exp":1800000060}{}"#, "malformed"),
        (r#"[{"sub":"u1","exp":1800000060}]"#, "malformed"),
        (r#""u1""#, "malformed"),
        ("null", "malformed"),
        ("", "malformed"),
        ("sub=u1", "malformed"),
    ]);
    let not_utf8 =
        signed(&URL_SAFE_NO_PAD.encode(HEADER), &URL_SAFE_NO_PAD.encode(b"{\"sub\":\"\xff\",\"exp\":1800000060}"));
    assert_eq!(why(verify(&not_utf8)), "malformed");
    let deep = format!(r#"{{"sub":"u1","exp":1800000060,"x":{}1{}}}"#, "[".repeat(500), "]".repeat(500));
    check_texts(&[(&deep, "malformed")]);
}

#[test]
fn an_algorithm_is_believed_only_as_far_as_a_key_is_meant_for_it() {
    let named = |name: &str| format!(r#"{{"alg":"{name}"}}"#);
    for name in
        ["none", "None", "NONE", "nOnE", "", "hs256", "HS256 ", "HS1", "RS256", "ES256", "EdDSA", "PS512", "dir"]
    {
        check_headers(&[(&named(name), "algorithm")]);
    }
    check_headers(&[
        ("{}", "malformed"),
        (r#"{"alg":null}"#, "malformed"),
        (r#"{"alg":["HS256"]}"#, "malformed"),
        (r#"{"alg":"HS256","alg":"HS256"}"#, "malformed"),
        (r#"{"alg":"none","alg":"HS256"}"#, "malformed"),
        ("[]", "malformed"),
        ("HS256", "malformed"),
    ]);
}

#[test]
fn a_header_brings_no_key_along_and_asks_for_nothing() {
    check_headers(&[
        (
            r#"{"alg":"HS256","jku":"http://evil/k","x5u":"http://evil/c","jwk":{"kty":"oct","k":"AAAA"},"x5c":5}"#,
            "good",
        ),
        (r#"{"alg":"HS256","kid":"../../dev/null"}"#, "good"),
        (r#"{"alg":"HS256","kid":"' OR 1=1 --"}"#, "good"),
        (r#"{"alg":"HS256","kid":""}"#, "good"),
        (r#"{"alg":"HS256","kid":5}"#, "malformed"),
        (r#"{"alg":"HS256","kid":["a"]}"#, "malformed"),
        (r#"{"alg":"HS256","kid":"a","kid":"b"}"#, "malformed"),
        (r#"{"alg":"HS256","crit":["exp"],"exp":1}"#, "malformed"),
        (r#"{"alg":"HS256","crit":[]}"#, "malformed"),
        (r#"{"alg":"HS256","b64":true}"#, "good"),
        (r#"{"alg":"HS256","b64":false}"#, "malformed"),
        (r#"{"alg":"HS256","b64":false,"crit":["b64"]}"#, "malformed"),
    ]);
    let long = format!(r#"{{"alg":"HS256","kid":"{}"}}"#, "k".repeat(10_240));
    check_headers(&[(&long, "malformed")]);
}

#[test]
fn a_token_has_one_spelling() {
    let token = raw(HEADER, &good().to_string());
    let parts: Vec<&str> = token.split('.').collect();
    let [header, claims, signature] = parts[..] else { panic!("three parts") };
    // 32 bytes leave two bits of the last letter over: another letter may have the same bytes.
    let last = signature.chars().last().expect("letters");
    let letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let next = letters.chars().nth(letters.find(last).expect("of the alphabet") + 1).expect("not the last one");
    let variants = [
        format!("{header}.{claims}.{}{next}", &signature[..signature.len() - 1]),
        format!("{header}.{claims}.{signature}="),
        format!("{header}.{claims}.{signature}A"),
        format!("{header}.{claims}.{signature}AAAA"),
        format!("{header}.{claims}.{}", &signature[..signature.len() - 1]),
        format!("{header}.{claims}."),
        format!("{header}.{claims}"),
        format!("{header}.{claims}.{signature}."),
        format!("{header}.{claims}.{signature}.{signature}"),
        format!(".{claims}.{signature}"),
        format!("{header}..{signature}"),
        format!("{header}. {claims}.{signature}"),
        format!("{header}.{claims} .{signature}"),
        format!("{header}.{claims}\n.{signature}"),
        format!("{header}.{claims}.\t{signature}"),
        format!("{header}=.{claims}.{signature}"),
        format!("{header}.{claims}.{}", signature.to_uppercase()),
        format!("Bearer Bearer {token}"),
        format!("Bearer{token}"),
        format!("Basic {token}"),
        format!("Bearer, {token}"),
        "..".to_owned(),
        String::new(),
    ];
    for variant in variants {
        assert!(["malformed", "bad-signature"].contains(&why(verify(&variant)).as_str()), "{variant}");
    }
    for outer in ["Bearer ", " ", "Bearer  ", "bearer ", "BEARER\t", " beaRer "] {
        let outer = format!("{outer}{token}\n");
        assert_eq!(why(verify(&outer)), "good", "white space around a token is not of it: {outer:?}");
    }
}

#[test]
fn eight_kibibytes_are_the_most() {
    let padded = |length: usize| {
        let bare = raw(HEADER, &json!({"sub": "u1", "exp": NOW_S + 60, "p": ""}).to_string()).len();
        let mut claims = json!({"sub": "u1", "exp": NOW_S + 60, "p": "x".repeat((length - bare) * 3 / 4)});
        while raw(HEADER, &claims.to_string()).len() < length {
            claims["p"] = format!("{}x", claims["p"].as_str().expect("a text")).into();
        }
        raw(HEADER, &claims.to_string())
    };
    assert_eq!(verify(&padded(8190)).map(|claims| claims.subject.into_string()), Ok("u1".to_owned()));
    assert_eq!(verify(&padded(8193)), Err(TokenError::TooLong));
}

#[test]
fn any_of_several_secrets_will_do_and_none_will_not() {
    let token = raw(HEADER, &good().to_string());
    let rules = TokenRules { max_ttl: Duration::from_hours(1), ..TokenRules::default() };
    let other = || VerifyingKey::secret(b"another-secret-of-more-than-32-bytes--");
    for (keys, expected) in [
        (vec![other(), VerifyingKey::secret(SECRET)], "good"),
        (vec![VerifyingKey::secret(SECRET), other()], "good"),
        (vec![other(), other()], "bad-signature"),
        (vec![], "algorithm"),
    ] {
        let verifier = Verifier::new(rules.clone(), keys, None);
        let outcome = verifier.verify(&token, NOW_S * 1000).now_or_never().expect("no key is waited for");
        assert_eq!(why(outcome), expected, "{verifier:?}");
    }
}

#[test]
fn what_rules_read_of_a_token_is_what_it_says_letter_by_letter() {
    let text = r#"{"sub":7, "exp":1800000060,"jti":null,"f":0.1000000000000000055,"big":18446744073709551615,
        "o":{"b":[1,{"c":null}],"a":"\u00e9\n"},"na\u006de":true,"":[]}"#;
    let claims = verify(&raw(HEADER, text)).expect("it is good");
    let mut read: Value = serde_json::from_str(text).expect("it is JSON");
    read["sub"] = "7".into();
    assert_eq!(Value::from(claims.all()), read);
    let some = claims.select(|name| ["name", "o", "sub", "gone"].contains(&name));
    assert_eq!(Value::from(some), json!({"name": true, "o": read["o"], "sub": "7"}));
    assert!(claims.select(|_| false).is_empty());
}
