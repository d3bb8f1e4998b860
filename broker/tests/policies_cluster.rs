//! Policies that change on a cluster of three processes under load: how soon they hold everywhere, and that nothing is lost.
//!
//! `cargo test -p bongsu --test policies_cluster -- --nocapture` prints the figures of `docs/admin.md`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

mod support;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bongsu_testkit::{Postgres, Redis};
use serde_json::{Value, json};
use support::{Broker, Client, PATIENCE, http};
use tokio::task::JoinHandle;

/// Changes that are timed.
const CHANGES: usize = 20;

struct Cluster {
    _data: Vec<tempfile::TempDir>,
    _redis: Redis,
    _postgres: Postgres,
    nodes: Vec<Broker>,
}

impl Cluster {
    fn start() -> Self {
        let (redis, postgres) = (Redis::start(), Postgres::start());
        let (redis_url, postgres_url) =
            (format!("redis.url={}", redis.url()), format!("postgres.url={}", postgres.url()));
        let data: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
        let start = |(number, data): (usize, &tempfile::TempDir)| {
            let name = format!("node.name=n{number}");
            let settings = [&*name, &redis_url, &postgres_url, "admin.listen=127.0.0.1:0"];
            Broker::start(data.path(), &settings)
        };
        let nodes = data.iter().enumerate().map(start).collect();
        Self { _data: data, _redis: redis, _postgres: postgres, nodes }
    }

    /// Asks the first node.
    async fn ask(&self, method: &'static str, path: &str, body: Option<Value>) -> u16 {
        let admin: SocketAddr = self.nodes[0].admin.unwrap();
        let (path, body) = (path.to_owned(), body.map(|body| body.to_string()).unwrap_or_default());
        let asking = move || {
            let headers = if body.is_empty() { vec![] } else { vec![("content-type", "application/json")] };
            http::ask(admin, method, &path, &headers, &body).status
        };
        tokio::task::spawn_blocking(asking).await.unwrap()
    }
}

/// What a publisher was told until now.
#[derive(Default)]
struct Told {
    n_taken: AtomicU64,
    /// Those of them that were kept, and so have a position.
    n_kept: AtomicU64,
}

/// Publishes numbers on a topic until it is told to stop; says how many were taken.
fn publish(mut client: Client, topic: String, stop: &Arc<AtomicBool>, told: &Arc<Told>) -> JoinHandle<u64> {
    let (stop, told) = (Arc::clone(stop), Arc::clone(told));
    tokio::spawn(async move {
        let mut n_taken = 0;
        while !stop.load(Ordering::Relaxed) {
            let reply =
                client.ask("publish", json!({ "messages": [{ "topic": topic, "data": n_taken }] })).await;
            let published = reply["published"]["results"][0].get("published");
            let is_kept = published.unwrap_or_else(|| panic!("{reply}")).get("position").is_some();
            told.n_taken.fetch_add(1, Ordering::Relaxed);
            told.n_kept.fetch_add(is_kept.into(), Ordering::Relaxed);
            n_taken += 1;
        }
        n_taken
    })
}

/// Takes deliveries until so many of each topic came, each at least once; says how many came twice.
async fn take_all(mut client: Client, wanted: BTreeMap<String, u64>) -> u64 {
    let mut came: BTreeMap<(String, u64), u64> = BTreeMap::new();
    let n_wanted: u64 = wanted.values().sum();
    let began = Instant::now();
    while (came.len() as u64) < n_wanted {
        let delivery = tokio::time::timeout(PATIENCE, client.delivery()).await;
        let delivery = delivery.unwrap_or_else(|_| {
            let missing = wanted.iter().flat_map(|(topic, n)| (0..*n).map(|number| (topic.clone(), number)));
            let missing: Vec<_> = missing.filter(|key| !came.contains_key(key)).take(10).collect();
            panic!("lost {} of {n_wanted}: {missing:?}…", n_wanted - came.len() as u64)
        });
        let key = (delivery["topic"].as_str().unwrap().to_owned(), delivery["data"].as_u64().unwrap());
        *came.entry(key).or_default() += 1;
        assert!(began.elapsed() < 4 * PATIENCE, "{} of {n_wanted}", came.len());
    }
    came.values().map(|times| times - 1).sum()
}

/// Readers of a filter and a publisher on each node.
struct Load {
    readers: Vec<Client>,
    publishers: Vec<(String, JoinHandle<u64>)>,
    told: Vec<Arc<Told>>,
    stop: Arc<AtomicBool>,
}

