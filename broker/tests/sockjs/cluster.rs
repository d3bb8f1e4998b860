//! Sessions behind a balancer that sends each request to another node, and what they need of Redis and Postgres: nothing to begin.

use std::sync::Arc;
use std::time::Duration;

use bongsu_persistence::memory::MemoryStore;
use bongsu_persistence::store::Store;
use bongsu_testkit::{Postgres, Redis};
use serde_json::{Value, json};

use super::nodes::TestNode;
use super::server::{Http, PATIENCE, post};
use super::support::Broker;

const LEASE: Duration = Duration::from_secs(3);

struct Cluster {
    nodes: Vec<TestNode>,
    n_asked: usize,
    /// Dropped after the nodes.
    _redis: Redis,
}

impl Cluster {
    /// Nodes that know of one another and can forward.
    async fn start(n_nodes: usize) -> Self {
        let (redis, store) = (Redis::start(), Arc::new(MemoryStore::default()) as Arc<dyn Store>);
        let start = |n: usize| TestNode::start(&format!("node-{n}"), &redis.url(), LEASE, &store);
        let nodes: Vec<TestNode> = (0..n_nodes).map(start).collect();
        for node in &nodes {
            node.registered().await;
        }
        Self { nodes, n_asked: 0, _redis: redis }
    }

    /// The next node's turn.
    fn next(&mut self) -> std::net::SocketAddr {
        self.n_asked += 1;
        self.nodes[self.n_asked % self.nodes.len()].address
    }

    async fn poll(&mut self) -> String {
        post(self.next(), "/sockjs/000/s/xhr", "").await.body
    }

    /// Sends, as soon as the nodes agree on a secret.
    async fn send(&mut self, request: &Value) {
        let body = json!([request.to_string()]).to_string();
        let begun = std::time::Instant::now();
        loop {
            let sent = post(self.next(), "/sockjs/000/s/xhr_send", &body).await;
            match sent.status {
                204 => return,
                503 => assert!(begun.elapsed() < PATIENCE, "{}", sent.body),
                status => panic!("{status} {}", sent.body),
            }
        }
    }
}

/// The events in a frame.
fn events(frame: &str) -> Vec<Value> {
    let Some(array) = frame.trim_end().strip_prefix('a') else { return Vec::new() };
    let texts: Vec<String> = serde_json::from_str(array).unwrap();
    texts.iter().map(|text| serde_json::from_str(text).unwrap()).collect()
}

// SJ-44
#[tokio::test(flavor = "multi_thread")]
async fn each_request_may_come_to_another_node() {
    const MESSAGES: u64 = 12;
    let mut cluster = Cluster::start(3).await;
    assert_eq!(cluster.poll().await, "o\n");
    let subscribe =
        json!({ "id": 1, "subscribe": { "subscriptions": [{ "filter": "t", "from": "latest" }] } });
    cluster.send(&subscribe).await;
    let mut waiting = std::collections::VecDeque::new();
    let mut heard = Vec::new();
    while !waiting.iter().any(|event: &Value| event.get("reply").is_some()) {
        waiting.extend(events(&cluster.poll().await));
    }
    for n in 0..MESSAGES {
        let publish = json!({ "id": n + 2, "publish": { "messages": [{ "topic": "t", "data": n }] } });
        cluster.send(&publish).await;
    }
    while heard.len() < MESSAGES as usize {
        let frame = cluster.poll().await;
        assert!(!frame.starts_with('o') && !frame.starts_with('c'), "{frame}");
        let data = events(&frame).into_iter().filter_map(|event| event["delivery"]["data"].as_u64());
        heard.extend(data);
    }
    assert_eq!(heard, (0..MESSAGES).collect::<Vec<_>>());
}

