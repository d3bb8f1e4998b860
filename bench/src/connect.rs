//! Handshakes as fast as they come: how many a second, what they cost, and what stays behind.

use std::time::Instant;

use crate::broker::{Broker, BrokerArgs};
use crate::floor::{Floor, FloorKind};
use crate::load::{Load, Opening};
use crate::machine;
use crate::report::{Table, median};
use crate::wire::Compression;

/// Handshakes as fast as they come
#[derive(Debug, clap::Args)]
pub(crate) struct ConnectArgs {
    #[command(flatten)]
    broker: BrokerArgs,
    /// Connections that come in one run
    #[arg(long, default_value_t = 10_000)]
    connections: usize,
    /// Interleaved runs; the median is shown
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// A short run that shows that it works
    #[arg(long)]
    quick: bool,
}

/// What one storm came to.
#[derive(Debug, Clone, Copy)]
struct Storm {
    /// Handshakes a second, until the last client was greeted.
    rate: f64,
    /// CPU seconds of the server per 10,000.
    cpu: f64,
    /// The same, with what ending them took.
    cpu_with_end: f64,
}

pub(crate) fn run(args: &ConnectArgs) -> anyhow::Result<()> {
    let (n_connections, n_runs) = if args.quick { (500, 1) } else { (args.connections, args.runs) };
    machine::check_open_files(n_connections)?;
    let broker = Broker::start(&args.broker, &[])?;
    let before = machine::settled_kib(broker.pid())?;
    let (mut storms, mut floors, mut residents) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..n_runs {
        let mut storm = storm(&mut Load::new()?, broker.address(), broker.pid(), n_connections)?;
        let cpu_open = machine::cpu_seconds(broker.pid())?;
        broker.wait_until_empty()?;
        residents.push(machine::settled_kib(broker.pid())?);
        storm.cpu_with_end =
            storm.cpu + per_10k(machine::cpu_seconds(broker.pid())? - cpu_open, n_connections);
        storms.push(storm);
        let floor = Floor::start(FloorKind::Handshakes)?;
        floors.push(self::storm(&mut Load::new()?, floor.address(), floor.pid(), n_connections)?);
    }
    let cpu = |storms: &[Storm]| median(storms.iter().map(|storm| storm.cpu));
    let mut table =
        Table::new(&["server", "handshakes/s", "CPU-s per 10,000", "with their end", "times the floor"]);
    for (name, storms) in [("floor, epoll and a fixed answer", &floors), ("broker", &storms)] {
        let with_end = median(storms.iter().map(|storm| storm.cpu_with_end));
        table.row(&[
            name.to_owned(),
            format!("{:.0}", median(storms.iter().map(|storm| storm.rate))),
            format!("{:.2}", cpu(storms)),
            if with_end.is_nan() { "–".to_owned() } else { format!("{with_end:.2}") },
            format!("{:.2}", cpu(storms) / cpu(&floors)),
        ]);
    }
    println!("\n{n_connections} connections as fast as they are taken, median of {n_runs}:\n");
    table.print();
    let mib = |kib: u64| format!("{:.1}", kib as f64 / 1024.0);
    let residents: Vec<String> = residents.into_iter().map(mib).collect();
    println!(
        "\nResident in the broker: {} MiB before; after each run, all gone: {}",
        mib(before),
        residents.join(", ")
    );
    Ok(())
}

fn storm(
    load: &mut Load,
    address: std::net::SocketAddr,
    pid: u32,
    n_connections: usize,
) -> anyhow::Result<Storm> {
    let (cpu, began) = (machine::cpu_seconds(pid)?, Instant::now());
    load.open(address, n_connections, Opening::WebSocket(Compression::Plain))?;
    let seconds = began.elapsed().as_secs_f64();
    let cpu = per_10k(machine::cpu_seconds(pid)? - cpu, n_connections);
    Ok(Storm { rate: n_connections as f64 / seconds, cpu, cpu_with_end: f64::NAN })
}

fn per_10k(cpu: f64, n_connections: usize) -> f64 {
    cpu / n_connections as f64 * 10_000.0
}