impl Load {
    async fn on(cluster: &Cluster, prefix: &str, filters: &[&str]) -> Self {
        let mut readers = Vec::new();
        for node in &cluster.nodes {
            for filter in filters {
                let mut reader = node.connect().await;
                let subscribed = reader.subscribe(filter, json!("latest")).await;
                assert!(subscribed.get("subscribed").is_some(), "{subscribed}");
                readers.push(reader);
            }
        }
        let stop = Arc::<AtomicBool>::default();
        let (mut publishers, mut told) = (Vec::new(), Vec::new());
        for (number, node) in cluster.nodes.iter().enumerate() {
            let topic = format!("{prefix}/{number}");
            told.push(Arc::default());
            let publisher = publish(node.connect().await, topic.clone(), &stop, &told[number]);
            publishers.push((topic, publisher));
        }
        Self { readers, publishers, told, stop }
    }

    /// Waits until every publisher was told so often of what is counted.
    async fn until(&self, counted: impl Fn(&Told) -> &AtomicU64, times: u64) {
        let began = Instant::now();
        while self.told.iter().any(|told| counted(told).load(Ordering::Relaxed) < times) {
            assert!(began.elapsed() < PATIENCE, "a publisher stands still");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Stops, and sees that nothing was lost; says how many messages there were, and how many came twice.
    async fn finish(self) -> (u64, u64) {
        self.stop.store(true, Ordering::Relaxed);
        let mut wanted = BTreeMap::new();
        for (topic, publisher) in self.publishers {
            wanted.insert(topic, publisher.await.unwrap());
        }
        let n_messages = wanted.values().sum();
        let taking = self.readers.into_iter().map(|reader| take_all(reader, wanted.clone()));
        let n_doubled = futures_util::future::join_all(taking).await.into_iter().sum();
        (n_messages, n_doubled)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_holds_on_every_node_and_loses_nothing_under_load() {
    let cluster = Cluster::start();
    let load = Load::on(&cluster, "load", &["load/#"]).await;
    let mut probes = Vec::new();
    for node in &cluster.nodes {
        probes.push(node.connect().await);
    }
    let mut took = Vec::new();
    for change in 0..CHANGES {
        let is_narrow = change % 2 == 0;
        let bytes = if is_narrow { "1B" } else { "1KiB" };
        let began = Instant::now();
        let policy = json!({ "filter": "gate", "message_bytes": bytes });
        assert_eq!(cluster.ask("PUT", "/v1/policies/gate", Some(policy)).await, 200);
        let answered = began.elapsed();
        for probe in &mut probes {
            while probe.publish("gate", json!("more than a byte")).await.is_null() != is_narrow {
                assert!(began.elapsed() < PATIENCE, "a node does not follow");
            }
        }
        took.push((began.elapsed() - answered, answered));
    }
    let (n_messages, n_doubled) = load.finish().await;
    took.sort_unstable();
    let (median, most) = (took[CHANGES / 2].0, took[CHANGES - 1].0);
    let mut answered: Vec<_> = took.into_iter().map(|(_, answered)| answered).collect();
    answered.sort_unstable();
    let (answer, longest) = (answered[CHANGES / 2], answered[CHANGES - 1]);
    eprintln!("{CHANGES} changes under load were answered after {answer:?} (median), {longest:?} (most)");
    eprintln!("they held on all 3 nodes {median:?} (median), {most:?} (most) after the answer");
    eprintln!("{n_messages} messages, each read on 3 nodes, none lost, {n_doubled} doubled");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_that_begin_to_keep_history_lose_nothing_under_load() {
    let cluster = Cluster::start();
    let live = json!({ "filter": "tick/#", "kind": "live" });
    assert_eq!(cluster.ask("PUT", "/v1/policies/ticks", Some(live)).await, 200);
    for node in &cluster.nodes {
        let mut probe = node.connect().await;
        let began = Instant::now();
        // What is kept has a position.
        while !probe.publish("tick/probe", json!(0)).await.is_null() {
            assert!(began.elapsed() < PATIENCE, "a node does not follow");
        }
    }
    let load = Load::on(&cluster, "tick", &["tick/#"]).await;
    load.until(|told| &told.n_taken, 20).await;
    assert_eq!(cluster.ask("DELETE", "/v1/policies/ticks", None).await, 204);
    load.until(|told| &told.n_kept, 50).await;
    let (n_messages, n_doubled) = load.finish().await;
    eprintln!(
        "{n_messages} messages while their topics began to keep history, none lost, {n_doubled} doubled"
    );
}
