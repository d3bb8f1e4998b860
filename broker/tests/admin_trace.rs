//! Following what happens on connections, over real HTTP.

#[path = "support/admin.rs"]
mod admin;
mod support;

use std::net::SocketAddr;

use admin::{TOKENS, ask, get, start};
use serde_json::{Value, json};
use support::PATIENCE;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

/// A trace that is read line by line.
struct Reading {
    stream: BufReader<TcpStream>,
}

impl Reading {
    async fn begin(admin: SocketAddr, query: &str, headers: &str) -> Self {
        let mut stream = TcpStream::connect(admin).await.expect("it takes connections");
        let request = format!("GET /v1/trace?{query} HTTP/1.1\r\nhost: {admin}\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.expect("it reads");
        let mut reading = Self { stream: BufReader::new(stream) };
        let first = reading.until(|event| event["what"] == "follows").await;
        assert_eq!(first["session"], "");
        reading
    }

    /// The next event that is wanted.
    async fn until(&mut self, is_wanted: impl Fn(&Value) -> bool) -> Value {
        let reading = async {
            loop {
                let mut line = String::new();
                let n_bytes = self.stream.read_line(&mut line).await.expect("it goes on");
                assert!(n_bytes > 0, "the trace ended");
                let text = line.trim().trim_start_matches("data: ");
                match serde_json::from_str::<Value>(text) {
                    Ok(event) if event.is_object() && is_wanted(&event) => return event,
                    // A header, the size of a chunk, a sign of life, or something else that happened.
                    Ok(_) | Err(_) => {}
                }
            }
        };
        tokio::time::timeout(PATIENCE, reading).await.expect("in time")
    }
}

const LINES: &str = "accept: application/x-ndjson\r\n";

#[tokio::test]
async fn what_a_subject_does_is_followed_in_both_directions_with_what_was_decided() {
    let digest = admin::sha256("ada-token");
    let tokens = format!(
        "auth.tokens=[{{ name = 'ada', subscribe = ['chat/#'], publish = ['chat/#'], sha256 = '{digest}' }}]"
    );
    let (_data, broker, admin) = start(&["node.name=n1", &tokens, "auth.anonymous.subscribe=['#']"]);
    let mut trace = Reading::begin(admin, "subject=ada", LINES).await;
    let mut client = broker.connect().await;
    client.ask("authenticate", json!({ "token": "ada-token" })).await;
    client.subscribe("chat/1", json!("latest")).await;
    let asked = trace.until(|event| event["what"] == "in").await;
    assert_eq!((&asked["frame"], &asked["topics"]), (&json!("subscribe"), &json!(["chat/1"])));
    assert_eq!((&asked["node"], &asked["subject"]), (&json!("n1"), &json!("ada")));
    let allowed = trace.until(|event| event["what"] == "authorized").await;
    assert_eq!((&allowed["frame"], &allowed["topics"]), (&json!("subscribe"), &json!(["chat/1"])));
    client.publish("chat/1", json!("a secret of ada")).await;
    client.delivery().await;
    let out = trace.until(|event| event["frame"] == "message").await;
    assert_eq!(
        (&out["what"], &out["topics"], &out["payload"]),
        (&json!("out"), &json!(["chat/1"]), &Value::Null)
    );
    client.publish("news", json!(1)).await;
    let refused = trace.until(|event| event["what"] == "refused").await;
    assert_eq!((&refused["frame"], &refused["code"]), (&json!("publish"), &json!("forbidden")));
    drop(client);
    let closed = trace.until(|event| event["what"] == "closed").await;
    assert_eq!(closed["session"], out["session"]);
}

#[tokio::test]
async fn what_concerns_a_topic_is_followed_as_server_sent_events_too() {
    let (_data, broker, admin) = start(&["node.name=n1"]);
    let mut trace = Reading::begin(admin, "topic=chat%2F1&payloads=true", "").await;
    let mut client = broker.connect().await;
    client.subscribe("news", json!("latest")).await;
    client.subscribe("chat/#", json!("latest")).await;
    let event = trace.until(|event| event["session"] != "").await;
    assert_eq!(
        (&event["frame"], &event["topics"]),
        (&json!("subscribe"), &json!(["chat/#"])),
        "news is no concern"
    );
    client.publish("chat/1", json!("hello")).await;
    let out = trace.until(|event| event["what"] == "out" && event["frame"] == "message").await;
    // printf '"hello"' | base64
    assert_eq!(out["payload"], "ImhlbGxvIg==");
}

#[tokio::test]
async fn payloads_take_the_role_admin_and_something_must_be_wanted() {
    let (_data, _broker, admin) = start(&[TOKENS]);
    let as_role = |role: &str| format!("authorization: Bearer {role}");
    for (role, query, status) in [
        ("viewer", "subject=ada", 403),
        ("operator", "subject=ada&payloads=true", 403),
        ("operator", "", 422),
        ("operator", "payloads=false", 422),
        ("operator", "topic=a%2F%2Fb", 422),
        ("operator", "subject=ada&payloads=maybe", 400),
    ] {
        let answer = ask(admin, "GET", &format!("/v1/trace?{query}"), &[&as_role(role)], "").await;
        assert_eq!(answer.status, status, "{role} {query}: {}", answer.body);
    }
}

#[tokio::test]
async fn a_trace_ends_with_its_reader_and_only_so_many_run_at_a_time() {
    let (_data, broker, admin) = start(&[]);
    let mut traces = Vec::new();
    for _ in 0..8 {
        traces.push(Reading::begin(admin, "subject=ada", LINES).await);
    }
    let full = get(admin, "/v1/trace?subject=ada").await;
    assert_eq!((full.status, &full.json()["code"]), (429, &json!("rate_limited")));
    drop(traces);
    // A reader that is gone is noticed when something is written to it.
    admin::until(|| async {
        drop(broker.connect().await);
        let mut stream = TcpStream::connect(admin).await.expect("it takes connections");
        let request = format!("GET /v1/trace?session=x HTTP/1.1\r\nhost: {admin}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("it reads");
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).await.expect("it answers");
        line.contains(" 200 ").then_some(())
    })
    .await;
}
