//! What a message costs Redis and a node, by the number of its readers on that node.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::publish;
use crate::wire::Connection;
use crate::world::{BusServer, Network, Topology, World};

/// One run: one publisher on the first node, all readers on the second.
pub(crate) struct FanOut {
    pub(crate) n_readers: usize,
    pub(crate) commands_per_message: f64,
    /// Microseconds of the second node's processor time.
    pub(crate) cpu_us_per_delivery: f64,
    /// The same for each message, however many its readers.
    pub(crate) cpu_us_per_message: f64,
}

const READERS: [usize; 3] = [10, 100, 1000];

/// Messages of one run, one at a time: batches would hide what a single one costs.
const N_MESSAGES: u64 = 300;

const PAUSE: Duration = Duration::from_millis(10);

pub(super) fn failures(runs: &[FanOut]) -> Vec<String> {
    let (Some(first), Some(last)) = (runs.first(), runs.last()) else { return Vec::new() };
    let mut failures = Vec::new();
    // Commands that nodes send whether or not there are messages come and go between two runs.
    if last.commands_per_message > first.commands_per_message + 0.5 {
        failures.push(format!(
            "fan-out: {:.2} commands a message with {} readers, {:.2} with {}",
            first.commands_per_message, first.n_readers, last.commands_per_message, last.n_readers
        ));
    }
    if last.cpu_us_per_delivery > first.cpu_us_per_delivery {
        failures.push(format!(
            "fan-out: {:.1} us a delivery with {} readers, {:.1} with {}",
            first.cpu_us_per_delivery, first.n_readers, last.cpu_us_per_delivery, last.n_readers
        ));
    }
    failures
}

pub(super) async fn run(broker: &Path) -> anyhow::Result<Vec<FanOut>> {
    let world = World::start(Topology::Standalone, Network::Loopback, broker, &[]).await?;
    let mut runs = Vec::new();
    for n_readers in READERS {
        runs.push(measure(&world, n_readers).await?);
    }
    Ok(runs)
}

async fn measure(world: &World, n_readers: usize) -> anyhow::Result<FanOut> {
    let topic = format!("fan-out/{n_readers}");
    let mut readers = JoinSet::new();
    let mut connections = JoinSet::new();
    for _ in 0..n_readers {
        let (address, topic) = (world.addresses[1], topic.clone());
        connections.spawn(async move {
            let mut connection = Connection::open_in_crowd(address).await?;
            let subscriptions = json!({ "subscriptions": [{ "filter": topic }] });
            let id = connection.request("subscribe", subscriptions).await?;
            connection.reply(id).await?;
            anyhow::Ok(connection)
        });
    }
    while let Some(connection) = connections.join_next().await {
        let mut connection = connection??;
        readers.spawn(async move {
            let mut n_deliveries = 0;
            while n_deliveries < N_MESSAGES {
                let events = connection.events().await?;
                n_deliveries += events.iter().filter(|event| event.delivery.is_some()).count() as u64;
            }
            anyhow::Ok(connection)
        });
    }
    let mut publisher = Connection::open(world.addresses[0]).await?;
    let pid = world.nodes[1].id();
    // What nodes do without any message, for as long as the messages will take.
    let took = PAUSE * u32::try_from(N_MESSAGES).unwrap_or(u32::MAX);
    let (commands, cpu) = (commands(world).await?, cpu_us(pid)?);
    let began = Instant::now();
    sleep(took).await;
    let idle_rate = (self::commands(world).await? - commands) / began.elapsed().as_secs_f64();
    let idle_cpu_rate = (cpu_us(pid)? - cpu) / began.elapsed().as_secs_f64();
    let (commands, cpu) = (self::commands(world).await?, cpu_us(pid)?);
    let began = Instant::now();
    for number in 1..=N_MESSAGES {
        publish(&mut publisher, &[(topic.clone(), number)]).await?;
        sleep(PAUSE).await;
    }
    // Kept until all have all: a connection that ends costs as well.
    let mut kept = Vec::new();
    while let Some(reader) = readers.join_next().await {
        kept.push(reader??);
    }
    let seconds = began.elapsed().as_secs_f64();
    let commands = self::commands(world).await? - commands - idle_rate * seconds;
    let cpu = cpu_us(pid)? - cpu - idle_cpu_rate * seconds;
    let n_messages = N_MESSAGES as f64;
    Ok(FanOut {
        n_readers,
        commands_per_message: commands / n_messages,
        cpu_us_per_delivery: cpu / n_messages / n_readers as f64,
        cpu_us_per_message: cpu / n_messages,
    })
}

/// Commands that Redis has carried out, without those that ask for this number.
async fn commands(world: &World) -> anyhow::Result<f64> {
    let BusServer::Standalone(redis) = world.bus.clone() else { unreachable!("this topology has one Redis") };
    let stats = tokio::task::spawn_blocking(move || redis.cli(&["INFO", "commandstats"])).await?;
    // `cmdstat_publish:calls=12,usec=…`
    let calls = stats
        .lines()
        .filter(|line| !line.starts_with("cmdstat_info:") && !line.starts_with("cmdstat_command"));
    let calls = calls.filter_map(|line| line.split_once(":calls=")?.1.split(',').next()?.parse::<f64>().ok());
    Ok(calls.sum())
}

/// Microseconds of processor time that a process has used, exact to 10 ms.
fn cpu_us(pid: u32) -> anyhow::Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("the node is gone")?;
    // The name stands in brackets and may hold spaces; utime and stime are the 12th and 13th field after it, in hundredths.
    let (_, fields) = stat.rsplit_once(')').context("/proc/PID/stat has no name")?;
    let ticks =
        fields.split_ascii_whitespace().skip(11).take(2).filter_map(|field| field.parse::<f64>().ok());
    Ok(ticks.sum::<f64>() * 10_000.0)
}
