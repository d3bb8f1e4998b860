//! SockJS through the round-robin proxy, each request to another node. SJ-44.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::Cluster;
use super::support::{Broker, PATIENCE, exchange};

/// Tells sessions of this process apart.
static SESSIONS: AtomicU64 = AtomicU64::new(0);

/// A session over `xhr` and `xhr_send`, whose requests come each on a connection of its own.
struct Session {
    proxy: SocketAddr,
    name: String,
    /// The node that has it.
    node: String,
    n_asked: u64,
}

/// What a poll brought.
#[derive(Debug, PartialEq)]
enum Frame {
    Open,
    Heartbeat,
    Events(Vec<Value>),
    Close(u64, String),
}

impl Frame {
    fn parse(line: &str) -> Self {
        let line = line.trim_end();
        match line.split_at_checked(1) {
            Some(("o", "")) => Self::Open,
            Some(("h", "")) => Self::Heartbeat,
            Some(("a", rest)) => {
                let texts: Vec<String> = serde_json::from_str(rest).expect("strings");
                let parse = |text: &String| serde_json::from_str::<Value>(text).expect("JSON");
                let flatten = |value| match value {
                    Value::Array(events) => events,
                    event => vec![event],
                };
                Self::Events(texts.iter().map(parse).flat_map(flatten).collect())
            }
            Some(("c", rest)) => {
                let (code, reason) = serde_json::from_str(rest).expect("a code and a reason");
                Self::Close(code, reason)
            }
            _ => panic!("{line:?} is no frame"),
        }
    }
}

impl Session {
    /// Opens one as clients do: where Redis does not say in time whose a session is, it may begin on two nodes, and they try another.
    async fn open(proxy: SocketAddr) -> Self {
        let begun = Instant::now();
        loop {
            let number = SESSIONS.fetch_add(1, Ordering::Relaxed);
            let name = format!("s{}x{number}", std::process::id());
            let session = Self { proxy, name, node: String::new(), n_asked: 0 };
            assert_eq!(session.poll().await, Frame::Open);
            match session.poll().await {
                Frame::Events(events) => {
                    let node = events[0]["welcome"]["node"].as_str().expect("it names the node");
                    return Self { node: node.to_owned(), ..session };
                }
                frame => assert!(begun.elapsed() < PATIENCE, "{frame:?} is no welcome"),
            }
        }
    }

    async fn post(&self, path: &str, body: &str) -> (u16, String) {
        let Self { proxy, name, .. } = self;
        let request = format!(
            "POST /sockjs/000/{name}/{path} HTTP/1.1\r\nhost: {proxy}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let answer = String::from_utf8(exchange(*proxy, request.as_bytes()).await).expect("text");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer:?} is no answer"));
        let is_chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
        let body = if is_chunked { whole(body) } else { body.to_owned() };
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        (status, body)
    }

    async fn poll(&self) -> Frame {
        let (status, body) = self.post("xhr", "").await;
        assert_eq!(status, 200, "{body}");
        Frame::parse(&body)
    }

    /// Sends a request; its reply comes with a poll.
    async fn begin(&mut self, command: &str, body: Value) -> (u16, u64) {
        self.n_asked += 1;
        let request = json!({ "id": self.n_asked, command: body }).to_string();
        let (status, _) = self.post("xhr_send", &json!([request]).to_string()).await;
        (status, self.n_asked)
    }

    async fn subscribe(&mut self, from: &Value) {
        let body = json!({ "subscriptions": [{ "filter": "orders/1", "from": from }] });
        let (status, _) = self.begin("subscribe", body).await;
        assert_eq!(status, 204);
    }

    /// Polls until as many messages came, and says what they are and where the last one is; or how the session ended before.
    async fn read(&self, n_messages: usize) -> Result<(Vec<Value>, Value), (u64, String)> {
        let (mut messages, mut position) = (Vec::new(), Value::Null);
        let begun = Instant::now();
        while messages.len() < n_messages {
            assert!(begun.elapsed() < PATIENCE, "only {messages:?} came");
            match self.poll().await {
                Frame::Open => panic!("a client takes a second open frame for a lost session"),
                Frame::Heartbeat => {}
                Frame::Close(code, reason) => return Err((code, reason)),
                Frame::Events(events) => {
                    for delivery in events.iter().filter_map(|event| event.get("delivery")) {
                        messages.push(delivery["data"].clone());
                        position = json!({ "epoch": delivery["epoch"], "offset": delivery["offset"] });
                    }
                }
            }
        }
        Ok((messages, position))
    }

    /// Polls until the session has ended.
    async fn end(&self) -> (u64, String) {
        self.read(usize::MAX).await.expect_err("it ends")
    }
}

/// What chunks are made of.
fn whole(chunks: &str) -> String {
    let (mut rest, mut whole) = (chunks, String::new());
    while let Some((length, chunk)) = rest.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16).expect("a length");
        whole.push_str(&chunk[..length]);
        rest = chunk[length..].trim_start_matches("\r\n");
    }
    whole
}

