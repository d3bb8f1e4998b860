//! One run over one topology: traffic all the time, one fault after another, and the judgment at the end.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::crowd;
use crate::fault::Fault;
use crate::ledger::{Broken, Counts, Ledger, Number, Violation};
use crate::publisher;
use crate::wire::{Connection, Position};
use crate::world::{Network, Topology, World};

/// What to do.
pub(crate) struct Plan {
    pub(crate) topology: Topology,
    pub(crate) broker: PathBuf,
    pub(crate) seed: u64,
    pub(crate) faults: Faults,
}

/// Which faults, and how many.
pub(crate) enum Faults {
    /// The topology's deck, shuffled again and again, for this long.
    For(Duration),
    /// These, in this order.
    These(Vec<Fault>),
}

/// What came of it.
pub(crate) struct Outcome {
    pub(crate) topology: Topology,
    /// Times to recover by kind of fault.
    pub(crate) recoveries: BTreeMap<Fault, Vec<Duration>>,
    pub(crate) counts: Counts,
    pub(crate) violations: Vec<Violation>,
    pub(crate) duration: Duration,
}

/// A probe that has not come to every subscriber by then never will.
const RECOVERY_MAX: Duration = Duration::from_secs(60);

/// After this long, those who make a probe wait are named.
const SLOW: Duration = Duration::from_secs(2);

/// Topics that every subscriber reads: one by name, and one that half of them read by a pattern only.
const PROBES: [&str; 2] = ["probe", "rooms/probe/chat"];

/// Runs a phase.
///
/// # Errors
/// The world could not be made or mended. What the broker does wrong is in the outcome.
pub(crate) async fn run(plan: Plan) -> anyhow::Result<Outcome> {
    let began = Instant::now();
    let world = World::start(plan.topology, Network::WithIsland, &plan.broker, &[]).await?;
    let ledger = Arc::new(Ledger::default());
    let (stop_publishers, publishers_stop) = watch::channel(false);
    let (stop_subscribers, subscribers_stop) = watch::channel(false);
    let (mut publishers, mut subscribers) = (JoinSet::new(), JoinSet::new());
    let mut random = StdRng::seed_from_u64(plan.seed);
    for reader in crowd::readers(&world, &ledger, &mut random) {
        subscribers.spawn(reader.run(subscribers_stop.clone()));
    }
    for publisher in crowd::publishers(&world, &ledger, &mut random) {
        publishers.spawn(publisher.run(publishers_stop.clone()));
    }
    let recoveries = strike(&plan, &world, &ledger, &mut random).await;
    stop_publishers.send_replace(true);
    let settled = async {
        let recoveries = recoveries?;
        while publishers.join_next().await.is_some() {}
        let logs = settle(&world, &ledger).await?;
        anyhow::Ok((recoveries, logs))
    };
    let settled = settled.await;
    stop_subscribers.send_replace(true);
    while subscribers.join_next().await.is_some() {}
    let logs_kept = Path::new("target/faults").join(format!("{:?}-{}", plan.topology, plan.seed));
    let (recoveries, logs) = match settled {
        Ok(settled) => settled,
        Err(error) => {
            world.keep_logs(&logs_kept)?;
            return Err(error.context(format!("the nodes' logs are in {}", logs_kept.display())));
        }
    };
    let (counts, violations) = ledger.judge(&logs);
    if !violations.is_empty() {
        world.keep_logs(&logs_kept)?;
        eprintln!("the nodes' logs are in {}", logs_kept.display());
    }
    // The servers' handles wait for their ends.
    tokio::task::spawn_blocking(move || drop(world)).await?;
    Ok(Outcome { topology: plan.topology, recoveries, counts, violations, duration: began.elapsed() })
}

