//! Tokens: every place one may stand, which place decides, what is refused, and that no log ever holds one (S3, S4).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header, crypto, encode};
use serde_json::{Value, json};

use crate::harness::client::{Client, UNAUTHORIZED};
use crate::harness::node::Node;
use crate::harness::token::{self, SECRET, now_s};
use crate::harness::{eventually, http};

const QUERY: &str = "EIO=4&transport=websocket";
/// Where a token may stand, the place that decides first.
const PLACES: [&str; 6] = ["token", "access_token", "accessToken", "authorization", "?token=", "Authorization:"];

fn signed(header: &Header, claims: &Value, secret: &str) -> String {
    encode(header, claims, &EncodingKey::from_secret(secret.as_bytes())).expect("claims encode")
}

/// Signs in with a token in each of some places and returns the reply.
async fn sign_in(node: &Node, tokens: &[(&str, &str)]) -> String {
    let at = |place: &str| tokens.iter().find(|(name, _)| *name == place).map(|(_, token)| *token);
    let query = at("?token=").map_or_else(|| QUERY.to_owned(), |token| format!("{QUERY}&token={token}"));
    let (mut client, _) = match at("Authorization:") {
        Some(token) => Client::open_with_header(node.main(), &query, "authorization", token).await,
        None => Client::open_with(node.main(), &query).await,
    };
    let members = tokens.iter().filter(|(place, _)| place.chars().all(|c| c.is_ascii_alphabetic() || c == '_'));
    let payload: serde_json::Map<_, _> = members.map(|(place, token)| ((*place).to_owned(), json!(token))).collect();
    let payload = if payload.is_empty() { String::new() } else { Value::from(payload).to_string() };
    client.offer(&payload).await
}

