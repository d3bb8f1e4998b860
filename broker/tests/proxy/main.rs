//! Nodes behind a real HAProxy: three behind the one that `deploy/` configures, with real Redis and Postgres; and one behind others, which
//! tell of their clients.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

#[path = "../support/sessions.rs"]
mod sessions;
#[path = "../support/mod.rs"]
mod support;

mod selftest;
mod sockjs;
mod source;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Instant;

use bongsu_client::{Client, Item, Start};
use bongsu_testkit::{Postgres, Process, Redis};
use support::{Broker, PATIENCE, get};

/// Starts HAProxy on a free port with the configuration of `deploy/`, in which only addresses are others.
fn proxy(nodes: &[Broker]) -> Process {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/haproxy.cfg");
    let mut text = std::fs::read_to_string(path).expect("it is there");
    let mut replace = |from: &str, to: &str| {
        assert!(text.contains(from), "no {from:?} in {text}");
        text = text.replacen(from, to, 1);
    };
    for (place, node) in nodes.iter().enumerate() {
        let name = format!("node-{}", place + 1);
        let admin = node.admin.expect("each has one").port();
        let server = format!("server {name} {} port {admin}", node.address);
        replace(&format!("server {name} {name}:8080"), &server);
    }
    // The kernel's answer would also bring in what listens on every address.
    replace("bind :8080", "bind 127.0.0.1:PORT");
    Process::launch("haproxy", "Using epoll", move |directory, port| {
        let file = directory.join("haproxy.cfg");
        std::fs::write(&file, text.replace("PORT", &port.to_string())).expect("it is written");
        ["haproxy".into(), "-db".into(), "-V".into(), "-f".into(), file.into_os_string()].into()
    })
}

/// Which nodes answer at the proxy, by asking as often as there are and once more.
async fn reached(proxy: SocketAddr) -> BTreeSet<String> {
    let mut reached = BTreeSet::new();
    for _ in 0..4 {
        let answer = get(proxy, "/readyz").await;
        let name = answer.split_once("\"node\":\"").and_then(|(_, rest)| rest.split_once('"'));
        reached.extend(name.map(|(name, _)| name.to_owned()));
    }
    reached
}

async fn wait_until_reached(proxy: SocketAddr, expected: &[&str]) {
    let begun = Instant::now();
    loop {
        let reached = reached(proxy).await;
        if reached.iter().eq(expected) {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{reached:?} and not {expected:?}");
    }
}

/// Three nodes behind the proxy.
struct Cluster {
    nodes: [Broker; 3],
    /// Where the proxy is.
    address: SocketAddr,
    _proxy: Process,
    _redis: Redis,
    _data: tempfile::TempDir,
}

impl Cluster {
    async fn start(others: &[&str]) -> Self {
        let (redis, database) = (Redis::start(), Postgres::shared().database());
        let data = tempfile::tempdir().expect("a folder");
        let start = |name: &str| {
            let name = format!("node.name={name}");
            let (redis, postgres) =
                (format!("redis.url={}", redis.url()), format!("postgres.url={database}"));
            let admin = "admin.listen=127.0.0.1:0";
            Broker::start(data.path(), &[&[name.as_str(), &redis, &postgres, admin], others].concat())
        };
        let nodes = ["node-1", "node-2", "node-3"].map(start);
        let proxy = proxy(&nodes);
        let address = SocketAddr::from(([127, 0, 0, 1], proxy.port()));
        // It says that it serves before it listens.
        let begun = Instant::now();
        while let Err(error) = tokio::net::TcpStream::connect(address).await {
            assert!(begun.elapsed() < PATIENCE, "{error}");
        }
        wait_until_reached(address, &["node-1", "node-2", "node-3"]).await;
        Self { nodes, address, _proxy: proxy, _redis: redis, _data: data }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_the_round_robin_proxy_miss_nothing_while_nodes_come_and_go() {
    let Cluster { mut nodes, address, _proxy, _redis, _data } = Cluster::start(&["drain.spread=0s"]).await;
    let metrics = get(address, "/metrics").await;
    assert!(metrics.starts_with("HTTP/1.1 404 "), "{metrics}");

    let url = format!("ws://{address}/v1/ws");
    let publisher = Client::connect(url.clone()).await.expect("the proxy takes connections");
    let mut readers = Vec::new();
    for _ in 0..3 {
        let client = Client::connect(url.clone()).await.expect("the proxy takes connections");
        let reader = client.subscribe("orders/1").from(Start::Earliest).await.expect("a subscription");
        readers.push((client, reader));
    }
    let mut n_published = 0;
    for round in 0..3 {
        for _ in 0..20 {
            n_published += 1;
            publisher
                .publish("orders/1", n_published.to_string())
                .await
                .expect("it is stored, if not at once");
            if n_published % 20 == 10 {
                // One goes as if by a power cut, one as told, and then there is one.
                match round {
                    0 => nodes[0].kill(),
                    1 => assert!(nodes[1].terminate().success()),
                    _ => wait_until_reached(address, &["node-3"]).await,
                }
            }
        }
    }
    for (_, reader) in &mut readers {
        for expected in 1..=n_published {
            let item = tokio::time::timeout(PATIENCE, reader.next()).await.expect("it comes in time");
            let Some(Item::Message(delivery)) = item else { panic!("{item:?} and not message {expected}") };
            assert_eq!(delivery.message.payload, expected.to_string().as_bytes());
        }
    }
}
