//! Breaks a real cluster on purpose and checks what its clients see.
//!
//! The job: real nodes over a real Redis and Postgres, real clients, faults of every kind, and a checker that shares no code with
//! what it checks. Every run has a seed, which decides who publishes what and what breaks when; threads, processes and networks
//! do the rest, so a seed repeats a run's plan and not its every turn. Not the job: finding the smallest failing run, which is what
//! the simulation is for.
//!
//! A map: `transport` names the ways in, `wire` speaks their protocols, `publisher` and `reader` behave as the broker's documents want clients
//! to, `ledger` judges; `world` holds the servers and nodes, `proxy` and `island` the network between them, `fault` what breaks; `phase` runs it all,
//! with the `crowd` of readers and publishers, over one topology, `one_topic` looks at
//! one log through all readers, `experiments` asks single questions, and `report` writes down the answers.

mod crowd;
mod experiments;
mod fault;
mod filter;
mod island;
mod ledger;
mod one_topic;
mod phase;
mod proxy;
mod publisher;
mod reader;
mod report;
mod transport;
mod wire;
mod world;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::ensure;

use ledger::Broken;
use phase::{Faults, Outcome, Plan};
use reader::Flaw;
use transport::Transport;
use world::Topology;

/// What to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long faults are injected, all phases together.
    pub duration: Duration,
    /// Decides everything that is decided by chance.
    pub seed: u64,
    /// Where the report goes; without one, it is printed only.
    pub report: Option<PathBuf>,
    /// Only this phase or experiment, by its name; without one, all of them.
    pub only: Option<String>,
}

/// Runs all phases and experiments and writes the report.
///
/// # Errors
/// A promise was broken, or the run could not be made.
pub async fn run(options: &Options) -> anyhow::Result<()> {
    let broker = world::broker()?;
    let wanted = |name: &str| options.only.as_deref().is_none_or(|only| only == name);
    let mut outcomes = Vec::new();
    for (name, topology, share) in PHASES {
        if wanted(name) {
            eprintln!("== {name}, seed {}", options.seed);
            let share = if options.only.is_some() { 1.0 } else { share };
            let faults = Faults::For(options.duration.mul_f64(share));
            outcomes.push(
                phase::run(Plan { topology, broker: broker.clone(), seed: options.seed, faults }).await?,
            );
        }
    }
    if options.only.as_deref() == Some("alone") {
        let faults = Faults::For(options.duration);
        outcomes.push(
            phase::run(Plan {
                topology: Topology::Alone,
                broker: broker.clone(),
                seed: options.seed,
                faults,
            })
            .await?,
        );
    }
    let experiments = experiments::run(&broker, wanted).await?;
    let text = report::write(options, &broker, &outcomes, &experiments);
    println!("{text}");
    if let Some(path) = &options.report {
        std::fs::write(path, text)?;
    }
    verdict(&outcomes, &experiments.failures())
}

/// Name, topology, and the share of the time that it gets.
const PHASES: [(&str, Topology, f64); 3] = [
    ("standalone", Topology::Standalone, 0.8),
    ("sentinel", Topology::Sentinel, 0.1),
    ("cluster", Topology::Cluster, 0.1),
];

/// One fault of each kind over each topology, in about a minute and a half: what every test run can afford.
///
/// # Errors
/// As [`run`].
pub async fn run_short(seed: u64) -> anyhow::Result<()> {
    let broker = world::broker()?;
    let plan = |topology| {
        let mut faults = fault::Fault::deck(topology);
        faults.sort();
        faults.dedup();
        Plan { topology, broker: broker.clone(), seed, faults: Faults::These(faults) }
    };
    let standalone = phase::run(plan(Topology::Standalone)).await?;
    // These two mostly wait, for servers to notice that one of them is gone.
    let (sentinel, cluster) =
        tokio::try_join!(phase::run(plan(Topology::Sentinel)), phase::run(plan(Topology::Cluster)))?;
    verdict(&[standalone, sentinel, cluster], &[])
}

/// One topic, read in every way that there is, while the node that most readers are on is killed and started again.
///
/// # Errors
/// Not all readers got the same messages at the same offsets, each once, or a message that was acknowledged is missing.
pub async fn run_one_topic(seed: u64) -> anyhow::Result<()> {
    let broker = world::broker()?;
    let seen = one_topic::run(Topology::Standalone, &broker, Flaw::None, seed).await?;
    verdict(&[], &seen.violations.into_iter().map(|violation| violation.text).collect::<Vec<_>>())
}

/// The same over one node, with readers that miss the first message after they resumed: does the checker see it?
///
/// # Errors
/// It does not, in one of the transports.
pub async fn run_one_topic_with_flaws(seed: u64) -> anyhow::Result<()> {
    let broker = world::broker()?;
    let seen = one_topic::run(Topology::Alone, &broker, Flaw::Skips, seed).await?;
    for transport in Transport::READERS {
        let is_noticed = |broken: Broken| {
            let mut own = seen.violations.iter().filter(|violation| violation.transport == Some(*transport));
            own.any(|violation| violation.broken == broken)
        };
        ensure!(is_noticed(Broken::SilentGap), "{transport}: the gap was not noticed");
        ensure!(is_noticed(Broken::Lost), "{transport}: the loss was not noticed");
    }
    Ok(())
}

fn verdict(outcomes: &[Outcome], failures: &[String]) -> anyhow::Result<()> {
    let violations = outcomes.iter().flat_map(|outcome| &outcome.violations);
    let texts = violations.map(|violation| format!("{}: {}", violation.broken, violation.text));
    let all: Vec<String> = texts.chain(failures.iter().cloned()).collect();
    let first = &all[..all.len().min(20)];
    ensure!(all.is_empty(), "{} promises were broken:\n{}", all.len(), first.join("\n"));
    Ok(())
}
