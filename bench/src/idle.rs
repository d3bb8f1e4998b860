//! What an idle connection holds: resident memory of the broker, before, with and after many of them.

use anyhow::ensure;
use bongsu_protocol::command::Start;

use crate::broker::{Broker, BrokerArgs};
use crate::load::{Load, Opening};
use crate::machine;
use crate::report::Table;
use crate::wire::{self, Compression};

/// Connections that come and go before anything is measured, so that what is made once is there.
const N_WARM: usize = 64;

/// Memory of idle connections
#[derive(Debug, clap::Args)]
pub(crate) struct IdleArgs {
    #[command(flatten)]
    broker: BrokerArgs,
    /// Connections, each with one subscription
    #[arg(long, default_value_t = 10_000)]
    connections: usize,
    /// Times that all of them come and go
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// A short run that shows that it works
    #[arg(long)]
    quick: bool,
}

/// What the connections read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Topics {
    /// All the same topic.
    One,
    /// Each a topic of its own.
    Own,
}

/// Resident KiB in one round.
#[derive(Debug, Clone, Copy)]
struct Round {
    with: u64,
    after: u64,
}

pub(crate) fn run(args: &IdleArgs) -> anyhow::Result<()> {
    let (n_connections, n_rounds) = if args.quick { (500, 1) } else { (args.connections, args.rounds) };
    ensure!(n_connections > 0 && n_rounds > 0, "at least one connection and one round are needed");
    machine::check_open_files(n_connections)?;
    let mut columns = vec!["topics".to_owned(), "permessage-deflate".to_owned(), "before, MiB".to_owned()];
    for round in 1..=n_rounds {
        columns.push(format!("KiB each, round {round}"));
        columns.push(format!("after {round}, MiB"));
    }
    let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
    let mut table = Table::new(&columns);
    for topics in [Topics::One, Topics::Own] {
        for compression in [Compression::Plain, Compression::Deflate] {
            let (before, rounds) = measure(args, topics, compression, n_connections, n_rounds)?;
            let mib = |kib: u64| format!("{:.1}", kib as f64 / 1024.0);
            let mut row = vec![
                if topics == Topics::One { "one for all" } else { "one each" }.to_owned(),
                if compression == Compression::Plain { "no" } else { "yes" }.to_owned(),
                mib(before),
            ];
            for round in rounds {
                let each = (round.with.saturating_sub(before)) as f64 / n_connections as f64;
                row.extend([format!("{each:.2}"), mib(round.after)]);
            }
            table.row(&row);
        }
    }
    println!("\n{n_connections} idle connections with one subscription each, binary format, plain TCP:\n");
    table.print();
    Ok(())
}

/// Resident KiB before any connection, and in each round.
fn measure(
    args: &IdleArgs,
    topics: Topics,
    compression: Compression,
    n_connections: usize,
    n_rounds: usize,
) -> anyhow::Result<(u64, Vec<Round>)> {
    let broker = Broker::start(&args.broker, &[])?;
    drop(subscribers(&broker, topics, compression, N_WARM.min(n_connections))?);
    broker.wait_until_empty()?;
    let before = machine::settled_kib(broker.pid())?;
    let mut rounds = Vec::new();
    for _ in 0..n_rounds {
        let load = subscribers(&broker, topics, compression, n_connections)?;
        let with = machine::settled_kib(broker.pid())?;
        drop(load);
        broker.wait_until_empty()?;
        rounds.push(Round { with, after: machine::settled_kib(broker.pid())? });
    }
    Ok((before, rounds))
}

fn subscribers(broker: &Broker, topics: Topics, compression: Compression, n: usize) -> anyhow::Result<Load> {
    let mut load = Load::new()?;
    load.open(broker.address(), n, Opening::WebSocket(compression))?;
    load.ask_each("subscribing", |place| match topics {
        Topics::One => wire::subscribe(1, "bench/idle", Start::Latest),
        Topics::Own => wire::subscribe(1, &format!("bench/idle/{place}"), Start::Latest),
    })?;
    Ok(load)
}
