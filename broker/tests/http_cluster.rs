//! Plain HTTP on three nodes over a real Redis and Postgres: no request needs the node that answered the one before.

mod support;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use bongsu_testkit::{Postgres, Redis};
use serde_json::{Value, json};
use support::Broker;
use support::http::{Exchange, ask, get, publish};

const SSE: (&str, &str) = ("accept", "text/event-stream");
const JSON: (&str, &str) = ("content-type", "application/json");

/// Three nodes, of which each request meets another.
struct Cluster {
    nodes: Vec<Broker>,
    next: AtomicUsize,
    _redis: Redis,
    _postgres: Postgres,
    _data: tempfile::TempDir,
}

impl Cluster {
    fn start() -> Self {
        let (redis, postgres) = (Redis::start(), Postgres::start());
        let data = tempfile::tempdir().expect("a folder");
        let settings = [
            format!("redis.url={}", redis.url()),
            format!("postgres.url={}", postgres.url()),
            "http.long_poll_timeout=10m".to_owned(),
        ];
        let node = |n: usize| {
            let name = format!("node.name=node-{n}");
            let settings: Vec<&str> = settings.iter().chain([&name]).map(String::as_str).collect();
            Broker::start(data.path(), &settings)
        };
        let nodes = (0..3).map(node).collect();
        Self { nodes, next: AtomicUsize::new(0), _redis: redis, _postgres: postgres, _data: data }
    }

    /// The node for the next request, of all but one.
    fn any_but(&self, left_out: Option<usize>) -> SocketAddr {
        let alive: Vec<_> = (0..self.nodes.len()).filter(|n| Some(*n) != left_out).collect();
        self.nodes[alive[self.next.fetch_add(1, Ordering::Relaxed) % alive.len()]].address
    }

    fn any(&self) -> SocketAddr {
        self.any_but(None)
    }
}

/// What a browser makes of an event stream: an event counts once its empty line is there, and its id with it.
struct Source {
    exchange: Exchange,
    id: String,
}

impl Source {
    fn open(address: SocketAddr, path: &str, id: &str) -> Self {
        let resumed = [SSE, ("last-event-id", id)];
        let headers = if id.is_empty() { &resumed[..1] } else { &resumed };
        let exchange = Exchange::begin(address, "GET", path, headers, "");
        assert_eq!(exchange.status, 200);
        Self { exchange, id: id.to_owned() }
    }

    /// Takes one event, or nothing but an id; `None` at the end.
    fn next(&mut self) -> Option<Option<u64>> {
        let (mut id, mut number) = (None, None);
        loop {
            let line = self.exchange.line()?;
            match line.split_once(": ") {
                None if line.is_empty() => break,
                Some(("id", text)) => id = Some(text.to_owned()),
                Some(("data", text)) => {
                    let event: Value = serde_json::from_str(text).expect("JSON");
                    let data = event.get("delivery").map_or(&event, |delivery| &delivery["data"]);
                    number = data.as_u64();
                }
                _ => {}
            }
        }
        self.id = id.unwrap_or_else(|| self.id.clone());
        Some(number)
    }
}

#[test]
fn sse_4_an_event_source_goes_on_at_another_node_after_a_kill_without_a_gap_or_a_double() {
    const MESSAGES: u64 = 300;
    let mut cluster = Cluster::start();
    for path in ["/v1/events?topic=one", "/v1/events?topic=one&topic=two/%23"] {
        let victim = cluster.nodes.len() - 1;
        let mut source = Source::open(cluster.nodes[victim].address, path, "");
        while source.id.is_empty() {
            source.next().expect("it says where it begins");
        }
        let mut got = Vec::new();
        std::thread::scope(|scope| {
            let cluster = &cluster;
            let publishing = scope.spawn(|| {
                for n in 0..MESSAGES {
                    publish(cluster.any_but(Some(victim)), "one", &json!(n));
                }
            });
            while got.len() < 50 {
                got.extend(source.next().expect("more"));
            }
            let pid = cluster.nodes[victim].pid().to_string();
            let killed = std::process::Command::new("kill").args(["-9", &pid]).status().expect("kill runs");
            assert!(killed.success());
            // What was under way is there, or is not.
            while let Some(number) = source.next() {
                got.extend(number);
            }
            let mut source = Source::open(cluster.any_but(Some(victim)), path, &source.id);
            while got.len() < usize::try_from(MESSAGES).expect("few") {
                got.extend(source.next().expect("more"));
            }
            publishing.join().expect("it publishes");
        });
        assert_eq!(got, (0..MESSAGES).collect::<Vec<_>>(), "{path}");
        cluster.nodes.pop();
    }
}

