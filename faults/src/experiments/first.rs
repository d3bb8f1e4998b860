//! The first message of a topic, published while its first readers subscribe.
//!
//! Nothing comes afterwards that would show a reader what it missed, so whatever was lost must be noticed without.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use rand::Rng as _;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::{publish, quantile};
use crate::wire::Connection;
use crate::world::{N_NODES, Network, Topology, World};

/// What was seen.
pub(crate) struct First {
    /// From the later of publish and subscribe to the delivery.
    pub(crate) median: Duration,
    pub(crate) p99: Duration,
    pub(crate) worst: Duration,
    /// Readers that had nothing after [`PATIENCE`].
    pub(crate) missed: Vec<String>,
}

/// Topics, each with one message and one reader on each node.
pub(crate) const N_TOPICS: usize = 600;

/// Topics at a time.
const N_TOGETHER: usize = 20;

/// Publish and subscriptions of a topic fall into this time.
const SPAN_MS: u64 = 60;

/// Far more than a second, so that what is late can be told from what never comes.
const PATIENCE: Duration = Duration::from_secs(20);

impl First {
    /// Promises that were not kept.
    pub(crate) fn failures(&self) -> Vec<String> {
        self.missed.iter().map(|missed| format!("first message: {missed}")).collect()
    }
}

pub(super) async fn run(broker: &Path) -> anyhow::Result<First> {
    let world = World::start(Topology::Standalone, Network::Loopback, broker, &[]).await?;
    let (mut times, mut missed) = (Vec::new(), Vec::new());
    for first in (0..N_TOPICS).step_by(N_TOGETHER) {
        let mut readers = JoinSet::new();
        for idx in first..first + N_TOGETHER {
            let topic = format!("first/{idx}");
            let publisher = world.addresses[idx % N_NODES];
            let number = idx as u64 + 1;
            readers.spawn(write(publisher, topic.clone(), number));
            for address in &world.addresses {
                readers.spawn(read(*address, topic.clone()));
            }
        }
        while let Some(ended) = readers.join_next().await {
            match ended?? {
                Ended::Published => {}
                Ended::Came(took) => times.push(took),
                Ended::Missed(text) => missed.push(text),
            }
        }
    }
    let [median, p99, worst] = [0.5, 0.99, 1.0].map(|share| quantile(&times, share));
    Ok(First { median, p99, worst, missed })
}

enum Ended {
    Published,
    Came(Duration),
    Missed(String),
}

async fn write(address: SocketAddr, topic: String, number: u64) -> anyhow::Result<Ended> {
    let mut connection = Connection::open_in_crowd(address).await?;
    sleep(some_time()).await;
    publish(&mut connection, &[(topic, number)]).await?;
    Ok(Ended::Published)
}

async fn read(address: SocketAddr, topic: String) -> anyhow::Result<Ended> {
    let mut connection = Connection::open_in_crowd(address).await?;
    sleep(some_time()).await;
    let began = Instant::now();
    connection
        .request("subscribe", json!({ "subscriptions": [{ "filter": topic, "from": "earliest" }] }))
        .await?;
    let mut answer = None;
    let came = timeout(PATIENCE, async {
        loop {
            for event in connection.events().await? {
                if event.delivery.is_some() {
                    return anyhow::Ok(());
                }
                answer = event.reply.map(|reply| format!("{:?}", reply.subscribed)).or_else(|| answer.take());
            }
        }
    });
    match came.await {
        Ok(ended) => ended.map(|()| Ended::Came(began.elapsed())),
        Err(_) => Ok(Ended::Missed(format!(
            "{topic} on {}, subscribed {:?} before: {}",
            connection.node,
            began.elapsed(),
            answer.unwrap_or_default()
        ))),
    }
}

fn some_time() -> Duration {
    Duration::from_millis(rand::rng().random_range(0..SPAN_MS))
}
