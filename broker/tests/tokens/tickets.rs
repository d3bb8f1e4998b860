//! What takes a token's place in a URL, and what a page of another site gets with a cookie.

use serde_json::{Value, json};

use super::issuer::token;
use super::support::Broker;
use super::support::http::{Answer, Exchange, ask};
use super::{bearer, start};

fn mint(broker: &Broker, token: &str) -> String {
    let answer = ask(broker.address, "POST", "/v1/tickets", &[("authorization", &bearer(token))], "");
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(answer.header("cache-control"), "no-store");
    let body: Value = serde_json::from_str(&answer.body).unwrap();
    assert!(body["expires_at"].is_u64(), "{body}");
    body["ticket"].as_str().unwrap().to_owned()
}

/// The status of a handshake.
fn knock(broker: &Broker, path: &str, more: &[(&str, &str)]) -> u16 {
    let mut headers = vec![
        ("upgrade", "websocket"),
        ("connection", "upgrade"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    headers.extend_from_slice(more);
    Exchange::begin(broker.address, "GET", path, &headers, "").status
}

#[tokio::test]
async fn a_ticket_opens_each_way_in_once() {
    let (_data, broker) = start(&[]);
    let ann = token("ann", 600.0);
    let publish = |ticket: &str| {
        let body = json!({ "topic": "own/ann/x", "data": 1 }).to_string();
        ask(broker.address, "POST", &format!("/v1/publish?ticket={ticket}"), &[], &body).status
    };
    for way in ["/v1/ws", "/stomp"] {
        let ticket = mint(&broker, &ann);
        assert_eq!(knock(&broker, &format!("{way}?ticket={ticket}"), &[]), 101, "{way}");
        assert_eq!(publish(&ticket), 401, "{way}: it was used");
    }
    let ticket = mint(&broker, &ann);
    assert_eq!(publish(&ticket), 200);
    assert_eq!(knock(&broker, &format!("/v1/ws?ticket={ticket}"), &[]), 401);
    let ticket = mint(&broker, &ann);
    let path = format!("/v1/events?topic=own/ann/x&from=earliest&ticket={ticket}");
    let mut stream = Exchange::begin(broker.address, "GET", &path, &[], "");
    assert_eq!(stream.line_after("data: "), "1");
    assert_eq!(ask(broker.address, "GET", &path, &[], "").status, 401);
    // It is its bearer's, and no more than that.
    let body = json!({ "topic": "own/bob/x", "data": 1 }).to_string();
    let ticket = mint(&broker, &ann);
    let other: Answer = ask(broker.address, "POST", &format!("/v1/publish?ticket={ticket}"), &[], &body);
    assert_eq!(other.status, 403);
    assert_eq!(ask(broker.address, "POST", "/v1/tickets", &[], "").status, 401, "nobody gets none");
    assert_eq!(
        ask(broker.address, "GET", "/v1/tickets", &[("authorization", &bearer(&ann))], "").status,
        405
    );
}

#[tokio::test]
async fn a_page_of_another_site_gets_nothing_by_the_cookie_of_its_visitor() {
    let (_data, broker) = start(&["http.allowed_origins=https://app.example"]);
    let cookie = format!("bongsu_token={}", token("ann", 600.0));
    let ask = |method: &str, path: &str, origin: &str, body: &str| {
        Exchange::begin(broker.address, method, path, &[("cookie", &cookie), ("origin", origin)], body).status
    };
    let publish = json!({ "topic": "room/a", "data": 1 }).to_string();
    let poll = json!({ "topics": { "room/a": "earliest" } }).to_string();
    let ways = [
        ("POST", "/v1/publish", publish.as_str()),
        ("GET", "/v1/events?topic=room/a", ""),
        ("POST", "/v1/poll", &poll),
        ("GET", "/v1/stream/room/a", ""),
        ("POST", "/v1/tickets", ""),
    ];
    for (method, path, body) in ways {
        let own = ask(method, path, "https://app.example", body);
        assert!((200..300).contains(&own), "{path}: {own}");
        for stranger in
            ["https://evil.example", "http://app.example", "https://app.example.evil.example", "null"]
        {
            let status = ask(method, path, stranger, body);
            assert!(matches!(status, 401 | 403), "{path} from {stranger}: {status}");
        }
    }
    for way in ["/v1/ws", "/stomp", "/sockjs/websocket"] {
        let from = |origin: &str| knock(&broker, way, &[("cookie", &cookie), ("origin", origin)]);
        assert_eq!(from("https://app.example"), 101, "{way}");
        assert!(matches!(from("https://evil.example"), 401 | 403), "{way}");
    }
}
