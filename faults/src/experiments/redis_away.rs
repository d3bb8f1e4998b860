//! Redis goes away for 30 seconds while one node publishes and another delivers.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, interval, sleep};

use super::{publish, quantile};
use crate::wire::Connection;
use crate::world::{BusServer, Network, Topology, World};

/// What was seen, by phase.
pub(crate) struct RedisAway {
    pub(crate) phases: Vec<Phase>,
    pub(crate) n_published: usize,
    pub(crate) n_refused: usize,
    pub(crate) n_delivered: usize,
}

/// Times from a publish's sending through one node to its delivery by another.
pub(crate) struct Phase {
    pub(crate) name: &'static str,
    pub(crate) n_messages: usize,
    pub(crate) median: Duration,
    pub(crate) p99: Duration,
    pub(crate) worst: Duration,
}

/// How long Redis is away, as the promise has it.
const AWAY: Duration = Duration::from_secs(30);

/// How long all is well before and after.
const WELL: Duration = Duration::from_secs(10);

/// After Redis has returned, nodes may need this long to find it and each other again.
const RETURN: Duration = Duration::from_secs(5);

/// Between two publishes.
const PAUSE: Duration = Duration::from_millis(50);

/// A phase's name, and when it ended.
type Marks = Vec<(&'static str, Instant)>;

impl RedisAway {
    /// Promises that were not kept.
    pub(crate) fn failures(&self) -> Vec<String> {
        let mut failures = Vec::new();
        if self.n_refused > 0 || self.n_delivered != self.n_published {
            failures.push(format!(
                "Redis away: {} publishes, {} refused, {} delivered",
                self.n_published, self.n_refused, self.n_delivered
            ));
        }
        for phase in &self.phases {
            let bound = if phase.name == AFTER { Duration::from_millis(100) } else { Duration::from_secs(1) };
            // The 99th of a hundred: what a busy machine does to a single message is not the cluster's.
            if phase.p99 > bound {
                failures.push(format!(
                    "Redis away, {}: 99 % came within {:?}, not {bound:?}",
                    phase.name, phase.p99
                ));
            }
        }
        failures
    }
}

const AFTER: &str = "after";

pub(super) async fn run(broker: &Path) -> anyhow::Result<RedisAway> {
    let world = World::start(Topology::Standalone, Network::Loopback, broker, &[]).await?;
    let BusServer::Standalone(redis) = world.bus.clone() else { unreachable!("this topology has one Redis") };
    let topic = "away/1".to_owned();
    let mut subscriber = Connection::open(world.addresses[1]).await?;
    let id = subscriber
        .request("subscribe", json!({ "subscriptions": [{ "filter": topic, "from": "earliest" }] }))
        .await?;
    subscriber.reply(id).await?;
    let mut publisher = Connection::open(world.addresses[0]).await?;
    let (stop, stopped) = watch::channel(false);
    let publishing = tokio::spawn(async move {
        let mut sent = Vec::new();
        let mut n_refused = 0;
        let mut ticks = interval(PAUSE);
        while !*stopped.borrow() {
            ticks.tick().await;
            let number = sent.len() as u64 + 1;
            sent.push(Instant::now());
            if publish(&mut publisher, &[(topic.clone(), number)]).await.is_err() {
                n_refused += 1;
            }
        }
        (sent, n_refused)
    });
    let (done, finished) = watch::channel(None::<usize>);
    let reading = tokio::spawn(async move {
        let mut came = Vec::new();
        // The node's heartbeats see to it that the end is noticed where nothing more comes.
        while finished.borrow().is_none_or(|n| came.len() < n) {
            let Ok(events) = subscriber.events().await else { break };
            let now = Instant::now();
            came.extend(events.into_iter().filter(|event| event.delivery.is_some()).map(|_| now));
        }
        came
    });
    let mut marks: Marks = Vec::new();
    sleep(WELL).await;
    marks.push(("before", Instant::now()));
    let away = Arc::clone(&redis);
    spawn_blocking(move || away.stop()).await?;
    sleep(AWAY).await;
    marks.push(("away", Instant::now()));
    spawn_blocking(move || redis.start_again()).await?;
    sleep(RETURN).await;
    marks.push(("returning", Instant::now()));
    sleep(WELL).await;
    marks.push((AFTER, Instant::now()));
    stop.send_replace(true);
    let (sent, n_refused) = publishing.await?;
    done.send_replace(Some(sent.len() - n_refused));
    let came = tokio::time::timeout(Duration::from_secs(30), reading).await??;
    Ok(judged(&sent, &came, n_refused, &marks))
}

fn judged(sent: &[Instant], came: &[Instant], n_refused: usize, marks: &Marks) -> RedisAway {
    let mut from = 0;
    let phases = marks
        .iter()
        .map(|(name, end)| {
            let until = sent.partition_point(|at| at <= end);
            let pairs = sent[from..until].iter().zip(came.iter().skip(from));
            let times: Vec<Duration> = pairs.map(|(sent, came)| came.duration_since(*sent)).collect();
            from = until;
            Phase {
                name,
                n_messages: times.len(),
                median: quantile(&times, 0.5),
                p99: quantile(&times, 0.99),
                worst: quantile(&times, 1.0),
            }
        })
        .collect();
    RedisAway { phases, n_published: sent.len(), n_refused, n_delivered: came.len() }
}
