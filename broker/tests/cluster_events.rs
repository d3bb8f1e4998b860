//! What is told of sessions (SP-2) while nodes of a cluster on real Postgres and Redis die, stand still and lose each other: each
//! session begins once and ends once.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

#[path = "support/sessions.rs"]
mod sessions;
mod support;

use std::process::Command;

use bongsu_testkit::{Postgres, Redis};
use serde_json::json;

use sessions::{OPEN, Told};
use support::{Broker, Client, PATIENCE};

struct Cluster {
    redis: Redis,
    postgres: Postgres,
    data: tempfile::TempDir,
}

impl Cluster {
    fn start() -> Self {
        let (redis, postgres) = (Redis::start(), Postgres::start());
        Self { redis, postgres, data: tempfile::tempdir().unwrap() }
    }

    fn node(&self, name: &str) -> Broker {
        self.node_by(name, &self.redis.url())
    }

    /// A node that reaches Redis by this address. Leases of two seconds: short, so that tests are; long beside the pauses of a busy
    /// machine.
    fn node_by(&self, name: &str, redis: &str) -> Broker {
        let [name, redis, postgres] = [
            format!("node.name={name}"),
            format!("redis.url={redis}"),
            format!("postgres.url={}", self.postgres.url()),
        ];
        let own = [&*name, &redis, &postgres, "cluster.lease=2s", "postgres.connections=6"];
        Broker::start(self.data.path(), &[OPEN, &own].concat())
    }
}

/// Has a process stand still, or go on.
fn signal(broker: &Broker, name: &str) {
    let done = Command::new("kill").args([name, &broker.pid().to_string()]).status().unwrap();
    assert!(done.success());
}

/// Clients on a node, and their sessions.
async fn clients(broker: &Broker, told: &mut Told, n_clients: usize) -> (Vec<Client>, Vec<String>) {
    let n_before = told.open().len();
    let mut clients = Vec::new();
    for number in 0..n_clients {
        let mut client = broker.connect().await;
        client.subscribe(&format!("chat/{number}"), json!("latest")).await;
        clients.push(client);
    }
    let before = told.open();
    while told.open().len() < n_before + n_clients {
        told.next().await;
    }
    let sessions = told.open().into_iter().filter(|session| !before.contains(session)).collect();
    (clients, sessions)
}

#[tokio::test]
async fn sessions_of_a_node_that_is_killed_are_told_to_have_ended_once_by_the_others() {
    let cluster = Cluster::start();
    let (a, mut b, c) = (cluster.node("a"), cluster.node("b"), cluster.node("c"));
    let (mut told, mut elsewhere) = (Told::of(&a).await, Told::of(&c).await);
    told.until_begun(2).await;
    let (_lasting, lasting) = clients(&a, &mut told, 2).await;
    let (gone, sessions) = clients(&b, &mut told, 30).await;
    b.kill();
    drop(gone);
    told.until_ended(&sessions).await;
    elsewhere.until_ended(&sessions).await;
    // Another process of the same name, and a session that comes after everything.
    let b = cluster.node("b");
    let (_late, late) = clients(&b, &mut told, 1).await;
    elsewhere.until_begun(told.begun()).await;
    for told in [&told, &elsewhere] {
        told.check();
        for session in &sessions {
            assert_eq!(told.end_of(session)["reason"], "node_lost");
            assert_eq!(told.end_of(session)["node"], "b");
        }
        assert!(lasting.iter().chain(&late).all(|session| told.open().contains(session)));
    }
}

#[tokio::test]
async fn node_that_stood_still_and_was_declared_dead_ends_those_sessions_itself() {
    let cluster = Cluster::start();
    let (a, b) = (cluster.node("a"), cluster.node("b"));
    let mut told = Told::of(&a).await;
    told.until_begun(1).await;
    let (mut paused, sessions) = clients(&b, &mut told, 10).await;
    signal(&b, "-STOP");
    told.until_ended(&sessions).await;
    // What a client says meanwhile is never told: its session has ended.
    paused[0].begin("subscribe", json!({ "subscriptions": [{ "filter": "late", "from": "latest" }] })).await;
    signal(&b, "-CONT");
    for client in &mut paused {
        let (code, _) = tokio::time::timeout(PATIENCE, client.closed()).await.unwrap();
        assert_eq!(code, 1001, "going away: connect again");
    }
    // And whoever comes again is told of as anybody else.
    let (again, later) = clients(&b, &mut told, 3).await;
    drop(again);
    told.until_ended(&later).await;
    told.check();
    for session in &sessions {
        assert_eq!(told.end_of(session)["reason"], "node_lost");
    }
    for session in &later {
        assert_eq!(told.end_of(session)["reason"], "normal");
    }
}