/// Injects faults, one after another, and measures how long each was felt.
async fn strike(
    plan: &Plan,
    world: &World,
    ledger: &Ledger,
    random: &mut StdRng,
) -> anyhow::Result<BTreeMap<Fault, Vec<Duration>>> {
    let mut recoveries: BTreeMap<Fault, Vec<Duration>> = BTreeMap::new();
    let mut n_probes = 0;
    // Before anything is broken, all must be well.
    probe(world, ledger, &mut n_probes).await.context("nothing was broken yet")?;
    let began = Instant::now();
    let mut deck: Vec<Fault> = Vec::new();
    if let Faults::These(faults) = &plan.faults {
        deck.extend(faults.iter().rev());
    }
    loop {
        if let Faults::For(duration) = plan.faults {
            if began.elapsed() > duration {
                break;
            }
            if deck.is_empty() {
                deck = Fault::deck(plan.topology);
                deck.shuffle(random);
            }
        }
        let Some(fault) = deck.pop() else { break };
        if fault == Fault::Unplug && world.island.is_none() {
            continue;
        }
        let struck = Arc::new(Notify::new());
        let probed = async {
            struck.notified().await;
            probe(world, ledger, &mut n_probes).await
        };
        let injected = async {
            let injected = fault.inject(world, random, &struck).await;
            // Also where it failed, or the probe would wait for ever.
            struck.notify_one();
            injected
        };
        let (injected, recovered) = tokio::join!(injected, probed);
        injected.with_context(|| fault.to_string())?;
        match recovered {
            Ok(took) => {
                eprintln!(
                    "{:>7.1} s  {fault}: {:.0} ms",
                    began.elapsed().as_secs_f64(),
                    took.as_secs_f64() * 1e3
                );
                recoveries.entry(fault).or_default().push(took);
            }
            Err(error) => ledger.violate(Broken::NotRecovered, format!("{fault}: {error:#}")),
        }
        fault.clean_up(world).await?;
        sleep(Duration::from_millis(random.random_range(50..500))).await;
    }
    Ok(recoveries)
}

/// Publishes to each of the probes' topics and waits until all subscribers have both. Returns how long that took.
async fn probe(world: &World, ledger: &Ledger, n_probes: &mut Number) -> anyhow::Result<Duration> {
    let since = Instant::now();
    let first = *n_probes + 1;
    *n_probes += PROBES.len() as Number;
    let reached = timeout(RECOVERY_MAX, async {
        for (number, topic) in (first..).zip(PROBES) {
            publisher::publish_one(world.front.address(), ledger, topic, number).await;
        }
        let mut is_slow = false;
        while !(first..).zip(PROBES).all(|(number, topic)| ledger.has_reached_all(number, topic)) {
            sleep(Duration::from_millis(2)).await;
            if since.elapsed() > SLOW && !std::mem::replace(&mut is_slow, true) {
                eprintln!("   slow: {}", without(ledger, first));
            }
        }
    });
    if reached.await.is_err() {
        anyhow::bail!("after {RECOVERY_MAX:?}, these have not got the probes: {}", without(ledger, first));
    }
    Ok(since.elapsed())
}

/// Who has not got the probes of which this is the first, for people.
fn without(ledger: &Ledger, first: Number) -> String {
    let texts =
        (first..).zip(PROBES).map(|(number, topic)| format!("{topic}: {}", ledger.without(number, topic)));
    texts.collect::<Vec<_>>().join("; ")
}

/// The logs as the broker has them, by topic.
pub(crate) type Logs = BTreeMap<String, Vec<(Position, String)>>;

/// Reads every log from the broker and waits until all subscribers have come to its head.
pub(crate) async fn settle(world: &World, ledger: &Ledger) -> anyhow::Result<Logs> {
    let mut logs = BTreeMap::new();
    let mut connection = None;
    let deadline = Instant::now() + RECOVERY_MAX;
    // What was published in SQL stands in its log a little after it was committed.
    while let Some(database) = world.database.clone() {
        let ask = move || database.primary().try_sql("select count(*) from bongsu.outbox");
        let left = tokio::task::spawn_blocking(ask).await?;
        if left.as_deref().map(str::trim) == Ok("0") {
            break;
        }
        ensure!(Instant::now() < deadline, "the outbox is not empty: {left:?}");
        sleep(Duration::from_millis(50)).await;
    }
    for topic in ledger.topics() {
        let log = loop {
            let read = async {
                if connection.is_none() {
                    connection = Some(Connection::open(world.front.address()).await?);
                }
                connection.as_mut().expect("it was just made").log_of(&topic).await
            };
            match read.await {
                Ok(log) => break log,
                Err(error) if Instant::now() > deadline => return Err(error.context(topic)),
                Err(_) => {
                    connection = None;
                    sleep(Duration::from_millis(100)).await;
                }
            }
        };
        if !log.is_empty() {
            logs.insert(topic, log);
        }
    }
    let heads = logs.iter().filter_map(|(topic, log)| Some((topic.clone(), log.last()?.0))).collect();
    while let Some(behind) = ledger.behind(&heads) {
        if Instant::now() > deadline {
            ledger.violate(Broken::NotRecovered, format!("at the end: {behind}"));
            break;
        }
        sleep(Duration::from_millis(20)).await;
    }
    // Nothing more may come: what is late or twice comes now.
    sleep(Duration::from_secs(2)).await;
    Ok(logs)
}
