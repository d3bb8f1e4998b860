//! Builds a broker, breaks a cluster of it on purpose, and keeps the report.

use anyhow::{Context as _, bail};
use clap::Args;

use crate::{install, workspace};

/// Where the report of a whole run is kept.
const REPORT: &str = "docs/faults-cluster.md";

/// What to break, and for how long.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// How long faults are injected
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Decides everything that is decided by chance [default: a fresh one]
    #[arg(long)]
    seed: Option<u64>,
    /// Only this: standalone, sentinel, cluster, alone (one node on SQLite), redis-away, fan-out, first or storm. Keeps no report
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// Break a debug build: sooner there, and slower in every figure. The report says so
    #[arg(long)]
    debug: bool,
}

/// Builds, runs, and writes the report of a whole run.
///
/// # Errors
/// A promise was broken, or the run could not be made.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    install::ensure()?;
    let profile = if arguments.debug { "dev" } else { "release" };
    let packages = ["--package", "bongsu", "--package", "bongsu-faults"];
    let mut build = workspace::cargo();
    build.args(["build", "--locked", "--profile", profile]).args(packages);
    if !build.status().context("cargo does not start")?.success() {
        bail!("the broker does not build");
    }
    let mut faults = workspace::cargo();
    faults.args(["run", "--quiet", "--locked", "--profile", profile, "--package", "bongsu-faults", "--"]);
    faults.args(["--minutes", &arguments.minutes.to_string()]);
    if let Some(seed) = arguments.seed {
        faults.args(["--seed", &seed.to_string()]);
    }
    match &arguments.only {
        Some(only) => {
            faults.args(["--only", only]);
        }
        None => {
            faults.args(["--report", REPORT]);
        }
    }
    match faults.status().context("cargo does not start")? {
        status if status.success() => Ok(()),
        status => bail!("the fault run ended with {status}"),
    }
}