fn is_in(reply: &str) -> bool {
    reply.starts_with(r#"40/realtime,{"sid":""#)
}

#[tokio::test]
async fn a_token_is_taken_from_every_place_it_may_stand_in() {
    let node = Node::embedded().await;
    let token = token::user("u1");
    for place in &PLACES[..4] {
        assert!(is_in(&sign_in(&node, &[(place, &token)]).await), "{place}");
    }
    for scheme in ["Bearer", "bearer", "BEARER", "bEaReR"] {
        let bearer = format!("{scheme} {token}");
        for place in PLACES {
            let shown = if place == "?token=" { bearer.replace(' ', "%20") } else { bearer.clone() };
            assert!(is_in(&sign_in(&node, &[(place, &shown)]).await), "{place} with {scheme}");
        }
        let (mut client, _) = Client::open(node.main()).await;
        client.sign_in(&token).await;
        assert_eq!(client.call("refresh_token", &json!({"token": bearer}).to_string()).await["ok"], true, "{scheme}");
    }
    let encoded = format!("Bearer%20{}", token.replace('.', "%2E").replace('-', "%2D").replace('_', "%5f"));
    for query in [token.as_str(), &encoded, &format!("Bearer+{token}")] {
        assert!(is_in(&sign_in(&node, &[("?token=", query)]).await), "{query}");
    }
}

#[tokio::test]
async fn the_first_place_that_holds_a_token_decides() {
    let node = Node::embedded().await;
    let good = token::user("u1");
    let bad = signed(&Header::default(), &json!({"sub": "u1", "exp": now_s() + 60}), &"x".repeat(40));
    for (i, first) in PLACES.iter().enumerate() {
        for second in &PLACES[i + 1..] {
            assert!(is_in(&sign_in(&node, &[(first, &good), (second, &bad)]).await), "{first} over {second}");
            assert_eq!(sign_in(&node, &[(first, &bad), (second, &good)]).await, UNAUTHORIZED, "{first} over {second}");
            assert!(is_in(&sign_in(&node, &[(first, ""), (second, &good)]).await), "an empty {first} holds none");
        }
    }
}

/// A token with this header and these claims, letter by letter, and a good signature.
fn raw(header: &str, claims: &str) -> String {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    format!("{message}.{}", crypto::sign(message.as_bytes(), &key, Algorithm::HS256).expect("it can be signed"))
}

/// Tokens with a good signature that could be read in two ways, or not at all.
fn odd_tokens() -> Vec<(&'static str, String)> {
    let exp = now_s() + 60;
    let claims = format!(r#"{{"sub":"u1","exp":{exp}}}"#);
    let header = |more: &str| raw(&format!(r#"{{"alg":"HS256"{more}}}"#), &claims);
    let claims = |more: &str| raw(r#"{"alg":"HS256"}"#, &format!(r#"{{"sub":"u1","exp":{exp}{more}}}"#));
    vec![
        ("sub twice", claims(r#","sub":"u2""#)),
        ("exp twice", claims(r#","exp":9999999999"#)),
        ("alg twice", header(r#","alg":"HS256""#)),
        ("crit", header(r#","crit":["exp"]"#)),
        ("b64", header(r#","b64":false"#)),
        ("kid a number", header(r#","kid":5"#)),
        ("iat in the future", claims(&format!(r#","iat":{}"#, exp - 30))),
        ("iat as text", claims(r#","iat":"1""#)),
        ("jti a fraction", claims(r#","jti":1.5"#)),
        ("exp not a number", raw(r#"{"alg":"HS256"}"#, r#"{"sub":"u1","exp":NaN}"#)),
        ("exp without end", raw(r#"{"alg":"HS256"}"#, r#"{"sub":"u1","exp":1e308}"#)),
        ("exp negative", raw(r#"{"alg":"HS256"}"#, r#"{"sub":"u1","exp":-1}"#)),
        ("claims are no object", raw(r#"{"alg":"HS256"}"#, r#"["u1"]"#)),
        ("claims are no JSON", raw(r#"{"alg":"HS256"}"#, "u1")),
        ("sub with a line end", raw(r#"{"alg":"HS256"}"#, &format!(r#"{{"sub":"u\n1","exp":{exp}}}"#))),
        ("sub of 257 bytes", raw(r#"{"alg":"HS256"}"#, &format!(r#"{{"sub":"{}","exp":{exp}}}"#, "u".repeat(257)))),
        ("padded", format!("{}=", header(""))),
        ("white space inside", header("").replacen('.', ". ", 1)),
    ]
}

fn bad_tokens() -> Vec<(&'static str, String)> {
    let now = now_s();
    let good = token::user("u1");
    let parts: Vec<&str> = good.split('.').collect();
    let hs256 = Header::default();
    let with = |claims: Value| signed(&hs256, &claims, SECRET);
    // {"alg":"none","typ":"JWT"} and {"alg":"None"}
    let (none, none_in_capitals) = ("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0", "eyJhbGciOiJOb25lIn0");
    vec![
        ("not a JWT", "x".to_owned()),
        ("blank", " ".to_owned()),
        ("cut short", good[..good.len() - 1].to_owned()),
        ("without a signature", format!("{}.{}.", parts[0], parts[1])),
        ("two parts", format!("{}.{}", parts[0], parts[1])),
        ("alg none", format!("{none}.{}.", parts[1])),
        ("alg none with a signature", format!("{none}.{}.{}", parts[1], parts[2])),
        ("alg None", format!("{none_in_capitals}.{}.", parts[1])),
        ("expired", with(json!({"sub": "u1", "exp": now - 10}))),
        ("not yet valid", with(json!({"sub": "u1", "exp": now + 600, "nbf": now + 300}))),
        ("without exp", with(json!({"sub": "u1"}))),
        ("exp as text", with(json!({"sub": "u1", "exp": (now + 60).to_string()}))),
        ("without sub", with(json!({"exp": now + 60}))),
        ("empty sub", with(json!({"sub": "", "exp": now + 60}))),
        ("sub a fraction", with(json!({"sub": 5.0, "exp": now + 60}))),
        ("sub below zero", with(json!({"sub": -5, "exp": now + 60}))),
        ("longer than a week", with(json!({"sub": "u1", "iat": now, "exp": now + 8 * 86_400}))),
        ("over 8 KiB", with(json!({"sub": "u1", "exp": now + 60, "pad": "x".repeat(8 * 1024)}))),
        ("another secret", signed(&hs256, &json!({"sub": "u1", "exp": now + 60}), &"y".repeat(40))),
    ]
}

#[tokio::test]
async fn a_bad_token_is_refused_and_a_good_one_then_works_on_the_same_transport() {
    let node = Node::embedded().await;
    for (what, bad) in [bad_tokens(), odd_tokens()].concat() {
        let (mut client, _) = Client::open(node.main()).await;
        assert_eq!(client.offer(&json!({"token": bad}).to_string()).await, UNAUTHORIZED, "{what}");
        let good = r#"{"room":"user:u1","type":"t","payload":1}"#;
        assert_eq!(node.post("/v1/publish", good).await.0, 200);
        client.sign_in(&token::user("u1")).await;
        client.join("user:u1").await;
        let (_, published) = node.post("/v1/publish", good).await;
        assert_eq!(client.event().await.1["event"]["id"], published["id"], "{what}");
    }
}

/// Many databases number their users, and their services sign the number as it is.
#[tokio::test]
async fn a_sub_that_is_an_integer_is_the_user_of_its_decimal_text() {
    let node = Node::embedded().await;
    let numbered = token::with(json!({"sub": 42, "jti": 7}));
    let mut client = Client::connect(node.main(), &numbered).await;
    client.join("user:42").await;
    assert_eq!(client.call("join_room", r#"{"room":"user:43"}"#).await["error"], "forbidden");
    for token in [token::user("42"), token::with(json!({"sub": 42}))] {
        assert_eq!(client.call("refresh_token", &json!({"token": token}).to_string()).await["ok"], true);
    }
    let other = json!({"token": token::with(json!({"sub": 43}))}).to_string();
    assert_eq!(client.call("refresh_token", &other).await["error"], "forbidden");
    for whom in [json!(42), json!("42")] {
        let mut client = Client::connect(node.main(), &numbered).await;
        let (status, reply) = node.post("/v1/disconnect", json!({"userId": whom}).to_string()).await;
        assert_eq!((status, reply["sockets"].as_u64() >= Some(1)), (200, true), "{whom}: {reply}");
        assert_eq!(client.frame().await.as_deref(), Some("41/realtime,"), "{whom}");
    }
    for whom in [json!({"jti": 7}), json!({"sub": 42})] {
        let mut client = Client::connect(node.main(), &token::with(json!({"sub": 42, "jti": 9}))).await;
        let (status, reply) = node.post("/v1/revoke", whom.to_string()).await;
        assert_eq!(status, 200, "{whom}: {reply}");
        assert_eq!(sign_in(&node, &[("token", &numbered)]).await, UNAUTHORIZED, "{whom}");
        if whom.get("sub").is_some() {
            assert_eq!(client.frame().await.as_deref(), Some("41/realtime,"), "{whom}");
        }
    }
    for odd in ["-1", "1.0", "1e3", "18446744073709551616", "true", "[42]"] {
        for body in [format!(r#"{{"sub":{odd}}}"#), format!(r#"{{"jti":{odd}}}"#)] {
            assert_eq!(node.post("/v1/revoke", body.clone()).await.0, 400, "{body}");
        }
        assert_eq!(node.post("/v1/disconnect", format!(r#"{{"userId":{odd}}}"#)).await.0, 400, "{odd}");
    }
}

/// Of a token without `iat` no node can know how old it is, and so how long its revocation must be remembered.
#[tokio::test]
async fn where_it_is_wanted_a_token_says_when_it_was_made() {
    let node = Node::with(&[("HALLWAY_AUTH__REQUIRE_IAT", "true"), ("HALLWAY_LOG__LEVEL", "debug")]).await;
    let dated = token::with(json!({"sub": "u1", "iat": now_s()}));
    let (mut client, _) = Client::open(node.main()).await;
    for undated in [token::user("u1"), token::with(json!({"sub": "u1", "iat": null}))] {
        assert_eq!(sign_in(&node, &[("token", &undated)]).await, UNAUTHORIZED);
        client.sign_in(&dated).await;
        let refreshed = client.call("refresh_token", &json!({"token": undated}).to_string()).await;
        assert_eq!(refreshed["error"], "unauthorized");
        (client, _) = Client::open(node.main()).await;
    }
    assert!(node.log().iter().any(|line| line.contains("the token's iat is missing or no use")));
}

#[test]
fn a_token_for_ever_is_minted_and_no_panic() {
    let mut hallway = std::process::Command::new(env!("CARGO_BIN_EXE_hallway"));
    let minted = hallway.args(["token", "--sub", "u1", "--ttl", &format!("{}s", u64::MAX)]).output().expect("it runs");
    assert!(minted.status.success(), "{minted:?}");
}

#[tokio::test]
async fn a_minted_token_is_let_in_by_the_gateway_it_was_configured_for() {
    let settings = [
        ("HALLWAY_AUTH__HS256_SECRET", SECRET),
        ("HALLWAY_AUTH__ISSUER", "https://id.example.com"),
        ("HALLWAY_AUTH__AUDIENCE", "hallway"),
        ("HALLWAY_AUTH__REQUIRE_IAT", "true"),
        ("HALLWAY_AUTH__MAX_TOKEN_TTL", "5m"),
    ];
    let node = Node::with(&settings).await;
    let mint = |more: &[&str]| {
        let mut hallway = std::process::Command::new(env!("CARGO_BIN_EXE_hallway"));
        let minted = hallway.args(["token", "--sub", "u1"]).args(more).envs(settings).output().expect("it runs");
        assert!(minted.status.success(), "{minted:?}");
        String::from_utf8(minted.stdout).expect("text").trim_end().to_owned()
    };
    assert!(is_in(&sign_in(&node, &[("token", &mint(&[]))]).await));
    for wrong in ["iss=https://other.example.com", "aud=other"] {
        let token = mint(&["--claim", wrong]);
        assert_eq!(
            sign_in(&node, &[("token", &token)]).await,
            UNAUTHORIZED,
            "a claim of one's own goes over it: {wrong}"
        );
    }
}

#[tokio::test]
async fn who_tries_again_at_once_is_always_answered() {
    let node = Node::embedded().await;
    for _ in 0..10 {
        let (mut client, _) = Client::open(node.main()).await;
        for attempt in 0..20 {
            assert_eq!(client.offer(r#"{"token":"x"}"#).await, UNAUTHORIZED, "attempt {attempt}");
        }
        client.sign_in(&token::user("u1")).await;
    }
}

#[tokio::test]
async fn a_payload_without_a_token_is_refused() {
    let node = Node::embedded().await;
    let payloads =
        ["", "{}", r#"{"token":null}"#, r#"{"token":""}"#, r#"{"token":5}"#, r#"{"token":{}}"#, "[]", r#""x""#];
    for payload in payloads {
        let (mut client, _) = Client::open(node.main()).await;
        assert_eq!(client.offer(payload).await, UNAUTHORIZED, "{payload}");
        client.sign_in(&token::user("u1")).await;
    }
}

#[tokio::test]
async fn the_longer_hmacs_are_believed_too() {
    let node = Node::embedded().await;
    for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
        let token = signed(&Header::new(algorithm), &json!({"sub": "u1", "exp": now_s() + 60}), SECRET);
        assert!(is_in(&sign_in(&node, &[("token", &token)]).await), "{algorithm:?}");
    }
}

#[tokio::test]
async fn issuer_and_audience_are_checked_where_they_are_configured() {
    let node = Node::with(&[("HALLWAY_AUTH__ISSUER", "https://id"), ("HALLWAY_AUTH__AUDIENCE", "hallway")]).await;
    for (claims, good) in [
        (json!({"sub": "u1", "iss": "https://id", "aud": "hallway"}), true),
        (json!({"sub": "u1", "iss": "https://id", "aud": ["other", "hallway"]}), true),
        (json!({"sub": "u1", "iss": "https://id", "aud": "other"}), false),
        (json!({"sub": "u1", "iss": "https://evil", "aud": "hallway"}), false),
        (json!({"sub": "u1", "aud": "hallway"}), false),
        (json!({"sub": "u1", "iss": "https://id"}), false),
        (json!({"sub": "u1"}), false),
    ] {
        let reply = sign_in(&node, &[("token", &token::with(claims.clone()))]).await;
        assert_eq!(is_in(&reply), good, "{claims}: {reply}");
    }
}

#[tokio::test]
async fn no_token_is_ever_logged() {
    let node = Node::with(&[("HALLWAY_LOG__LEVEL", "trace")]).await;
    let good = token::user("u1");
    let expired = token::with(json!({"sub": "u1", "exp": now_s() - 100}));
    for token in [&good, &expired] {
        for place in PLACES {
            sign_in(&node, &[(place, token)]).await;
        }
        for path in ["/socket.io/?EIO=4&transport=polling&token=", "/api/health?token=", "/?token="] {
            let url = format!("http://{}{path}{token}", node.main());
            http().get(url).bearer_auth(token).send().await.expect("an answer");
        }
    }
    Client::connect(node.main(), &good).await.drop_connection();
    eventually("refusals and ends are logged at this level", || async {
        let log = node.log();
        let has = |words: &str| log.iter().any(|line| line.contains(words));
        (has("a token was refused") && has("a session ended")).then_some(())
    })
    .await;
    for token in [&good, &expired] {
        for part in token.split('.').skip(1) {
            let leaked: Vec<String> = node.log().into_iter().filter(|line| line.contains(part)).collect();
            assert!(leaked.is_empty(), "{leaked:?}");
        }
    }
}

#[tokio::test]
async fn what_was_wrong_is_counted_and_told_to_nobody_else() {
    let node = Node::embedded().await;
    let now = now_s();
    for (why, token) in [
        ("no-token", String::new()),
        ("malformed", "x".to_owned()),
        ("algorithm", raw(r#"{"alg":"none"}"#, r#"{"sub":"u1"}"#)),
        ("bad-signature", signed(&Header::default(), &json!({"sub": "u1", "exp": now + 60}), &"y".repeat(40))),
        ("expired", token::with(json!({"sub": "u1", "exp": now - 10}))),
        ("not-yet-valid", token::with(json!({"sub": "u1", "nbf": now + 300}))),
        ("claims", token::with(json!({"sub": ""}))),
        ("lives-too-long", token::with(json!({"sub": "u1", "exp": now + 8 * 86_400}))),
    ] {
        assert_eq!(sign_in(&node, &[("token", &token)]).await, UNAUTHORIZED, "{why}");
        let text = http().get(format!("http://{}/metrics", node.admin())).send().await.expect("metrics").text().await;
        let line = format!("hallway_connects_refused_total{{reason=\"{why}\"}} 1");
        assert!(text.expect("metrics are text").lines().any(|other| other == line), "{line}");
    }
}
