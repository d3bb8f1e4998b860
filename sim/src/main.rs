//! Runs the simulation from a seed: `cargo run -p bongsu-sim -- --seed 7`.

use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bongsu_sim::{Keep, Plan, run};
use clap::Parser as _;

/// Simulates a cluster, and compares what its clients were told with what its store holds
#[derive(Debug, clap::Parser)]
struct Args {
    /// The seed; without one, the clock's
    #[arg(long, env = "BONGSU_SIM_SEED")]
    seed: Option<u64>,

    /// Run so many seeds, one after another
    #[arg(long, default_value_t = 1)]
    seeds: u64,

    /// Virtual minutes of chaos a seed
    #[arg(long, default_value_t = 1)]
    minutes: u32,

    /// Nodes of the cluster
    #[arg(long, default_value_t = 3)]
    nodes: usize,

    /// Print every line of the trace, and what the nodes log
    #[arg(long)]
    trace: bool,
}

#[expect(clippy::print_stdout, reason = "this is what the command prints")]
fn main() -> ExitCode {
    let args = Args::parse();
    if args.trace {
        let log = tracing_subscriber::fmt().without_time().with_ansi(false).with_writer(std::io::stdout);
        log.with_max_level(tracing_subscriber::filter::LevelFilter::DEBUG).init();
    }
    let first = args.seed.unwrap_or_else(|| {
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::from(clock.subsec_nanos()) ^ clock.as_secs()
    });
    let mut failed = false;
    for seed in first..first + args.seeds {
        let keep = if args.trace { Keep::Print } else { Keep::Last(300) };
        let rounds = args.minutes * 2;
        let plan = Plan { rounds, nodes: args.nodes, keep, ..Plan::new(seed) };
        let began = Instant::now();
        let report = run(&plan);
        if !report.violations.is_empty() {
            println!("{}", report.trace);
            failed = true;
        }
        for violation in &report.violations {
            println!("{violation}");
        }
        println!(
            "seed {seed}: {}; {:?} of virtual time in {:.1?}, {} messages acknowledged, {} delivered over {} connections; \
             in a minute of silence at most {} store calls of a node, {} frames; trace {:016x}, {} lines",
            if report.violations.is_empty() { "ok" } else { "VIOLATED" },
            Duration::from_millis(report.virtual_ms),
            began.elapsed(),
            report.n_acknowledged,
            report.n_delivered,
            report.n_connections,
            report.quiet_calls,
            report.quiet_frames,
            report.digest,
            report.n_lines,
        );
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
