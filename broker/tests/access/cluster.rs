//! One user with many connections over three nodes, taken back at one of them.

use std::time::Instant;

use bongsu_testkit::{Postgres, Redis};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite;

use crate::support::http::ask;
use crate::support::raw::Raw;
use crate::support::{Broker, Client, PATIENCE};
use crate::world::{Token, flags};

/// Connections of one user.
const CONNECTIONS: usize = 1000;

struct Cluster {
    nodes: Vec<Broker>,
    _redis: Redis,
    _postgres: Postgres,
    _data: tempfile::TempDir,
}

impl Cluster {
    fn start() -> Self {
        let (redis, postgres) = (Redis::start(), Postgres::start());
        let data = tempfile::tempdir().unwrap();
        let settings = [
            format!("redis.url={}", redis.url()),
            format!("postgres.url={}", postgres.url()),
            flags(&[Token::all("ada", &["#"]), Token::all("bob", &["#"])]),
            "admin.listen=127.0.0.1:0".to_owned(),
        ];
        let node = |n: usize| {
            let name = format!("node.name=node-{n}");
            let settings: Vec<&str> = settings.iter().chain([&name]).map(String::as_str).collect();
            Broker::start(data.path(), &settings)
        };
        let nodes = (0..3).map(node).collect();
        Self { nodes, _redis: redis, _postgres: postgres, _data: data }
    }

    /// Connections of a user, as many on each node.
    async fn connect(&self, user: &str, n_connections: usize) -> Vec<(usize, Raw)> {
        let header = format!("authorization: Bearer {user}\r\n");
        let mut connections = Vec::new();
        for n in 0..n_connections {
            let node = n % self.nodes.len();
            connections.push((node, Raw::connect(self.nodes[node].address, &header).await));
        }
        connections
    }

    fn signal(&self, node: usize, signal: &str) {
        let pid = self.nodes[node].pid().to_string();
        let done = std::process::Command::new("kill").args([signal, &pid]).status().unwrap();
        assert!(done.success());
    }

    /// The status of a user's handshake.
    async fn status_of(&self, node: usize, user: &str) -> u16 {
        let bearer = format!("Bearer {user}");
        let connected =
            Client::connect_with(self.nodes[node].address, None, &[("authorization", &bearer)]).await;
        match connected {
            Ok(_) => 101,
            Err(tungstenite::Error::Http(answer)) => answer.status().as_u16(),
            Err(error) => panic!("{error}"),
        }
    }
}

/// Reads connections to their ends, at once; when the last one was.
async fn ended(connections: Vec<(usize, Raw)>, code: u16) -> Instant {
    let mut ends = JoinSet::new();
    for (_, mut connection) in connections {
        ends.spawn(async move {
            let end = connection.end().await;
            (end, Instant::now())
        });
    }
    let mut last = Instant::now();
    while let Some(end) = tokio::time::timeout(PATIENCE, ends.join_next()).await.expect("all end") {
        let (end, at) = end.unwrap();
        assert_eq!(end.code, code, "{end:?}");
        assert!(end.goodbye.is_some(), "{end:?}");
        last = last.max(at);
    }
    last
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::print_stdout, reason = "docs/benchmarks/access.md shows it")]
async fn a_thousand_connections_of_a_user_end_on_three_nodes_and_none_returns() {
    let cluster = Cluster::start();
    let admin = cluster.nodes[0].admin.unwrap();
    let headers = [("content-type", "application/json")];
    let bob = cluster.connect("bob", 3).await;
    for round in ["warm", "measured"] {
        let ada = cluster.connect("ada", CONNECTIONS).await;
        let asked = Instant::now();
        let ending = tokio::spawn(ended(ada, 4403));
        let put = tokio::task::spawn_blocking(move || {
            ask(admin, "PUT", "/v1/blocks/ada", &headers, r#"{"reason":"spam"}"#)
        });
        let answer = put.await.unwrap();
        let answered = asked.elapsed();
        assert_eq!(answer.status, 200, "{answer:?}");
        let last = ending.await.unwrap();
        for node in 0..3 {
            assert_eq!(cluster.status_of(node, "ada").await, 403, "node {node}");
        }
        println!(
            "{round}: {CONNECTIONS} connections over 3 nodes: answered after {answered:?}, the last one closed after {:?}",
            last - asked
        );
        assert_eq!(ask(admin, "DELETE", "/v1/blocks/ada", &headers, "").status, 204);
        for node in 0..3 {
            let waited = async { while cluster.status_of(node, "ada").await != 101 {} };
            tokio::time::timeout(PATIENCE, waited).await.expect("whoever is let in again comes in");
        }
    }
    assert_eq!(bob.len(), 3);
    for (node, mut connection) in bob {
        let ping = crate::support::raw::frame(crate::support::raw::TEXT, br#"{"id":1,"ping":{}}"#);
        assert!(connection.send(&ping).await);
        let pong = connection.event().await.unwrap_or_else(|end| panic!("node {node}: {end:?}"));
        assert!(pong["reply"].get("pong").is_some(), "{pong}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::print_stdout, reason = "docs/benchmarks/access.md shows it")]
async fn a_node_that_stood_still_catches_up_when_it_goes_on() {
    const FEW: usize = 30;
    let cluster = Cluster::start();
    let ada = cluster.connect("ada", FEW).await;
    let (frozen, others): (Vec<_>, Vec<_>) = ada.into_iter().partition(|(node, _)| *node == 2);
    cluster.signal(2, "-STOP");
    let admin = cluster.nodes[0].admin.unwrap();
    let headers = [("content-type", "application/json")];
    let body = r#"{"subject":"ada","reason":"new password"}"#;
    let revoke = move || ask(admin, "POST", "/v1/revocations", &headers, body);
    let answer = tokio::task::spawn_blocking(revoke).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    ended(others, 4401).await;
    for node in 0..2 {
        assert_eq!(cluster.status_of(node, "ada").await, 401, "node {node}");
    }
    cluster.signal(2, "-CONT");
    let went_on = Instant::now();
    let last = ended(frozen, 4401).await;
    println!("the node that stood still ended its {} after {:?}", FEW / 3, last - went_on);
    assert_eq!(cluster.status_of(2, "ada").await, 401);
}
