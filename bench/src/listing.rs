//! What a page of the admin API takes among very many topics and connections, beside the same page among few.
//!
//! The topics are written into the store's own table, as logs whose messages were purged: a listing reads nothing else. Each page is
//! asked for over HTTP, one after another on connections of their own, as an administrator's browser does.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use crate::broker::{Broker, BrokerArgs};
use crate::load::{Load, Opening};
use crate::machine;
use crate::wire::Compression;

/// How long a page may take before the run is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Rooms among which the topics are spread, so that a filter can ask for one topic of each.
const ROOMS: u64 = 1000;

/// Pages of the admin API among many topics and many connections.
#[derive(Debug, clap::Args)]
pub(crate) struct ListingArgs {
    /// Topics in the large run
    #[arg(long, default_value_t = 1_000_000)]
    topics: u64,
    /// Topics in the small run
    #[arg(long, default_value_t = 100)]
    few: u64,
    /// Connections in the large run; 0: only topics are looked at
    #[arg(long, default_value_t = 0)]
    connections: usize,
    /// How often each page is asked for
    #[arg(long, default_value_t = 50)]
    rounds: usize,
    /// An empty Postgres database to list from instead of an SQLite file; takes `psql`
    #[arg(long, value_name = "URL")]
    postgres: Option<String>,
    #[command(flatten)]
    broker: BrokerArgs,
}

/// The pages that are asked for.
fn pages(n_topics: u64) -> Vec<(&'static str, String)> {
    let half = format!("/v1/topics?prefix=room/{:04}", ROOMS / 2);
    let rare = format!("/v1/topics?filter=room/%2B/{:07}", n_topics - 1);
    vec![
        ("first page, 100 topics", "/v1/topics".to_owned()),
        ("first page, 1,000 topics", "/v1/topics?limit=1000".to_owned()),
        ("a prefix in the middle", half),
        ("a filter for one topic of all: room/+/…", rare),
        ("a filter for none: room/+/none", "/v1/topics?filter=room/%2B/none".to_owned()),
        ("a filter for none: +/+/none", "/v1/topics?filter=%2B/%2B/none".to_owned()),
        ("one topic", format!("/v1/topics/room%2F0000%2F{:07}", 0)),
    ]
}

pub(crate) fn run(args: &ListingArgs) -> anyhow::Result<()> {
    let mut tables = Vec::new();
    for n_topics in [args.few, args.topics] {
        let began = Instant::now();
        let (broker, admin) = prepare(args, n_topics)?;
        eprintln!("{n_topics} topics are there after {:.0?}", began.elapsed());
        let mut times = Vec::new();
        for (_, path) in pages(n_topics) {
            times.push(measure(admin, &path, args.rounds)?);
        }
        tables.push((n_topics, times, machine::resident_kib(broker.pid())?));
    }
    println!("| page | among {} topics: median, slowest | among {} |", tables[0].0, tables[1].0);
    println!("|---|---:|---:|");
    for (place, (name, _)) in pages(args.topics).iter().enumerate() {
        println!("| {name} | {} | {} |", shown(&tables[0].1[place]), shown(&tables[1].1[place]));
    }
    println!(
        "| resident memory of the node after that | {} MiB | {} MiB |",
        tables[0].2 / 1024,
        tables[1].2 / 1024
    );
    if args.connections > 0 { connections(args) } else { Ok(()) }
}

/// A broker whose store has so many topics.
fn prepare(args: &ListingArgs, n_topics: u64) -> anyhow::Result<(Broker, SocketAddr)> {
    let url = args.postgres.as_ref().map(|url| format!("postgres.url={url}"));
    let settings: Vec<&str> = ["admin.listen=127.0.0.1:0"].into_iter().chain(url.as_deref()).collect();
    // Once, so that there is a schema.
    let broker = Broker::start(&args.broker, &settings)?;
    let broker = match &args.postgres {
        Some(url) => {
            let sql = format!(
                "truncate bongsu.logs; insert into bongsu.logs (topic, epoch, first, head, time) \
                 select format('room/%s/%s', to_char(n % {ROOMS}, 'FM0000'), to_char(n, 'FM0000000')), 1, 2, 1, 1 \
                 from generate_series(0, {n_topics} - 1) n; analyze bongsu.logs"
            );
            let done =
                Command::new("psql").args(["--quiet", url, "--command", &sql]).stdin(Stdio::null()).status();
            ensure!(done.context("psql does not start")?.success(), "psql could not write the topics");
            broker
        }
        None => broker.restart_after(&args.broker, &settings, |folder| fill_sqlite(folder, n_topics))?,
    };
    let admin = broker.admin()?;
    Ok((broker, admin))
}

fn fill_sqlite(folder: &Path, n_topics: u64) -> anyhow::Result<()> {
    let mut connection = rusqlite::Connection::open(folder.join("bongsu.db"))?;
    let transaction = connection.transaction()?;
    {
        let sql = "INSERT INTO logs (topic, epoch, first, head, time, bytes) VALUES (?1, 1, 2, 1, 1, 0)";
        let mut insert = transaction.prepare(sql)?;
        for number in 0..n_topics {
            insert.execute([format!("room/{:04}/{number:07}", number % ROOMS)])?;
        }
    }
    Ok(transaction.commit()?)
}

/// The median and the slowest time of a page.
fn measure(admin: SocketAddr, path: &str, rounds: usize) -> anyhow::Result<(Duration, Duration)> {
    let mut times = Vec::with_capacity(rounds);
    for _ in 0..rounds.max(1) {
        let began = Instant::now();
        get(admin, path)?;
        times.push(began.elapsed());
    }
    times.sort_unstable();
    Ok((times[times.len() / 2], times[times.len() - 1]))
}

/// Makes a request, and gives the answer's body.
fn get(admin: SocketAddr, path: &str) -> anyhow::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(admin)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {admin}\r\nconnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let head = String::from_utf8_lossy(&answer[..answer.len().min(200)]).into_owned();
    ensure!(head.starts_with("HTTP/1.1 200 "), "{path}: {head}");
    Ok(answer)
}

fn shown((median, slowest): &(Duration, Duration)) -> String {
    let milliseconds = |time: &Duration| time.as_secs_f64() * 1000.0;
    format!("{:.1} ms, {:.1} ms", milliseconds(median), milliseconds(slowest))
}

/// The same for a list of connections.
fn connections(args: &ListingArgs) -> anyhow::Result<()> {
    let broker = Broker::start(&args.broker, &["admin.listen=127.0.0.1:0", "limits.connections=1000000"])?;
    let admin = broker.admin()?;
    println!("\n| connections | first page, 100 | first page, 1,000 | one subject | one address |");
    println!("|---:|---:|---:|---:|---:|");
    machine::check_open_files(args.connections)?;
    let mut load = Load::new()?;
    for n_connections in [usize::try_from(args.few)?, args.connections] {
        let n_more = n_connections.saturating_sub(load.len());
        load.open(broker.address(), n_more, Opening::WebSocket(Compression::Plain))?;
        let mut cells = Vec::new();
        for path in [
            "/v1/connections",
            "/v1/connections?limit=1000",
            "/v1/connections?subject=nobody",
            "/v1/connections?address=10.0.0.1",
        ] {
            cells.push(shown(&measure(admin, path, args.rounds)?));
        }
        println!("| {n_connections} | {} |", cells.join(" | "));
    }
    Ok(())
}
