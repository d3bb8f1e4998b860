//! Queues that several nodes serve, over a real Postgres and a real Redis.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bongsu::bus;
use bongsu::config::ServerUrl;
use bongsu::node::Node;
use bongsu_persistence::postgres::{PostgresOptions, PostgresStore};
use bongsu_persistence::store::Store;
use bongsu_testkit::{Postgres, Redis};
use tokio::runtime::Handle;

use crate::nodes::{TestNode, settings};
use crate::worker::{PATIENCE, Worker, publish, text};

/// Short, so that tests are; long beside the pauses of a busy machine.
const LEASE: Duration = Duration::from_secs(3);

const CLIENT: &str = "\nack:client-individual\nprefetch-count:5";

struct Cluster {
    redis: Redis,
    postgres: Postgres,
}

/// A node with a store of its own, and where its tasks run.
struct Member {
    test: TestNode,
    runtime: Handle,
}

impl Cluster {
    fn start() -> Self {
        Self { redis: Redis::start(), postgres: Postgres::start() }
    }

    async fn member(&self, name: &str) -> Member {
        let mut settings = settings(name);
        settings.redis.url = Some(ServerUrl::parse(&self.redis.url()).unwrap());
        settings.cluster.lease = LEASE;
        let url = self.postgres.url();
        let (sender, receiver) = std::sync::mpsc::channel();
        let launch = move || {
            TestNode::launch(move || {
                let runtime = Handle::current();
                let store = open(url);
                sender.send(runtime).unwrap();
                let joined = bus::connect(&settings).unwrap().unwrap();
                Node::join(settings, store, joined, None)
            })
        };
        let test = tokio::task::spawn_blocking(launch).await.unwrap();
        test.registered().await;
        Member { test, runtime: receiver.recv().unwrap() }
    }
}

/// Opens a store from within a runtime that cannot be waited in.
fn open(url: String) -> Arc<dyn Store> {
    let open = move || {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let store = runtime.block_on(PostgresStore::open(PostgresOptions::new(url))).unwrap();
        // Its connections live as long as the test's process.
        std::mem::forget(runtime);
        store
    };
    Arc::new(std::thread::spawn(open).join().unwrap())
}

impl Member {
    fn node(&self) -> &Arc<Node> {
        &self.test.node
    }

    fn worker(&self) -> Worker {
        Worker::on(self.node(), self.runtime.clone())
    }

    async fn publish(&self, topic: &str, n: usize) {
        let (node, topic) = (Arc::clone(self.node()), topic.to_owned());
        let published = self.runtime.spawn(async move { publish(&node, &topic, &n.to_string()).await });
        published.await.unwrap();
    }
}

// ST-27
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_node_held_that_was_killed_comes_to_others_and_what_was_settled_does_not() {
    let cluster = Cluster::start();
    let (one, two) = (cluster.member("one").await, cluster.member("two").await);
    let (mut doomed, mut heir) = (one.worker(), two.worker());
    doomed.consume("q", "/queue/jobs", CLIENT).await;
    for n in 0..10 {
        two.publish("queue/jobs", n).await;
    }
    let mut settled = BTreeSet::new();
    for _ in 0..5 {
        let message = doomed.message().await;
        settled.insert(text(&message));
        doomed.settle("ACK", &message).await;
    }
    // It has these, and maybe acknowledges one of them with nobody there to hear it.
    let held = [doomed.message().await, doomed.message().await, doomed.message().await];
    heir.consume("q", "/queue/jobs", CLIENT).await;
    for n in 10..20 {
        two.publish("queue/jobs", n).await;
    }
    one.test.kill().await;
    let begun = std::time::Instant::now();
    let mut seen = BTreeSet::new();
    while seen.len() < 15 {
        let message = heir.message().await;
        let text = text(&message);
        assert!(!settled.contains(&text), "{text} was settled, and came again");
        let was_held = held.iter().any(|held| held.body == message.body);
        assert!(!was_held || message.header("redelivered") == Some("true"), "{message:?}");
        assert!(seen.insert(text), "{message:?} came twice");
        heir.settle("ACK", &message).await;
    }
    println!("everything was with the other node {:?} after the kill", begun.elapsed());
    assert!(held.iter().all(|message| seen.contains(&text(message))));
    assert_eq!(seen.union(&settled).count(), 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_share_a_queue_fairly_and_give_nothing_out_twice() {
    let cluster = Cluster::start();
    let members = [cluster.member("one").await, cluster.member("two").await, cluster.member("three").await];
    let mut workers = Vec::new();
    for member in &members {
        let mut worker = member.worker();
        worker.consume("q", "/queue/jobs", CLIENT).await;
        workers.push(worker);
    }
    let n_messages = 300;
    for n in 0..n_messages {
        members[n % 3].publish("queue/jobs", n).await;
    }
    let (sender, mut receiver) = tokio::sync::mpsc::channel(n_messages);
    for (place, mut worker) in workers.into_iter().enumerate() {
        let sender = sender.clone();
        tokio::spawn(async move {
            loop {
                let message = worker.message().await;
                if sender
                    .send((place, text(&message), message.header("redelivered") == Some("true")))
                    .await
                    .is_err()
                {
                    return;
                }
                worker.settle("ACK", &message).await;
            }
        });
    }
    let mut shares = [0; 3];
    let mut seen = BTreeSet::new();
    while seen.len() < n_messages {
        let (place, text, is_redelivered) =
            tokio::time::timeout(PATIENCE, receiver.recv()).await.expect("in time").unwrap();
        assert!(!is_redelivered, "{text} came again, and nobody died");
        assert!(seen.insert(text), "a message came twice");
        shares[place] += 1;
    }
    println!("shares: {shares:?}");
    assert!(shares.iter().all(|share| *share > 0), "each node had its turn: {shares:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_redis_is_away_messages_flow_and_nobody_is_taken_for_gone() {
    let cluster = Cluster::start();
    let (one, two) = (cluster.member("one").await, cluster.member("two").await);
    let (mut first, mut second) = (one.worker(), two.worker());
    first.consume("q", "/queue/jobs", "\nack:client-individual\nprefetch-count:1").await;
    two.publish("queue/jobs", 0).await;
    let held = first.message().await;
    second.consume("q", "/queue/jobs", "\nack:client-individual\nprefetch-count:1").await;
    let Cluster { redis, postgres } = cluster;
    drop(redis);
    let mut membership = two.node().cluster().membership();
    let away = membership.wait_for(|membership| !membership.is_reachable);
    drop(tokio::time::timeout(PATIENCE, away).await.expect("in time").unwrap());
    // Longer than a lease. What came back would come first.
    let (begun, mut n) = (std::time::Instant::now(), 0);
    while begun.elapsed() < 2 * LEASE {
        n += 1;
        two.publish("queue/jobs", n).await;
        let message = second.message().await;
        assert_eq!(text(&message), n.to_string(), "what the first node has is still its own");
        second.settle("ACK", &message).await;
    }
    first.settle("ACK", &held).await;
    one.publish("queue/jobs", n + 1).await;
    let message = tokio::select! {
        message = first.message() => message,
        message = second.message() => message,
    };
    assert_eq!(text(&message), (n + 1).to_string());
    drop(postgres);
}