// SJ-40, SJ-44
#[tokio::test(flavor = "multi_thread")]
async fn a_session_has_one_receiving_request_on_all_nodes_together() {
    let mut cluster = Cluster::start(2).await;
    assert_eq!(cluster.poll().await, "o\n");
    // The second gets what was said until then; the third waits where nothing comes.
    assert!(cluster.poll().await.contains("welcome"));
    let mut waiting = Http::connect(cluster.next()).await;
    waiting.send(&waiting.request("1.1", "POST", "/sockjs/000/s/xhr", "", "")).await;
    let begun = std::time::Instant::now();
    let path = "/sockjs/000/s/xhr_streaming";
    while !post(cluster.next(), path, "").await.body.ends_with("c[2010,\"Another connection still open\"]\n")
    {
        assert!(begun.elapsed() < PATIENCE);
    }
}

// SJ-42, SJ-44
#[tokio::test(flavor = "multi_thread")]
async fn a_session_whose_node_died_is_told_so_by_every_other() {
    let mut cluster = Cluster::start(2).await;
    let owner = cluster.nodes.remove(0);
    assert_eq!(post(owner.address, "/sockjs/000/s/xhr", "").await.body, "o\n");
    let welcome = cluster.poll().await;
    assert!(welcome.contains("welcome"), "{welcome}");
    owner.kill().await;
    assert_eq!(cluster.poll().await, "c[1002,\"Connection interrupted\"]\n");
    let body = json!(["{}"]).to_string();
    assert_eq!(post(cluster.next(), "/sockjs/000/s/xhr_send", &body).await.status, 404);
    // The application opens another one.
    assert_eq!(post(cluster.next(), "/sockjs/000/another/xhr", "").await.body, "o\n");
}

// SJ-44, SJ-46
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_drains_gives_requests_of_other_nodes_sessions_back() {
    let mut cluster = Cluster::start(2).await;
    let owner = cluster.nodes[0].address;
    assert_eq!(post(owner, "/sockjs/000/s/xhr", "").await.body, "o\n");
    assert!(post(owner, "/sockjs/000/s/xhr", "").await.body.contains("welcome"));
    let other = cluster.nodes.remove(1);
    let mut stream = Http::connect(other.address).await;
    stream.send(&stream.request("1.1", "POST", "/sockjs/000/s/xhr_streaming", "", "")).await;
    stream.head().await;
    stream.chunk().await;
    let draining = tokio::spawn(other.drain());
    assert_eq!(stream.chunk().await, "h\n");
    assert_eq!(stream.chunk().await, "");
    draining.await.unwrap();
    cluster.send(&json!({ "id": 1, "publish": { "messages": [{ "topic": "t", "data": 1 }] } })).await;
    let frame = cluster.poll().await;
    assert!(frame.contains("reply"), "the session goes on: {frame}");
}

// SJ-10
#[tokio::test(flavor = "multi_thread")]
async fn a_session_begins_whatever_redis_and_postgres_do() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let folder = tempfile::tempdir().unwrap();
    let settings = [
        format!("redis.url={}", redis.url()),
        format!("postgres.url={}", postgres.url()),
        "http.allowed_origins=[\"*\"]".to_owned(),
    ];
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let broker = Broker::start(folder.path(), &settings);
    broker.connect().await.publish("t", json!("all is well")).await;
    redis.pause();
    postgres.pause();
    assert_eq!(post(broker.address, "/sockjs/000/poll/xhr", "").await.body, "o\n");
    for (method, path, prelude) in
        [("POST", "xhr_streaming", 2049), ("GET", "eventsource", 2), ("GET", "htmlfile?c=f", 1028)]
    {
        let mut stream = Http::connect(broker.address).await;
        stream
            .send(&stream.request("1.1", method, &format!("/sockjs/000/{}/{path}", &path[..4]), "", ""))
            .await;
        stream.head().await;
        assert_eq!(stream.chunk().await.len(), prelude, "{path}");
        assert!(stream.chunk().await.contains('o'), "{path}");
    }
    let url = format!("ws://{}/sockjs/000/s/websocket", broker.address);
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    let first = futures_util::StreamExt::next(&mut socket).await.unwrap().unwrap();
    assert_eq!(first.into_text().unwrap(), "o");
    redis.resume();
    postgres.resume();
}