#[tokio::test]
async fn nobody_is_declared_dead_while_redis_is_away() {
    let cluster = Cluster::start();
    let (a, b) = (cluster.node("a"), cluster.node("b"));
    let mut told = Told::of(&a).await;
    told.until_begun(1).await;
    let (mut lasting, sessions) = clients(&b, &mut told, 5).await;
    cluster.redis.pause();
    // Longer than any lease: what happens meanwhile is told, and nothing else.
    let begun = std::time::Instant::now();
    while begun.elapsed() < std::time::Duration::from_secs(8) {
        let (passing, ended) = clients(&b, &mut told, 1).await;
        drop(passing);
        told.until_ended(&ended).await;
    }
    cluster.redis.resume();
    let (_late, _) = clients(&b, &mut told, 1).await;
    for client in &mut lasting {
        let pong = client.ask("ping", json!({})).await;
        assert!(pong.get("pong").is_some(), "{pong}");
    }
    told.check();
    assert!(sessions.iter().all(|session| told.open().contains(session)));
    assert!(told.events.iter().all(|event| event["reason"] != "node_lost"));
    drop(a);
}

#[tokio::test]
async fn node_that_lost_only_redis_is_not_declared_dead() {
    let cluster = Cluster::start();
    let way = Way::to(&cluster.redis.url()).await;
    let (a, b) = (cluster.node("a"), cluster.node_by("b", &way.url));
    let mut told = Told::of(&a).await;
    told.until_begun(1).await;
    let (mut lasting, sessions) = clients(&b, &mut told, 3).await;
    b.counted("bongsu_cluster_registrations_total ", 1).await;
    way.cut();
    // The others take it for dead as far as they can see: its place among the members of topics is taken away.
    a.counted("bongsu_cluster_nodes_reaped_total ", 1).await;
    let begun = std::time::Instant::now();
    while begun.elapsed() < std::time::Duration::from_secs(6) {
        let pong = lasting[0].ask("ping", json!({})).await;
        assert!(pong.get("pong").is_some(), "{pong}");
    }
    let (_late, _) = clients(&b, &mut told, 1).await;
    told.check();
    assert!(sessions.iter().all(|session| told.open().contains(session)));
    assert!(told.events.iter().all(|event| event["reason"] != "node_lost"));
}

/// A way to a server that can be cut.
struct Way {
    url: String,
    listening: tokio::task::JoinHandle<()>,
}

impl Way {
    async fn to(url: &str) -> Self {
        let server = url.trim_start_matches("redis://").trim_end_matches('/').to_owned();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis://{}", listener.local_addr().unwrap());
        let listening = tokio::spawn(async move {
            let mut ways = tokio::task::JoinSet::new();
            while let Ok((mut client, _)) = listener.accept().await {
                let Ok(mut server) = tokio::net::TcpStream::connect(&server).await else { continue };
                ways.spawn(async move {
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        Self { url, listening }
    }

    /// Ends every connection, and takes no other.
    fn cut(&self) {
        self.listening.abort();
    }
}

#[tokio::test]
async fn what_happens_while_the_store_is_away_is_told_afterwards() {
    let cluster = Cluster::start();
    let a = cluster.node("a");
    let mut told = Told::of(&a).await;
    let (mut lasting, _) = clients(&a, &mut told, 3).await;
    cluster.postgres.pause();
    let first = lasting.remove(0);
    drop(first);
    let while_away = a.connect().await;
    cluster.postgres.resume();
    let ended = told.newest("disconnected").await;
    assert_eq!(ended["reason"], "normal");
    told.until_begun(5).await;
    drop(while_away);
    while told.open().len() > 3 {
        told.next().await;
    }
    told.check();
}
