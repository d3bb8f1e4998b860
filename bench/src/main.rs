//! What Bongsu costs, beside the least that the same work can cost on the same machine.
//!
//! Each command starts what it measures on loopback, puts it on the first core and its load on the second, stops what it started, and
//! prints a table. Absolute figures belong to a machine; the ratios carry over. `docs/benchmarks/` keeps what was seen.

#![expect(clippy::print_stdout, reason = "tables on standard output are what this program is for")]

mod abuse;
mod broker;
mod connect;
mod fanout;
mod floor;
mod idle;
mod listing;
mod load;
mod machine;
mod publish;
mod reconnect;
mod report;
mod rows;
mod wire;

use clap::{Parser, Subcommand};

/// What Bongsu costs, beside the least that the same work can cost.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// One topic to many connections: CPU time per delivery, beside two bare loops
    Fanout(fanout::FanoutArgs),
    /// Many idle connections: resident memory of the broker for each
    Idle(idle::IdleArgs),
    /// Acknowledged publishes on SQLite, beside a bare loop that inserts the same rows
    Publish(publish::PublishArgs),
    /// Many readers resume at once: time until all have what they missed, and what was read for it
    Reconnect(reconnect::ReconnectArgs),
    /// Connections as fast as they come: handshakes a second, CPU time, and what stays behind
    Connect(connect::ConnectArgs),
    /// Pages of the admin API among a million topics, and among many connections, beside the same among few
    Listing(listing::ListingArgs),
    /// Somebody misbehaves: the latency of others, beside the same without
    Abuse(abuse::AbuseArgs),
    /// A bare loop for others to be compared with
    #[command(hide = true)]
    #[command(subcommand)]
    Floor(floor::FloorKind),
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Fanout(args) => fanout::run(&args),
        Command::Idle(args) => idle::run(&args),
        Command::Publish(args) => publish::run(&args),
        Command::Reconnect(args) => reconnect::run(&args),
        Command::Connect(args) => connect::run(&args),
        Command::Listing(args) => listing::run(&args),
        Command::Abuse(args) => abuse::run(&args),
        Command::Floor(kind) => floor::run(&kind),
    }
}
