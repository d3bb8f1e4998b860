//! One topic, read in every way at once, while the node that most readers are on dies.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::sync::watch;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{Instant, sleep};

use crate::ledger::{Ledger, Number, Share, Violation};
use crate::phase::settle;
use crate::publisher::Publisher;
use crate::reader::{Flaw, Subscriber};
use crate::transport::Transport;
use crate::world::{Network, Topology, World};

/// What came of it.
pub(crate) struct Seen {
    pub(crate) violations: Vec<Violation>,
}

const TOPIC: &str = "one/topic";

/// Messages that all readers get before the node dies, while it is away, and once it is back; each at least.
const STAGE: u64 = 100;

/// Far longer than a stage takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// What publishes.
const PUBLISHERS: [Transport; 6] = [
    Transport::Json,
    Transport::Binary,
    Transport::SockJsWebSocket,
    Transport::Post,
    Transport::StompTcp,
    Transport::Sql,
];

/// Runs it.
///
/// # Errors
/// The world could not be made, readers stopped getting anything, or not all of them got the same.
pub(crate) async fn run(topology: Topology, broker: &Path, flaw: Flaw, seed: u64) -> anyhow::Result<Seen> {
    let world = World::start(topology, Network::Loopback, broker, &[]).await?;
    let ledger = Arc::new(Ledger::default());
    let (stop_publishers, publishers_stop) = watch::channel(false);
    let (stop_readers, readers_stop) = watch::channel(false);
    let mut random = StdRng::seed_from_u64(seed);
    let mut readers = JoinSet::new();
    for reader in readers_of(&world, &ledger, flaw, &mut random) {
        readers.spawn(reader.run(readers_stop.clone()));
    }
    let mut publishers = JoinSet::new();
    for publisher in publishers_of(&world, &ledger, &mut random) {
        publishers.spawn(publisher.run(publishers_stop.clone()));
    }
    let done = async {
        strike(&world, &ledger).await?;
        stop_publishers.send_replace(true);
        while publishers.join_next().await.is_some() {}
        settle(&world, &ledger).await
    };
    let logs = done.await;
    stop_readers.send_replace(true);
    while readers.join_next().await.is_some() {}
    let (counts, violations) = ledger.judge(&logs?);
    for (transport, Share { n_connections, n_deliveries, n_acknowledged, .. }) in &counts.by_transport {
        eprintln!(
            "{transport}: {n_deliveries} deliveries on {n_connections} connections, {n_acknowledged} published"
        );
    }
    // The servers' handles wait for their ends.
    spawn_blocking(move || drop(world)).await?;
    for (idx, transport) in Transport::READERS.iter().enumerate() {
        ensure!(ledger.n_connections(2 * idx) > 1, "{transport}: its node died, and it was not disturbed");
    }
    if violations.is_empty() {
        // The ledger says it already, in other words.
        let first = ledger.sequence(0, TOPIC);
        let all = (0..2 * Transport::READERS.len()).all(|number| ledger.sequence(number, TOPIC) == first);
        let n_messages = first.len();
        ensure!(all && n_messages as u64 > 3 * STAGE, "not all readers have the same {n_messages} messages");
    }
    Ok(Seen { violations })
}

/// Two of each kind: one on the node that dies, which goes on at the next, and one elsewhere.
fn readers_of(world: &World, ledger: &Arc<Ledger>, flaw: Flaw, random: &mut StdRng) -> Vec<Subscriber> {
    let kinds = Transport::READERS.iter().enumerate();
    let starts = kinds.flat_map(|(idx, transport)| [(*transport, 0), (*transport, 1 + idx % 2)]);
    let reader = |(transport, first_way): (Transport, usize)| {
        let mut filters = vec![TOPIC.to_owned()];
        if transport == Transport::EventsOfSeveral {
            filters.push("quiet".to_owned());
        }
        let mut ways = world.addresses_for(transport).to_vec();
        let n_ways = ways.len();
        ways.rotate_left(first_way % n_ways);
        Subscriber {
            transport,
            ways,
            number: ledger.subscriber(transport, filters.clone()),
            filters,
            ledger: Arc::clone(ledger),
            seed: random.random(),
            restless: None,
            away: Duration::ZERO,
            flaw,
        }
    };
    starts.map(reader).collect()
}

fn publishers_of(world: &World, ledger: &Arc<Ledger>, random: &mut StdRng) -> Vec<Publisher> {
    let possible =
        PUBLISHERS.iter().filter(|transport| **transport != Transport::Sql || world.database.is_some());
    let publisher = |(first, transport): (Number, &Transport)| Publisher {
        transport: *transport,
        way: world.front_of(*transport),
        database: world.database.clone(),
        ledger: Arc::clone(ledger),
        first: first * 1_000_000_000,
        seed: random.random(),
        pause: Duration::from_millis(100),
        batch_max: 3,
        topic: Some(TOPIC),
    };
    (1..).zip(possible).map(publisher).collect()
}

/// Kills the first node once everybody reads, and starts it again once everybody reads without it.
async fn strike(world: &World, ledger: &Ledger) -> anyhow::Result<()> {
    everybody_gets_on(ledger).await?;
    let node = Arc::clone(&world.nodes[0]);
    let is_alone = world.nodes.len() == 1;
    let killed = Arc::clone(&node);
    spawn_blocking(move || killed.kill()).await?;
    if !is_alone {
        everybody_gets_on(ledger).await?;
    }
    spawn_blocking(move || node.start_again()).await?;
    everybody_gets_on(ledger).await
}

/// Waits until every reader has this many more messages than any has now.
async fn everybody_gets_on(ledger: &Ledger) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let wanted = ledger.fastest(TOPIC) + STAGE;
    while ledger.slowest(TOPIC) < wanted {
        if Instant::now() > deadline {
            anyhow::bail!(
                "after {PATIENCE:?}, not everybody has come to {wanted}: {}",
                ledger.progress(TOPIC)
            );
        }
        sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}