async fn publish(proxy: SocketAddr, data: u64) {
    let body = json!({ "topic": "orders/1", "data": data }).to_string();
    let request = format!(
        "POST /v1/publish HTTP/1.1\r\nhost: {proxy}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let begun = Instant::now();
    loop {
        let answer = exchange(proxy, request.as_bytes()).await;
        if answer.starts_with(b"HTTP/1.1 200 ") {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{}", String::from_utf8_lossy(&answer));
    }
}

async fn forwarded(nodes: &[Broker]) -> u64 {
    let mut sum = 0;
    for node in nodes {
        sum += node.counter("bongsu_requests_forwarded_total").await;
    }
    sum
}

/// Which of the nodes has this name.
fn place_of(name: &str) -> usize {
    ["node-1", "node-2", "node-3"].iter().position(|known| *known == name).expect("one of them")
}

fn numbers(range: std::ops::RangeInclusive<u64>) -> Vec<Value> {
    range.map(Value::from).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_a_session_go_to_any_node() {
    let cluster = Cluster::start(&[]).await;
    let mut sessions = Vec::new();
    for _ in 0..6 {
        let mut session = Session::open(cluster.address).await;
        session.subscribe(&json!("earliest")).await;
        sessions.push(session);
    }
    for number in 1..=12 {
        // Each in its turn, by a request of its own.
        let publisher = &mut sessions[number as usize % 6];
        let body = json!({ "messages": [{ "topic": "orders/1", "data": number }] });
        assert_eq!(publisher.begin("publish", body).await.0, 204);
        // Its order is that of the log once it is acknowledged.
        while publisher.read(1).await.expect("it goes on").0.last() != Some(&Value::from(number)) {}
        for (place, session) in sessions.iter().enumerate() {
            if place != number as usize % 6 {
                assert_eq!(session.read(1).await.expect("it goes on").0, numbers(number..=number));
            }
        }
    }
    assert!(forwarded(&cluster.nodes).await > 0, "some came to another node");
    let unknown = Session { proxy: cluster.address, name: "nobody".into(), node: String::new(), n_asked: 0 };
    assert_eq!(unknown.post("xhr_send", "[\"x\"]").await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn session_of_a_node_that_is_killed_is_lost_and_its_client_resumes() {
    let mut cluster = Cluster::start(&["cluster.lease=3s"]).await;
    let address = cluster.address;
    let mut session = Session::open(address).await;
    session.subscribe(&json!("earliest")).await;
    for number in 1..=5 {
        publish(address, number).await;
    }
    let (mut got, position) = session.read(5).await.expect("it lives");
    cluster.nodes[place_of(&session.node)].kill();
    for number in 6..=8 {
        publish(address, number).await;
    }
    // A request that the proxy sends to the dead node gets the proxy's own answer, as with any node that dies.
    let end = loop {
        let (status, body) = session.post("xhr", "").await;
        match status {
            200 => break Frame::parse(&body),
            502..=504 => {}
            _ => panic!("{status} {body}"),
        }
    };
    assert_eq!(end, Frame::Close(1002, "Connection interrupted".to_owned()));
    let mut again = Session::open(address).await;
    again.subscribe(&json!({ "after": position })).await;
    got.extend(again.read(3).await.expect("it lives").0);
    assert_eq!(got, numbers(1..=8), "nothing is missing or doubled");
}

#[tokio::test(flavor = "multi_thread")]
async fn session_of_a_node_that_drains_is_told_so_through_other_nodes() {
    let mut cluster = Cluster::start(&["drain.spread=1s"]).await;
    let address = cluster.address;
    let mut session = Session::open(address).await;
    session.subscribe(&json!("earliest")).await;
    publish(address, 1).await;
    let (mut got, position) = session.read(1).await.expect("it lives");
    let owner = place_of(&session.node);
    // Its poll waits at one of the others, or at the node itself.
    let other = Session { proxy: cluster.nodes[(owner + 1) % 3].address, ..session };
    let ending = tokio::spawn(async move { other.end().await });
    let status = tokio::task::block_in_place(|| cluster.nodes[owner].terminate());
    let end = ending.await.expect("it polls");
    assert!(status.success(), "it drains in time");
    // A client that comes back only when the node has ended hears of the end alone.
    assert!(matches!(end.0, 1012 | 1002), "{end:?}");
    publish(address, 2).await;
    let mut again = Session::open(address).await;
    again.subscribe(&json!({ "after": position })).await;
    got.extend(again.read(1).await.expect("it lives").0);
    assert_eq!(got, numbers(1..=2));
}

#[tokio::test(flavor = "multi_thread")]
async fn session_goes_on_when_the_node_in_between_drains() {
    let mut cluster = Cluster::start(&["drain.spread=1s"]).await;
    let address = cluster.address;
    let mut session = Session::open(address).await;
    session.subscribe(&json!("earliest")).await;
    let between = (place_of(&session.node) + 1) % 3;
    publish(address, 1).await;
    assert_eq!(session.read(1).await.expect("it lives").0, numbers(1..=1));

    let near = cluster.nodes[between].address;
    let mut stream = TcpStream::connect(near).await.expect("it takes connections");
    let request = format!(
        "POST /sockjs/000/{}/xhr_streaming HTTP/1.1\r\nhost: {near}\r\ncontent-length: 0\r\n\r\n",
        session.name
    );
    stream.write_all(request.as_bytes()).await.expect("it reads");
    publish(address, 2).await;
    let (mut taken, begun) = (Vec::new(), Instant::now());
    while !String::from_utf8_lossy(&taken).contains("orders/1") {
        assert!(begun.elapsed() < PATIENCE);
        assert_ne!(stream.read_buf(&mut taken).await.expect("it streams"), 0, "it ended");
    }
    let status = tokio::task::block_in_place(|| cluster.nodes[between].terminate());
    assert!(status.success(), "nothing holds it up");
    stream.read_to_end(&mut taken).await.expect("the answer is complete");
    let taken = String::from_utf8(taken).expect("text");
    assert!(taken.ends_with("h\n\r\n0\r\n\r\n"), "{taken:?}");
    publish(address, 3).await;
    assert_eq!(session.read(1).await.expect("the session was kept").0, numbers(3..=3));
}
