//! Ten thousand readers of a thousand topics resume at once.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::json;
use tokio::sync::{Barrier, Semaphore};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{Instant, timeout};

use super::publish;
use crate::wire::{Connection, Position};
use crate::world::{N_NODES, Network, Topology, World};

/// Each on a connection of its own, spread evenly over topics and nodes.
pub(crate) const N_SUBSCRIBERS: usize = 10_000;

/// All of them with history.
pub(crate) const N_TOPICS: usize = 1_000;

/// What every reader had seen of its topic, and what it had not.
const N_SEEN: u64 = 5;
const N_MISSED: u64 = 5;

/// What was seen.
pub(crate) struct Storm {
    /// From the first connection until the last reader had all that it missed, and one message that was published afterwards.
    pub(crate) until_caught_up: Duration,
    pub(crate) until_live: Duration,
    /// Page reads of each node.
    pub(crate) reads: Vec<u64>,
}

impl Storm {
    /// Promises that were not kept.
    pub(crate) fn failures(&self) -> Vec<String> {
        let over = self.reads.iter().enumerate().filter(|(_, reads)| **reads > N_TOPICS as u64);
        over.map(|(node, reads)| format!("storm: node {} read {reads} pages of {N_TOPICS} topics", node + 1))
            .collect()
    }
}

fn topic(idx: usize) -> String {
    format!("storm/{idx}")
}

pub(super) async fn run(broker: &Path) -> anyhow::Result<Storm> {
    // Ten thousand connections on two cores must not be taken for dead meanwhile.
    let patient = ["websocket.ping_interval=60s", "limits.publish_bytes_in_flight=64MiB"].map(str::to_owned);
    let world = World::start(Topology::Standalone, Network::Loopback, broker, &patient).await?;
    let mut publisher = Connection::open(world.addresses[0]).await?;
    let mut seen = Vec::new();
    for round in 0..N_SEEN + N_MISSED {
        let positions = publish_everywhere(&mut publisher, round).await?;
        if round + 1 == N_SEEN {
            seen = positions;
        }
    }
    drop(publisher);
    // With empty memories: nothing that a node remembers of its own publishing helps it.
    for node in &world.nodes {
        let node = Arc::clone(node);
        spawn_blocking(move || {
            node.stop();
            node.start_again();
        })
        .await?;
    }
    let seen = Arc::new(seen);
    let mut before = Vec::new();
    for node in 0..N_NODES {
        before.push(world.metric(node, READS).await?);
    }
    let caught_up = Arc::new(Barrier::new(N_SUBSCRIBERS + 1));
    // As many handshakes at a time as a listener's backlog holds with room to spare.
    let doors = Arc::new(Semaphore::new(500));
    let began = Instant::now();
    let mut readers = JoinSet::new();
    for idx in 0..N_SUBSCRIBERS {
        let address = world.addresses[idx % N_NODES];
        let (seen, caught_up, doors) = (Arc::clone(&seen), Arc::clone(&caught_up), Arc::clone(&doors));
        readers.spawn(async move {
            let door = doors.acquire_owned().await?;
            let mut connection = Connection::open_in_crowd(address).await?;
            drop(door);
            // Neighbours on one node read different topics, and each topic has readers on each node.
            let number = idx / N_NODES % N_TOPICS;
            let subscription = json!({ "filter": topic(number), "from": { "after": seen[number] } });
            connection.request("subscribe", json!({ "subscriptions": [subscription] })).await?;
            read(&mut connection, seen[number], N_MISSED).await?;
            let missed = Position { offset: seen[number].offset + N_MISSED, ..seen[number] };
            caught_up.wait().await;
            read(&mut connection, missed, 1).await
        });
    }
    let all = timeout(Duration::from_secs(120), async {
        tokio::select! {
            // Nobody ends before all have caught up, but with an error.
            ended = readers.join_next() => { ended.context("there are readers")???; anyhow::bail!("a reader ended early") }
            _ = caught_up.wait() => Ok(()),
        }
    });
    all.await.context("not all caught up")??;
    let until_caught_up = began.elapsed();
    let mut reads = Vec::new();
    for (node, before) in before.into_iter().enumerate() {
        reads.push(world.metric(node, READS).await? - before);
    }
    let mut publisher = Connection::open(world.addresses[0]).await?;
    let published = Instant::now();
    publish_everywhere(&mut publisher, N_SEEN + N_MISSED).await?;
    let all = timeout(Duration::from_secs(120), async {
        while let Some(ended) = readers.join_next().await {
            ended??;
        }
        anyhow::Ok(())
    });
    all.await.context("not all live")??;
    Ok(Storm { until_caught_up, until_live: published.elapsed(), reads })
}

const READS: &str = "bongsu_store_reads_total";

/// One message to each topic; returns their positions.
async fn publish_everywhere(publisher: &mut Connection, round: u64) -> anyhow::Result<Vec<Position>> {
    let mut positions = Vec::new();
    for first in (0..N_TOPICS).step_by(250) {
        let batch: Vec<_> =
            (first..first + 250).map(|idx| (topic(idx), round * N_TOPICS as u64 + idx as u64)).collect();
        positions.extend(publish(publisher, &batch).await?);
    }
    Ok(positions)
}

/// Reads this many messages, which must be the next ones.
async fn read(connection: &mut Connection, after: Position, n_messages: u64) -> anyhow::Result<()> {
    let mut offset = after.offset;
    while offset < after.offset + n_messages {
        for event in connection.events().await? {
            if let Some(delivery) = event.delivery {
                offset += 1;
                let expected = Position { offset, ..after };
                ensure!(delivery.position() == expected, "{} came, not {expected}", delivery.position());
            }
        }
    }
    Ok(())
}