#[test]
fn lp_3_a_poll_is_woken_by_a_publish_on_another_node() {
    let cluster = Cluster::start();
    let at = cluster.nodes[0].address;
    publish(cluster.nodes[1].address, "p", &json!(0));
    let known = get(at, "/v1/stream/p");
    let offset = known.header("stream-next-offset");
    let path = format!("/v1/stream/p?offset={offset}&live=long-poll");
    let stream = std::thread::spawn(move || get(at, &path));
    let several = std::thread::spawn(move || {
        let body = json!({ "topics": { "p": "now", "q": "now" }, "wait_ms": 600_000 }).to_string();
        ask(at, "POST", "/v1/poll", &[], &body)
    });
    while !get(at, "/metrics").body.contains("\nbongsu_polls_begun_total 2\n") {}
    publish(cluster.nodes[2].address, "p", &json!(1));
    assert_eq!(stream.join().expect("it ends").body, "[1]");
    let several: Value = serde_json::from_str(&several.join().expect("it ends").body).expect("JSON");
    assert_eq!(several["events"][0]["delivery"]["data"], 1);
}

#[test]
fn lp_6_appends_that_are_tried_again_at_another_node_are_made_once() {
    let cluster = Cluster::start();
    assert_eq!(ask(cluster.any(), "PUT", "/v1/stream/s", &[JSON], "").status, 201);
    std::thread::scope(|scope| {
        for writer in 0..3 {
            let cluster = &cluster;
            scope.spawn(move || {
                for n in 0..8 {
                    let key = format!("{writer}-{n}");
                    let body = json!([[writer, n, 0], [writer, n, 1], [writer, n, 2]]).to_string();
                    for _ in 0..2 {
                        let headers = [JSON, ("idempotency-key", key.as_str())];
                        let answer = ask(cluster.any(), "POST", "/v1/stream/s", &headers, &body);
                        assert_eq!(answer.status, 204, "{answer:?}");
                    }
                }
            });
        }
    });
    for node in &cluster.nodes {
        let all: Vec<[u64; 3]> = serde_json::from_str(&get(node.address, "/v1/stream/s").body).expect("JSON");
        assert_eq!(all.len(), 3 * 8 * 3);
        for writer in 0..3 {
            let own: Vec<_> = all.iter().filter(|[by, ..]| *by == writer).copied().collect();
            let expected: Vec<_> = (0..8).flat_map(|n| (0..3).map(move |part| [writer, n, part])).collect();
            assert_eq!(own, expected, "each once, in the order of its writer");
        }
    }
}

#[test]
fn lp_6_idempotent_producers_are_known_on_every_node() {
    let cluster = Cluster::start();
    assert_eq!(ask(cluster.any(), "PUT", "/v1/stream/s", &[JSON], "").status, 201);
    for seq in 0..9 {
        let seq = seq.to_string();
        let headers = [JSON, ("producer-id", "p"), ("producer-epoch", "0"), ("producer-seq", &seq)];
        assert_eq!(ask(cluster.any(), "POST", "/v1/stream/s", &headers, &seq).status, 200, "{seq}");
        assert_eq!(ask(cluster.any(), "POST", "/v1/stream/s", &headers, &seq).status, 204, "{seq} again");
    }
    assert_eq!(get(cluster.any(), "/v1/stream/s").body, "[0,1,2,3,4,5,6,7,8]");
}
