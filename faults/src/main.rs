//! `bongsu-faults`: the fault run as a program.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use bongsu_faults::Options;
use clap::Parser;

/// Breaks a cluster of three nodes on purpose and checks what its clients see.
#[derive(Debug, Parser)]
struct Arguments {
    /// How long faults are injected
    #[arg(long, value_name = "MINUTES", default_value_t = 10.0)]
    minutes: f64,
    /// Decides everything that is decided by chance [default: a fresh one]
    #[arg(long)]
    seed: Option<u64>,
    /// Only this: standalone, sentinel, cluster, alone (one node on SQLite), redis-away, fan-out, first or storm
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// Write the report here as well
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let options = Options {
        duration: Duration::from_secs_f64(arguments.minutes * 60.0),
        seed: arguments.seed.unwrap_or_else(|| rand::random_range(0..1_000_000)),
        report: arguments.report,
        only: arguments.only,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let done = runtime
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(bongsu_faults::run(&options)));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bongsu-faults: {error:#}\nrepeat it with --seed {}", options.seed);
            ExitCode::FAILURE
        }
    }
}
