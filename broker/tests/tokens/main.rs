//! Tokens that issuers sign: how long they hold on each transport, how they are replaced, and what takes their place in a URL.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

mod admin;
mod issuer;
mod keys;
#[path = "../support/mod.rs"]
mod support;
mod tickets;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bongsu_client::Client as Library;
use bongsu_protocol::stomp::Command;
use serde_json::json;
use support::http::{Exchange, ask};
use support::stomp::Stomp;
use support::{Broker, Client};
use tempfile::TempDir;

use issuer::{now, signed, token};

/// Seconds that a token holds which is to end within a test: long enough for what comes before on a busy machine.
const SHORT: f64 = 9.0;

fn start(more: &[&str]) -> (TempDir, Broker) {
    let data = tempfile::tempdir().unwrap();
    let issuer = issuer::setting(data.path());
    let settings: Vec<&str> = std::iter::once(issuer.as_str()).chain(more.iter().copied()).collect();
    let broker = Broker::start(data.path(), &settings);
    (data, broker)
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

async fn connect(broker: &Broker, token: &str) -> Client {
    Client::connect_with(broker.address, None, &[("authorization", &bearer(token))]).await.unwrap()
}

#[tokio::test]
async fn a_session_is_warned_and_ends_with_its_token() {
    let (_data, broker) = start(&[]);
    let mut client = connect(&broker, &token("ann", SHORT)).await;
    assert!(client.subscribe("own/ann/#", json!("latest")).await["subscribed"].is_object());
    let other = client.subscribe("own/bob/#", json!("latest")).await;
    assert_eq!(other["error"]["code"], "forbidden");
    let warning = client.event().await.unwrap();
    let left = warning["tokenExpiring"]["inMs"].as_u64().unwrap();
    assert!((1..=3000).contains(&left), "{warning}");
    assert!(warning["tokenExpiring"]["expiresAt"].as_f64().unwrap() / 1000.0 > now() - 3.0);
    let goodbye = client.event().await.unwrap();
    assert_eq!(goodbye["goodbye"]["reason"], "unauthenticated");
    let (code, text) = client.closed().await;
    assert_eq!(
        (code, text.as_str()),
        (4401, "unauthenticated: the token has expired: come back with a new one")
    );
    assert_eq!(broker.counter("bongsu_tokens_expired_total").await, 1);
}

#[tokio::test]
async fn a_session_goes_on_with_the_next_token_of_its_subject() {
    let (_data, broker) = start(&[]);
    let began = now();
    let mut client = connect(&broker, &token("ann", SHORT)).await;
    client.subscribe("own/ann/#", json!("latest")).await;
    client.subscribe("room/#", json!("latest")).await;
    // Somebody else's does not take the session over, and takes nothing from it.
    let stolen = client.ask("authenticate", json!({ "token": token("bob", 60.0) })).await;
    assert_eq!(stolen["error"]["code"], "forbidden", "{stolen}");
    client.publish("own/ann/x", json!(1)).await;
    assert_eq!(client.delivery().await["data"], 1);
    // What the next one does not grant ends.
    let own = json!([{ "topics": ["own/{sub}/#"], "do": ["subscribe", "publish"] }]);
    let reply = client.ask("authenticate", json!({ "token": signed("ann", 600.0, &own) })).await;
    assert_eq!(reply["authenticated"]["subject"], "ann");
    let ended = client.event().await.unwrap();
    assert_eq!(ended["unsubscribed"]["filter"], "room/#", "{ended}");
    // Past the end of the first.
    while now() < began + SHORT + 1.0 {
        client.ask("ping", json!({})).await;
    }
    client.publish("own/ann/x", json!(2)).await;
    assert_eq!(client.delivery().await["data"], 2);
}

#[tokio::test]
async fn the_client_library_shows_its_next_token_by_itself() {
    let (_data, broker) = start(&[]);
    let n_asked = Arc::new(AtomicUsize::new(0));
    let source = {
        let n_asked = Arc::clone(&n_asked);
        move || {
            let seconds = if n_asked.fetch_add(1, Ordering::SeqCst) == 0 { SHORT } else { 600.0 };
            std::future::ready(Ok::<_, String>(token("ann", seconds)))
        }
    };
    let url = format!("ws://{}", broker.address);
    let client = Library::builder(url).token(source).connect().await.unwrap();
    let began = now();
    while now() < began + SHORT + 1.0 {
        client.members("room/a").await.unwrap();
    }
    assert_eq!(n_asked.load(Ordering::SeqCst), 2);
    assert_eq!(broker.counter("bongsu_sessions_opened_total").await, 1, "it did not connect again");
}

#[tokio::test]
async fn a_stomp_client_is_told_and_refreshes_at_a_destination() {
    let (_data, broker) = start(&["stomp.listen=127.0.0.1:0"]);
    let mut stomp = Stomp::silent(broker.stomp[0]).await;
    let connected = stomp.log_in("1.2", &format!("passcode:{}\n", token("ann", SHORT))).await;
    let expires: f64 = connected.header("token-expires").unwrap().parse().unwrap();
    assert!(expires / 1000.0 > now());
    stomp.ask("SUBSCRIBE\nid:t\ndestination:/bongsu/token\nreceipt:1\n\n^").await;
    stomp.ask("SUBSCRIBE\nid:r\ndestination:/user/queue/answers\nreceipt:2\n\n^").await;
    let warning = stomp.hear_one(Command::Message).await;
    assert_eq!(warning.header("subscription"), Some("t"));
    assert_eq!(warning.header("destination"), Some("/bongsu/token"));
    let body: serde_json::Value = serde_json::from_slice(&warning.body).unwrap();
    assert!(body["inMs"].as_u64().unwrap() <= 3000, "{body}");
    stomp.ask(&format!("SEND\ndestination:/bongsu/token\nreceipt:3\n\n{}^", token("ann", SHORT))).await;
    while now() < expires / 1000.0 + 0.5 {
        stomp.ask("SEND\ndestination:/topic/room.a\nreceipt:4\n\nhi^").await;
    }
    // Warned of the second as well, and gone with it.
    assert_eq!(stomp.hear_one(Command::Message).await.header("subscription"), Some("t"));
    let (error, _) = stomp.refused().await;
    assert!(String::from_utf8_lossy(&error.body).contains("the token has expired"), "{error:?}");
    let mut other = Stomp::silent(broker.stomp[0]).await;
    other.log_in("1.2", &format!("passcode:{}\n", token("ann", 600.0))).await;
    other.say(&format!("SEND\ndestination:/bongsu/token\nreceipt:3\n\n{}^", token("bob", 600.0))).await;
    let (error, _) = other.refused().await;
    assert_eq!(error.header("receipt-id"), Some("3"), "a token of somebody else is refused");
}

#[tokio::test]
async fn an_event_stream_ends_with_its_token_and_goes_on_with_the_next() {
    let (_data, broker) = start(&[]);
    let begin = |token: &str, path: &str| {
        Exchange::begin(broker.address, "GET", path, &[("authorization", &bearer(token))], "")
    };
    let publish = |data: u32| {
        let body = json!({ "topic": "room/a", "data": data }).to_string();
        let answer = ask(
            broker.address,
            "POST",
            "/v1/publish",
            &[("authorization", &bearer(&token("bob", 60.0)))],
            &body,
        );
        assert_eq!(answer.status, 200, "{answer:?}");
    };
    publish(0);
    let mut stream = begin(&token("ann", SHORT), "/v1/events?topic=room/a");
    assert_eq!(stream.status, 200);
    publish(1);
    let lines: Vec<String> = std::iter::from_fn(|| stream.line()).collect();
    let after = |prefix: &str| lines.iter().filter_map(|line| line.strip_prefix(prefix)).collect::<Vec<_>>();
    assert_eq!(after("event: "), ["token", "goodbye"], "the warning, and nothing after the end");
    let data = after("data: ");
    assert!(data[0] == "1" && data[1].contains("inMs") && data[2].contains("unauthenticated"), "{data:?}");
    let bookmark = after("id: ").last().copied().unwrap().to_owned();
    publish(2);
    let path = format!("/v1/events?topic=room/a&last_event_id={bookmark}");
    let mut next = begin(&token("ann", 600.0), &path);
    assert_eq!(next.line_after("data: "), "2");
    let over = ask(broker.address, "GET", &path, &[("authorization", &bearer(&token("ann", -60.0)))], "");
    assert_eq!(over.status, 401);
    assert!(over.body.contains("the token has expired: get a new one"), "{over:?}");
}

#[tokio::test]
async fn a_poll_does_not_wait_past_the_end_of_its_token() {
    let (_data, broker) = start(&["http.long_poll_timeout=10m"]);
    let seed = json!({ "topic": "room/a", "data": 0 }).to_string();
    let headers = bearer(&token("ann", 60.0));
    ask(broker.address, "POST", "/v1/publish", &[("authorization", &headers)], &seed);
    let headers = bearer(&token("ann", SHORT));
    let body = json!({ "topics": { "room/a": "now" }, "wait_ms": 600_000 }).to_string();
    let began = now();
    let answer = ask(broker.address, "POST", "/v1/poll", &[("authorization", &headers)], &body);
    assert_eq!(answer.status, 401, "{answer:?}");
    assert!(now() >= began + SHORT - 2.0, "it was answered when the token ended, and not before");
    let answer = ask(broker.address, "POST", "/v1/poll", &[("authorization", &headers)], &body);
    assert_eq!(answer.status, 401, "{answer:?}");
}
