//! Keys that an identity provider publishes: fetched, renewed, and never believed on another party's word.

use std::time::{Duration, Instant};

use jsonwebtoken::Algorithm::{self, ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::harness::client::{Client, UNAUTHORIZED, is_admitted, sign_in};
use crate::harness::node::Node;
use crate::harness::pair::{Pair, sign};
use crate::harness::provider::{Mode, Provider, jwks};
use crate::harness::token::{self, SECRET, now_s};
use crate::harness::{eventually, http};

const URL: &str = "HALLWAY_AUTH__JWKS_URL";
const REFRESH: &str = "HALLWAY_AUTH__JWKS_REFRESH";
const COOLDOWN: &str = "HALLWAY_AUTH__JWKS_COOLDOWN";
const WAIT: &str = "HALLWAY_AUTH__JWKS_WAIT";
const TIMEOUT: &str = "HALLWAY_AUTH__JWKS_TIMEOUT";
const MAX_STALE: &str = "HALLWAY_AUTH__JWKS_MAX_STALE";

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

/// A gateway that believes this provider and no secret; it need not be ready.
async fn started(provider: &Provider, settings: &[(&str, &str)]) -> Node {
    let url = provider.url();
    Node::launch(&[settings, &[(URL, url.as_str())]].concat(), |command| {
        command.env_remove("HALLWAY_AUTH__HS256_SECRET");
    })
    .await
}

async fn believing(provider: &Provider, settings: &[(&str, &str)]) -> Node {
    let node = started(provider, settings).await;
    node.ready().await;
    node
}

/// A metric of one label; 0 while it is not there.
async fn counted(node: &Node, name: &str, label: &str) -> f64 {
    let text = http().get(format!("http://{}/metrics", node.admin())).send().await.expect("metrics").text().await;
    let wanted = format!("{name}{{{label}}}");
    let text = text.expect("metrics are text");
    text.lines().filter_map(|line| line.strip_prefix(&wanted)?.trim().parse::<f64>().ok()).sum()
}

async fn fetches(node: &Node, outcome: &str) -> f64 {
    counted(node, "hallway_jwks_fetches_total", &format!("outcome=\"{outcome}\"")).await
}

async fn refusals(node: &Node, why: &str) -> f64 {
    counted(node, "hallway_connects_refused_total", &format!("reason=\"{why}\"")).await
}

fn says(node: &Node, words: &str) -> bool {
    node.log().iter().any(|line| line.contains(words))
}

#[tokio::test]
async fn a_token_of_each_algorithm_is_believed_by_the_key_that_it_names() {
    let folder = folder();
    let rsa = Pair::rsa(&folder, "rsa");
    let (p256, p384) = (Pair::curve(&folder, "p256", "P-256"), Pair::curve(&folder, "p384", "P-384"));
    let (ed, narrow) = (Pair::ed25519(&folder, "ed"), Pair::rsa(&folder, "narrow"));
    let mut narrow_key = narrow.jwk(RS256, "narrow");
    narrow_key["alg"] = "RS256".into();
    let keys =
        [rsa.jwk(RS256, "rsa"), p256.jwk(ES256, "p256"), p384.jwk(ES384, "p384"), ed.jwk(EdDSA, "ed"), narrow_key];
    let node = believing(&Provider::publishing(&keys).await, &[(WAIT, "0s")]).await;
    let mut signers: Vec<(&Pair, Algorithm, &str)> =
        vec![(&p256, ES256, "p256"), (&p384, ES384, "p384"), (&ed, EdDSA, "ed")];
    signers.extend([RS256, RS384, RS512, PS256, PS384, PS512].map(|algorithm| (&rsa, algorithm, "rsa")));
    for (pair, algorithm, name) in signers {
        assert!(is_admitted(&node, &pair.sign_as(algorithm, name)).await, "{algorithm:?}");
        assert!(is_admitted(&node, &pair.sign(algorithm)).await, "{algorithm:?} without a name");
        for other in ["", "narrow", "RSA", "rsa ", "../rsa", "nobody"] {
            assert!(!is_admitted(&node, &pair.sign_as(algorithm, other)).await, "{algorithm:?} as {other:?}");
        }
    }
    assert!(is_admitted(&node, &narrow.sign_as(RS256, "narrow")).await);
    for algorithm in [RS384, PS256] {
        assert!(!is_admitted(&node, &narrow.sign_as(algorithm, "narrow")).await, "{algorithm:?}");
    }
    assert_eq!(node.checks().await["keys"]["fetched"], 5);
    assert_eq!(node.metric("hallway_jwks_keys").await as u64, 5);
    assert!(node.metric("hallway_jwks_fetched_timestamp_seconds").await as u64 >= now_s() - 60);
    node.moves("hallway_jwks_keys").await;
    node.moves("hallway_jwks_fetched_timestamp_seconds").await;
    node.moves("hallway_jwks_fetches_total").await;
}

#[tokio::test]
async fn two_keys_of_one_name_are_both_tried_and_configured_keys_serve_beside() {
    let folder = folder();
    let (one, two, file) = (Pair::rsa(&folder, "one"), Pair::rsa(&folder, "two"), Pair::ed25519(&folder, "file"));
    let provider = Provider::publishing(&[one.jwk(RS256, "k"), two.jwk(RS256, "k")]).await;
    let url = provider.url();
    let path = file.public.to_str().expect("a path that is text");
    let node = Node::with(&[(URL, url.as_str()), ("HALLWAY_AUTH__PUBLIC_KEY_FILE", path), (WAIT, "0s")]).await;
    for token in [
        one.sign_as(RS256, "k"),
        two.sign_as(RS256, "k"),
        file.sign(EdDSA),
        file.sign_as(EdDSA, "whatever"),
        token::user("u1"),
    ] {
        assert!(is_admitted(&node, &token).await, "{token}");
    }
    assert_eq!(node.checks().await["keys"]["configured"], 2);
}

#[tokio::test]
async fn what_is_public_is_no_secret_and_a_name_leads_nowhere() {
    let folder = folder();
    let pair = Pair::rsa(&folder, "rsa");
    let oct =
        json!({"kty": "oct", "kid": "oct", "alg": "HS256", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA"});
    let keys = [pair.jwk(RS256, "a"), oct];
    let provider = Provider::publishing(&keys).await;
    let node = believing(&provider, &[(WAIT, "100ms"), (COOLDOWN, "100ms")]).await;
    let pem = std::fs::read(&pair.public).expect("it is there");
    let document = json!({ "keys": keys }).to_string();
    for secret in [pem.as_slice(), document.as_bytes(), b"secret-secret-secret-secret-secret", SECRET.as_bytes()] {
        for kid in [None, Some("a".to_owned()), Some("oct".to_owned())] {
            let header = Header { kid, ..Header::default() };
            assert!(!is_admitted(&node, &sign(&header, &EncodingKey::from_secret(secret))).await);
        }
    }
    let own = Pair::rsa(&folder, "own");
    let evil = Provider::publishing(&[own.jwk(RS256, "evil")]).await;
    let long = "k".repeat(6000);
    let names = ["../../dev/null", "/etc/passwd", "' OR 1=1 --", "a\0", "a#?&", "evil", &long, &evil.url()];
    for name in names {
        let mut header = Header { kid: Some(name.to_owned()), ..Header::new(RS256) };
        header.jku = Some(evil.url());
        header.x5u = Some(evil.url());
        assert!(!is_admitted(&node, &sign(&header, &own.signer(RS256))).await, "{name:?}");
    }
    assert!(says(&node, "is a shared secret, which a public document cannot have"));
    assert_eq!(evil.requests(), [""; 0]);
    assert!(provider.requests().iter().all(|line| line == "GET /keys HTTP/1.1"), "{:?}", provider.requests());
    assert!(is_admitted(&node, &pair.sign_as(RS256, "a")).await);
}

/// Keys that come over plain http are believed because no third party stands in between.
#[tokio::test]
async fn keys_over_plain_http_come_by_no_proxy() {
    let folder = folder();
    let (pair, own) = (Pair::rsa(&folder, "rsa"), Pair::rsa(&folder, "own"));
    let provider = Provider::publishing(&[pair.jwk(RS256, "a")]).await;
    let proxy = Provider::publishing(&[own.jwk(RS256, "a")]).await;
    let url = proxy.url();
    let node = believing(&provider, &[("HTTP_PROXY", &url), ("http_proxy", &url), ("ALL_PROXY", &url)]).await;
    assert!(is_admitted(&node, &pair.sign_as(RS256, "a")).await);
    assert!(!is_admitted(&node, &own.sign_as(RS256, "a")).await);
    assert_eq!(proxy.requests(), [""; 0]);
}

#[tokio::test]
async fn a_rotation_refuses_nobody_and_a_key_that_is_gone_lets_nobody_in() {
    const SOCKETS: usize = 200;
    let folder = folder();
    let (old, new, last) =
        (Pair::ed25519(&folder, "old"), Pair::ed25519(&folder, "new"), Pair::ed25519(&folder, "last"));
    let provider = Provider::publishing(&[old.jwk(EdDSA, "old")]).await;
    let one_user = ("HALLWAY_LIMITS__CONNECTIONS_PER_USER", "1000");
    let node = believing(&provider, &[(REFRESH, "1h"), (COOLDOWN, "500ms"), one_user]).await;
    let (by_old, by_new, by_last) = (old.sign_as(EdDSA, "old"), new.sign_as(EdDSA, "new"), last.sign_as(EdDSA, "last"));
    let address = node.main();
    let mut connecting = JoinSet::new();
    for i in 0..SOCKETS {
        if i == SOCKETS / 2 {
            provider.publish(&[old.jwk(EdDSA, "old"), new.jwk(EdDSA, "new")]);
        }
        let token = if i >= SOCKETS / 2 && i % 2 == 0 { by_new.clone() } else { by_old.clone() };
        connecting.spawn(async move { Client::connect(address, &token).await });
    }
    let admitted = connecting.join_all().await;
    assert_eq!(admitted.len(), SOCKETS);
    assert_eq!(node.metric("hallway_connects_total").await as usize, SOCKETS);
    assert!(provider.requests().len() <= 4, "{:?}", provider.requests());
    provider.publish(&[new.jwk(EdDSA, "new"), last.jwk(EdDSA, "last")]);
    assert!(is_admitted(&node, &by_last).await, "its key is there by the next fetch");
    let mut late = JoinSet::new();
    for _ in 0..20 {
        let offer = json!({"token": by_old}).to_string();
        late.spawn(async move { Client::open(address).await.0.offer(&offer).await });
    }
    assert!(late.join_all().await.iter().all(|reply| reply == UNAUTHORIZED), "its key is gone");
    assert!(is_admitted(&node, &by_new).await);
    eventually("who is in stays in until its token ends, and nobody else", || async {
        (node.metric("hallway_sessions").await as usize == SOCKETS).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_key_that_is_taken_back_is_gone_by_the_next_refresh() {
    let folder = folder();
    let (old, new) = (Pair::ed25519(&folder, "old"), Pair::ed25519(&folder, "new"));
    let provider = Provider::publishing(&[old.jwk(EdDSA, "old")]).await;
    let node = believing(&provider, &[(REFRESH, "1s"), (COOLDOWN, "100ms")]).await;
    assert!(is_admitted(&node, &old.sign(EdDSA)).await);
    provider.publish(&[new.jwk(EdDSA, "new")]);
    eventually("the old key is gone", || async {
        (!is_admitted(&node, &old.sign_as(EdDSA, "old")).await).then_some(())
    })
    .await;
    assert!(is_admitted(&node, &new.sign(EdDSA)).await);
    provider.publish(&[]);
    eventually("no key is left, and the node says so", || async { (node.readyz().await == 503).then_some(()) }).await;
    let problem = node.checks().await["keys"]["problem"].take();
    assert!(problem.as_str().is_some_and(|text| text.contains("has no key of use")), "{problem}");
    assert!(!is_admitted(&node, &new.sign(EdDSA)).await);
}

#[tokio::test]
async fn while_the_provider_is_down_known_keys_serve_and_then_they_are_too_old() {
    let folder = folder();
    let (old, new) = (Pair::ed25519(&folder, "old"), Pair::ed25519(&folder, "new"));
    let provider = Provider::publishing(&[old.jwk(EdDSA, "old")]).await;
    let settings =
        [(REFRESH, "1s"), (COOLDOWN, "200ms"), (WAIT, "1s"), (MAX_STALE, "10s"), ("HALLWAY_LOG__LEVEL", "debug")];
    let node = believing(&provider, &settings).await;
    let mut inside = sign_in(&node, &old.sign_as(EdDSA, "old")).await.expect("a good token");
    provider.set(Mode::Down);
    eventually("a fetch fails", || async { (fetches(&node, "unreachable").await > 0.0).then_some(()) }).await;
    assert!(!is_admitted(&node, &new.sign_as(EdDSA, "new")).await);
    assert!(is_admitted(&node, &old.sign_as(EdDSA, "old")).await);
    assert_eq!(refusals(&node, "unknown-key").await as u64, 1);
    assert!(says(&node, "the token's key is not known"));
    assert!(says(&node, "see whether auth.jwks_url can be reached from here"));
    let checks = node.checks().await["keys"].take();
    assert_eq!((node.readyz().await, &checks["ready"]), (200, &json!(true)), "{checks}");
    assert!(checks["problem"].as_str().is_some_and(|text| text.contains("cannot be fetched")), "{checks}");

    eventually("the keys are too old", || async { (node.readyz().await == 503).then_some(()) }).await;
    assert!(!is_admitted(&node, &old.sign_as(EdDSA, "old")).await);
    assert!(refusals(&node, "keys-unavailable").await > 0.0);
    let checks = node.checks().await["keys"].take();
    assert!(checks["problem"].as_str().is_some_and(|text| text.contains("auth.jwks_max_stale")), "{checks}");
    eventually("the log says so", || async { says(&node, "its keys are no longer believed").then_some(()) }).await;
    assert_eq!(node.metric("hallway_jwks_keys").await as u64, 0);
    let still = inside.call("refresh_token", &json!({"token": old.sign(EdDSA)}).to_string()).await;
    assert_eq!(still, json!({"ok": false, "error": "unauthorized"}));

    provider.publish(&[old.jwk(EdDSA, "old"), new.jwk(EdDSA, "new")]);
    node.ready().await;
    assert!(is_admitted(&node, &old.sign_as(EdDSA, "old")).await);
    assert!(is_admitted(&node, &new.sign_as(EdDSA, "new")).await);
    let warned = node.log().iter().filter(|line| line.contains("cannot be fetched")).count();
    assert!(warned <= 2, "one trouble is told once a minute: {warned}");
}

#[tokio::test]
async fn a_flood_of_unknown_names_makes_no_more_fetches_than_the_cooldown_allows() {
    let folder = folder();
    let (known, own) = (Pair::ed25519(&folder, "known"), Pair::ed25519(&folder, "own"));
    let provider = Provider::publishing(&[known.jwk(EdDSA, "known")]).await;
    let node = believing(&provider, &[(REFRESH, "1h"), (COOLDOWN, "1s"), (WAIT, "200ms")]).await;
    let began = Instant::now();
    let address = node.main();
    let mut flood = JoinSet::new();
    for i in 0..40 {
        let tokens: Vec<String> = (0..10).map(|j| own.sign_as(EdDSA, &format!("{i}-{j}"))).collect();
        flood.spawn(async move {
            let (mut client, _) = Client::open(address).await;
            for token in tokens {
                assert_eq!(client.offer(&json!({"token": token}).to_string()).await, UNAUTHORIZED);
            }
        });
    }
    for _ in 0..5 {
        let asked = Instant::now();
        assert!(is_admitted(&node, &known.sign_as(EdDSA, "known")).await);
        assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    }
    flood.join_all().await;
    let allowed = began.elapsed().as_secs() as usize + 3;
    assert!(provider.requests().len() <= allowed, "{} fetches, {allowed} allowed", provider.requests().len());
    assert_eq!(refusals(&node, "unknown-key").await as u64, 400);
}

#[tokio::test]
async fn an_expired_token_asks_for_no_key() {
    let folder = folder();
    let own = Pair::ed25519(&folder, "own");
    let provider = Provider::publishing(&[Pair::ed25519(&folder, "known").jwk(EdDSA, "known")]).await;
    let node = believing(&provider, &[(REFRESH, "1h"), (COOLDOWN, "100ms")]).await;
    let header = Header { kid: Some("unknown".to_owned()), ..Header::new(EdDSA) };
    let claims = json!({"sub": "u1", "exp": now_s() - 100});
    let token = jsonwebtoken::encode(&header, &claims, &own.signer(EdDSA)).expect("claims encode");
    for _ in 0..5 {
        assert!(!is_admitted(&node, &token).await);
    }
    assert_eq!((provider.requests().len(), refusals(&node, "expired").await as u64), (1, 5));
}

/// What each bad answer is called, and words of what is said about it.
fn faults(elsewhere: &str) -> Vec<(Mode, &'static str, &'static str)> {
    let body = |text: &str| Mode::Body(text.to_owned());
    vec![
        (Mode::Hang, "timeout", "did not come within auth.jwks_timeout"),
        (Mode::Dribble, "timeout", "did not come within auth.jwks_timeout"),
        (Mode::Huge, "too-large", "is longer than 256 KiB"),
        (Mode::Down, "unreachable", "cannot be fetched"),
        (Mode::Status("302 Found", format!("location: {elsewhere}\r\n")), "redirect", "redirects are not followed"),
        (
            Mode::Status("308 Permanent Redirect", format!("location: {elsewhere}\r\n")),
            "redirect",
            "has moved (status 308)",
        ),
        (Mode::Status("500 Oops", String::new()), "status", "was answered with status 500"),
        (Mode::Status("204 No Content", String::new()), "status", "was answered with status 204"),
        (body("<html>sign in</html>"), "no-jwks", "is no JSON object with a list `keys`"),
        (body("{}"), "no-jwks", "is no JSON object with a list `keys`"),
        (body("not HTTP\r\n"), "no-jwks", "is no JSON object with a list `keys`"),
    ]
}

#[tokio::test]
async fn a_bad_answer_is_named_and_the_keys_at_hand_go_on_serving() {
    let folder = folder();
    let (known, own, elsewhere) =
        (Pair::ed25519(&folder, "known"), Pair::ed25519(&folder, "own"), Pair::ed25519(&folder, "elsewhere"));
    let evil = Provider::publishing(&[elsewhere.jwk(EdDSA, "elsewhere")]).await;
    let provider = Provider::publishing(&[known.jwk(EdDSA, "known")]).await;
    let node = believing(&provider, &[(REFRESH, "1h"), (COOLDOWN, "100ms"), (TIMEOUT, "400ms")]).await;
    for (mode, outcome, words) in faults(&evil.url()) {
        provider.set(mode.clone());
        let before = fetches(&node, outcome).await;
        assert!(!is_admitted(&node, &own.sign_as(EdDSA, "own")).await, "{mode:?}");
        assert!(fetches(&node, outcome).await > before, "{mode:?}");
        assert!(is_admitted(&node, &known.sign_as(EdDSA, "known")).await, "{mode:?}");
        let problem = node.checks().await["keys"]["problem"].take();
        assert!(problem.as_str().is_some_and(|text| text.contains(words)), "{mode:?}: {problem}");
        assert_eq!(node.readyz().await, 200);
    }
    assert_eq!(evil.requests(), [""; 0]);
    assert!(node.rss_kib() < 200 * 1024, "{} KiB", node.rss_kib());
}

#[tokio::test]
async fn a_node_without_a_key_is_not_ready_until_it_has_fetched_one() {
    let folder = folder();
    let known = Pair::ed25519(&folder, "known");
    for (mode, _, words) in faults("http://127.0.0.1:1/") {
        let provider = Provider::start(mode.clone()).await;
        let node = started(&provider, &[(COOLDOWN, "100ms"), (TIMEOUT, "300ms"), (WAIT, "0s")]).await;
        eventually("the node says what is wrong", || async {
            let problem = node.checks().await["keys"]["problem"].take();
            problem
                .as_str()
                .is_some_and(|text| text.contains("was not fetched yet") && text.contains(words))
                .then_some(())
        })
        .await;
        assert_eq!(node.readyz().await, 503, "{mode:?}");
        assert!(!is_admitted(&node, &known.sign(EdDSA)).await, "{mode:?}");
        assert_eq!(refusals(&node, "keys-unavailable").await as u64, 1);
        provider.publish(&[known.jwk(EdDSA, "known")]);
        node.ready().await;
        assert!(is_admitted(&node, &known.sign(EdDSA)).await, "{mode:?}");
        assert_eq!(node.checks().await["keys"]["problem"], Value::Null);
    }
}

#[tokio::test]
async fn whoever_comes_before_the_first_fetch_has_ended_waits_for_it() {
    let folder = folder();
    let known = Pair::ed25519(&folder, "known");
    let provider = Provider::start(Mode::Hang).await;
    let node = started(&provider, &[(COOLDOWN, "100ms"), (TIMEOUT, "500ms"), ("HALLWAY_LOG__LEVEL", "debug")]).await;
    let token = known.sign_as(EdDSA, "known");
    let publish = async {
        eventually("a fetch hangs", || async { (!provider.requests().is_empty()).then_some(()) }).await;
        provider.publish(&[known.jwk(EdDSA, "known")]);
    };
    let (admitted, ()) = tokio::join!(is_admitted(&node, &token), publish);
    assert!(admitted);
}

#[tokio::test]
async fn a_refreshed_token_may_be_of_a_key_that_is_fetched_for_it() {
    let folder = folder();
    let (old, new) = (Pair::ed25519(&folder, "old"), Pair::rsa(&folder, "new"));
    let provider = Provider::publishing(&[old.jwk(EdDSA, "old")]).await;
    let node = believing(&provider, &[(REFRESH, "1h"), (COOLDOWN, "200ms")]).await;
    let mut client = sign_in(&node, &old.sign_as(EdDSA, "old")).await.expect("a good token");
    provider.set(jwks(&[old.jwk(EdDSA, "old"), new.jwk(RS256, "new")]));
    let reply = client.call("refresh_token", &json!({"token": new.sign_as(PS256, "new")}).to_string()).await;
    assert_eq!(reply["ok"], true, "{reply}");
    let stranger = Pair::ed25519(&folder, "stranger").sign_as(EdDSA, "old");
    let reply = client.call("refresh_token", &json!({"token": stranger}).to_string()).await;
    assert_eq!(reply, json!({"ok": false, "error": "unauthorized"}));
    client.join("user:u1").await;
}

#[tokio::test]
async fn a_gateway_stops_at_once_while_a_fetch_hangs_and_clients_wait_for_it() {
    let folder = folder();
    let (known, own) = (Pair::ed25519(&folder, "known"), Pair::ed25519(&folder, "own"));
    let provider = Provider::publishing(&[known.jwk(EdDSA, "known")]).await;
    let settings = [(REFRESH, "1h"), (COOLDOWN, "100ms"), (WAIT, "30s"), (TIMEOUT, "1m")];
    let mut node = believing(&provider, &settings).await;
    let mut inside = sign_in(&node, &known.sign(EdDSA)).await.expect("a good token");
    provider.set(Mode::Hang);
    let offer = json!({"token": own.sign_as(EdDSA, "own")}).to_string();
    let mut waiting = Vec::new();
    for _ in 0..5 {
        let (mut client, _) = Client::open(node.main()).await;
        client.send(&format!("40/realtime,{offer}")).await;
        waiting.push(client);
    }
    inside.send(&format!(r#"42/realtime,7["refresh_token",{offer}]"#)).await;
    eventually("a fetch hangs", || async { (provider.requests().len() == 2).then_some(()) }).await;
    let asked = Instant::now();
    assert!(node.terminate().await.success());
    assert!(asked.elapsed() < Duration::from_secs(8), "{:?}", asked.elapsed());
    assert!(!says(&node, "did not end in time"), "{:?}", node.log());
}
