//! Breaks a real cluster on purpose and checks what its clients see.
//!
//! The job: real nodes over a real Redis and Postgres, real clients, faults of every kind, and a checker that shares no code with
//! what it checks. Every run has a seed, which decides who publishes what and what breaks when; threads, processes and networks
//! do the rest, so a seed repeats a run's plan and not its every turn. Not the job: finding the smallest failing run, which is what
//! the simulation is for.
//!
//! A map: `wire` speaks the protocol, `publisher` and `subscriber` behave as `docs/protocol.md` wants clients to, `ledger`
//! judges; `world` holds the servers and nodes, `proxy` and `island` the network between them, `fault` what breaks; `phase` runs it all
//! over one topology, `experiments` asks single questions, and `report` writes down the answers.

mod experiments;
mod fault;
mod filter;
mod island;
mod ledger;
mod phase;
mod proxy;
mod publisher;
mod report;
mod subscriber;
mod wire;
mod world;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::ensure;

use phase::{Faults, Outcome, Plan};
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

fn verdict(outcomes: &[Outcome], failures: &[String]) -> anyhow::Result<()> {
    let violations = outcomes.iter().flat_map(|outcome| &outcome.violations);
    let texts = violations.map(|violation| format!("{}: {}", violation.broken, violation.text));
    let all: Vec<String> = texts.chain(failures.iter().cloned()).collect();
    let first = &all[..all.len().min(20)];
    ensure!(all.is_empty(), "{} promises were broken:\n{}", all.len(), first.join("\n"));
    Ok(())
}
