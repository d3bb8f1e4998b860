//! Connections of plain HTTP: what a full node says to those it has no place for, and what a poll costs while it waits.
#![expect(clippy::unwrap_used, reason = "a test fails where one does")]

mod support;

use serde_json::{Value, json};
use support::{Broker, PATIENCE, exchange};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const ORIGIN: &str = "https://app.example";

/// A connection that is used for several requests.
struct Kept {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Kept {
    async fn open(broker: &Broker) -> Self {
        Self { stream: TcpStream::connect(broker.address).await.unwrap(), read: Vec::new() }
    }

    async fn send(&mut self, request: &str) {
        self.stream.write_all(request.as_bytes()).await.unwrap();
    }

    async fn ask(&mut self, path: &str) {
        self.send(&format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n")).await;
    }

    /// The next answer: its head in lower case, and its body.
    async fn answer(&mut self) -> (String, String) {
        let end = loop {
            if let Some(end) = self.read.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            assert!(self.receive().await > 0, "closed after {:?}", String::from_utf8_lossy(&self.read));
        };
        let head = String::from_utf8(self.read.drain(..end).collect()).unwrap().to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length = length.map_or(0, |length| length.parse().unwrap());
        while self.read.len() < length {
            assert!(self.receive().await > 0, "closed {} bytes too early", length - self.read.len());
        }
        (head, String::from_utf8(self.read.drain(..length).collect()).unwrap())
    }

    async fn receive(&mut self) -> usize {
        let read = self.stream.read_buf(&mut self.read);
        tokio::time::timeout(PATIENCE, read).await.expect("in time").unwrap()
    }
}

async fn publish(broker: &Broker, topic: &str, data: &Value) {
    let body = json!({ "topic": topic, "data": data }).to_string();
    let request = format!(
        "POST /v1/publish HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = exchange(broker.address, request.as_bytes()).await;
    assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer));
}

/// What a node answers to a request on a connection of its own, in lower case.
async fn ask(broker: &Broker, method: &str, path: &str, headers: &str) -> String {
    let request = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n");
    String::from_utf8_lossy(&exchange(broker.address, request.as_bytes()).await).to_lowercase()
}

#[tokio::test(flavor = "multi_thread")]
async fn sse_5_a_full_node_tells_each_client_to_come_back_in_its_own_words() {
    let data = tempfile::tempdir().unwrap();
    let settings = ["limits.connections=1", "http.allowed_origins=[\"https://app.example\"]"];
    let broker = Broker::start(data.path(), &settings);
    let client = broker.connect().await;

    let origin = format!("accept: text/event-stream\r\norigin: {ORIGIN}\r\n");
    let told = ask(&broker, "GET", "/v1/events?topic=a", &origin).await;
    assert!(told.starts_with("http/1.1 200 "), "{told}");
    for expected in [
        "\r\ncontent-type: text/event-stream\r\n",
        "\r\nconnection: close\r\n",
        "\r\naccess-control-allow-origin: https://app.example\r\n",
        "event: goodbye\n",
    ] {
        assert!(told.contains(expected), "no {expected:?} in {told}");
    }
    let retry: u64 = told.lines().find_map(|line| line.strip_prefix("retry: ")).unwrap().parse().unwrap();
    assert!((5000..=10_000).contains(&retry), "{retry}");

    let stranger = "accept: text/event-stream\r\norigin: https://evil.example\r\n";
    assert!(ask(&broker, "GET", "/v1/events?topic=a", stranger).await.starts_with("http/1.1 403 "));
    let websocket = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                     sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for (method, path, headers) in [
        ("GET", "/v1/ws", websocket),
        ("GET", "/v1/stream/a?offset=-1", ""),
        ("POST", "/v1/publish", "content-length: 0\r\n"),
        ("GET", "/readyz", ""),
    ] {
        let refused = ask(&broker, method, path, headers).await;
        assert!(refused.starts_with("http/1.1 503 "), "{path}: {refused}");
        assert!(refused.contains("\r\nretry-after: 1\r\n"), "{refused}");
        assert!(refused.contains("\"code\":\"unavailable\""), "{refused}");
    }
    for path in ["/livez", "/healthz"] {
        let alive = ask(&broker, "GET", path, "").await;
        assert!(alive.starts_with("http/1.1 200 "), "it would be restarted otherwise: {alive}");
    }

    drop(client);
    // Once the place is free, the same request is let in.
    let begun = std::time::Instant::now();
    loop {
        let mut events = Kept::open(&broker).await;
        events.send(&format!("GET /v1/events?topic=a HTTP/1.1\r\nhost: localhost\r\n{origin}\r\n")).await;
        if events.answer().await.0.contains("\r\ntransfer-encoding: chunked\r\n") {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "no place became free");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn those_for_whom_there_is_not_even_an_answer_are_closed_without_a_byte() {
    let data = tempfile::tempdir().unwrap();
    let broker = Broker::start(data.path(), &["limits.connections=1"]);
    let _client = broker.connect().await;
    let begun = std::time::Instant::now();
    let mut silent = Vec::new();
    loop {
        // They say nothing, and so keep what answers them.
        while silent.len() < bongsu::limits::TURNED_AWAY_AT_ONCE_MAX {
            silent.push(TcpStream::connect(broker.address).await.unwrap());
        }
        let answer = ask(&broker, "GET", "/v1/events?topic=a", "accept: text/event-stream\r\n").await;
        if answer.is_empty() {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{answer}");
        silent.clear();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lp_8_a_connection_goes_on_after_a_poll_that_waited() {
    let data = tempfile::tempdir().unwrap();
    let broker = Broker::start(data.path(), &["http.long_poll_timeout=10m"]);
    publish(&broker, "p", &json!(1)).await;
    let mut kept = Kept::open(&broker).await;
    for n in 1..3 {
        // The second request is sent before the first has its answer.
        kept.ask("/v1/stream/p?offset=now&live=long-poll").await;
        broker.counted("bongsu_polls_begun_total ", n).await;
        kept.ask("/healthz").await;
        publish(&broker, "p", &json!({ "n": n })).await;
        let (head, body) = kept.answer().await;
        assert!(head.starts_with("http/1.1 200 ok\r\n") && head.contains("\r\ndate: "), "{head}");
        assert!(head.contains("\r\nstream-next-offset: ") && !head.contains("connection: close"), "{head}");
        assert_eq!(body, format!("[{{\"n\":{n}}}]"));
        assert_eq!(kept.answer().await.1, "ok\n");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poll_that_was_the_last_request_closes_its_connection() {
    let data = tempfile::tempdir().unwrap();
    let broker = Broker::start(data.path(), &["http.long_poll_timeout=10m"]);
    publish(&broker, "p", &json!(1)).await;
    let path = "/v1/stream/p?offset=now&live=long-poll";
    for (n, rest) in
        [(1, "HTTP/1.1\r\nhost: localhost\r\nconnection: close"), (2, "HTTP/1.0\r\nhost: localhost")]
    {
        let mut kept = Kept::open(&broker).await;
        kept.send(&format!("GET {path} {rest}\r\n\r\n")).await;
        broker.counted("bongsu_polls_begun_total ", n).await;
        publish(&broker, "p", &json!(2)).await;
        let (head, body) = kept.answer().await;
        assert!(head.contains(" 200 ok\r\n"), "{head}");
        assert_eq!(body, "[2]");
        assert_eq!(kept.receive().await, 0, "it is closed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_gives_up_its_poll_gives_up_its_place() {
    let data = tempfile::tempdir().unwrap();
    let broker = Broker::start(data.path(), &["http.long_poll_timeout=10m"]);
    publish(&broker, "p", &json!(1)).await;
    let mut kept = Kept::open(&broker).await;
    kept.ask("/v1/stream/p?offset=now&live=long-poll").await;
    broker.counted("bongsu_polls_begun_total ", 1).await;
    drop(kept);
    broker.counted("bongsu_polls_ended_total ", 1).await;
}
