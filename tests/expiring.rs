//! `auth.expiring`: a socket is told some time before its token ends, once for each end and never in
//! a hurry, so that it can fetch another (S22).

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::client::Client;
use crate::harness::node::Node;
use crate::harness::token::{self, now_s};

async fn with_lead(lead: &str) -> Node {
    Node::with(&[("HALLWAY_AUTH__EXPIRING_LEAD", lead), ("HALLWAY_SERVER__ALIASES", "/other")]).await
}

fn until(exp: u64) -> String {
    token::with(json!({"sub": "u1", "exp": exp}))
}

fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock after 1970");
    u64::try_from(since.as_millis()).expect("not that late")
}

/// Takes the next event, which is the notice for a token of this end and nothing else.
async fn is_told(client: &mut Client, exp: u64) {
    let (name, argument) = client.event().await;
    let event = &argument["event"];
    let (id, timestamp): (&Value, &Value) = (&event["id"], &event["timestamp"]);
    assert_eq!(id.as_str().expect("an id").len(), 36);
    let expected = json!({
        "event": {
            "id": id,
            "type": "auth.expiring",
            "priority": "NORMAL",
            "timestamp": timestamp,
            "payload": {"expiresAt": exp * 1000},
            "meta": {"source": "hallway"},
        },
        "requiresAck": false,
    });
    assert_eq!((name.as_str(), argument), ("auth.expiring", expected));
}

async fn refresh(client: &mut Client, exp: u64) {
    let reply = client.call("refresh_token", &json!({"token": until(exp)}).to_string()).await;
    assert_eq!(reply, json!({"ok": true, "data": {"expiresAt": exp * 1000}}));
}

async fn ends_quietly(client: &mut Client, exp: u64) {
    assert_eq!(client.until_closed(Duration::from_secs(20)).await, [] as [&str; 0], "told once, and closed without 41");
    assert!((exp..=exp + 2).contains(&now_s()), "{} is not {exp}", now_s());
}

#[tokio::test]
async fn a_socket_is_told_once_the_lead_before_its_token_ends() {
    let node = with_lead("2s").await;
    let exp = now_s() + 5;
    let mut client = Client::connect(node.main(), &until(exp)).await;
    let mut other = Client::open(node.main()).await.0;
    other.set_namespace("/other");
    other.sign_in(&until(exp)).await;
    client.nothing_came().await;
    for client in [&mut client, &mut other] {
        is_told(client, exp).await;
        let left = (exp * 1000).saturating_sub(now_ms());
        assert!((500..=2000).contains(&left), "told {left} ms before the end");
    }
    ends_quietly(&mut client, exp).await;
    ends_quietly(&mut other, exp).await;
}

#[tokio::test]
async fn a_socket_that_comes_with_less_than_the_lead_left_is_told_right_after_connecting() {
    let node = with_lead("1m").await;
    let exp = now_s() + 30;
    let mut client = Client::connect(node.main(), &until(exp)).await;
    is_told(&mut client, exp).await;
    client.nothing_came().await;
    let mut lasting = Client::connect(node.main(), &token::user("u1")).await;
    lasting.nothing_came().await;
}

#[tokio::test]
async fn of_a_refreshed_token_the_new_end_is_told_and_the_old_one_no_more() {
    let node = with_lead("2s").await;
    let now = now_s();
    let mut early = Client::connect(node.main(), &until(now + 4)).await;
    let mut shorter = Client::connect(node.main(), &until(now + 3600)).await;
    let mut as_it_was = Client::connect(node.main(), &until(now + 4)).await;
    refresh(&mut early, now + 3600).await;
    refresh(&mut shorter, now + 5).await;
    is_told(&mut as_it_was, now + 4).await;
    is_told(&mut shorter, now + 5).await;
    ends_quietly(&mut as_it_was, now + 4).await;
    ends_quietly(&mut shorter, now + 5).await;
    early.nothing_came().await;
}

#[tokio::test]
async fn a_refresh_with_the_token_there_is_brings_no_second_notice() {
    let node = Node::with(&[]).await;
    let now = now_s();
    for (left, tells_at_once) in [(30, true), (60, true), (61, false)] {
        let exp = now + left;
        let mut client = Client::connect(node.main(), &until(exp)).await;
        if tells_at_once {
            is_told(&mut client, exp).await;
        }
        for _ in 0..3 {
            refresh(&mut client, exp).await;
        }
        if !tells_at_once {
            is_told(&mut client, exp).await;
            refresh(&mut client, exp).await;
        }
        client.nothing_came().await;
    }
}

/// An app that answers each notice with the token that it has at hand.
#[tokio::test]
async fn a_client_that_refreshes_at_every_notice_does_not_chase_its_own_notices() {
    let node = Node::with(&[]).await;
    let now = now_s();
    let mut client = Client::connect(node.main(), &until(now + 30)).await;
    let (mut told, began) = (0, Instant::now());
    while let Ok(Some(frame)) = client.frame_within(Duration::from_millis(300)).await {
        if client.parse_event(&frame).is_some_and(|(name, _)| name == "auth.expiring") {
            told += 1;
            client.tell("refresh_token", &json!({"token": until(now + 30 + told % 2)}).to_string()).await;
        }
        assert!(began.elapsed() < Duration::from_secs(5), "told {told} times");
    }
    assert_eq!(told, 1, "one for each moment of expiry, and never two within 10 s");
}

#[tokio::test]
async fn ends_that_follow_too_closely_on_a_notice_are_not_told() {
    let node = with_lead("2s").await;
    let now = now_s();
    let mut client = Client::connect(node.main(), &until(now + 2)).await;
    is_told(&mut client, now + 2).await;
    refresh(&mut client, now + 4).await;
    ends_quietly(&mut client, now + 4).await;
}

#[tokio::test]
async fn a_token_that_is_refused_is_no_reason_to_be_told_again() {
    let node = with_lead("1m").await;
    let exp = now_s() + 5;
    let mut client = Client::connect(node.main(), &until(exp)).await;
    is_told(&mut client, exp).await;
    for (token, error) in [(token::user("somebody-else"), "forbidden"), ("none".to_owned(), "unauthorized")] {
        let reply = client.call("refresh_token", &json!({ "token": token }).to_string()).await;
        assert_eq!(reply, json!({"ok": false, "error": error}));
    }
    ends_quietly(&mut client, exp).await;
}

#[tokio::test]
async fn a_lead_of_nothing_tells_nobody() {
    let node = with_lead("0s").await;
    let exp = now_s() + 3;
    let mut client = Client::connect(node.main(), &until(exp)).await;
    ends_quietly(&mut client, exp).await;
}
