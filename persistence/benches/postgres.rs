//! Acknowledged publishes on Postgres, beside bare loops that insert the same rows into the same server over as many connections,
//! in one run.
//!
//! `cargo bench -p bongsu-persistence --bench postgres [-- postgres://user@host/database]`; without an address it starts a server of
//! its own in the system's temporary folder, which must be on a disk for the figures to mean anything.

#![expect(clippy::unwrap_used, reason = "whoever runs it reads the panic")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bongsu_persistence::appender::{Appender, AppenderLimits, Failure, Submission};
use bongsu_persistence::postgres::{PostgresOptions, PostgresStore};
use bongsu_persistence::store::{Append, Appended};
use bongsu_protocol::message::{Message, NewMessage, Time};
use bongsu_protocol::topic::Topic;
use bongsu_testkit::Postgres;
use sqlx::postgres::{PgBindIterExt, PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Executor, Row};
use tokio::sync::oneshot;

const PAYLOAD_BYTES: usize = 128;
/// How long each measurement of a saturated loop takes.
const SATURATED_FOR: Duration = Duration::from_millis(2000);
/// Each measurement is repeated, in turns with the others, and the median counts.
const ROUNDS: usize = 5;
const LONE_ROUNDS: usize = 2000;
const PUBLISHERS: u64 = 16;

/// The bare table: a number for the log, as the store has, since that is faster than a text.
const BARE_TABLE: &str = "create table bare (log bigint not null, \"offset\" bigint not null, time bigint not null, \
     publisher text, payload bytea, primary key (log, \"offset\"))";
const BARE_INSERT: &str = "insert into bare select * from unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[], $5::bytea[])";

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if !arguments.iter().any(|argument| argument == "--bench") {
        println!("run it by `cargo bench`; a test of it would say nothing");
        return;
    }
    let given = arguments.iter().find(|argument| !argument.starts_with("--")).cloned();
    let own = given.is_none().then(Postgres::start);
    let url = given.unwrap_or_else(|| own.as_ref().unwrap().url());
    let options: PgConnectOptions = url.parse().unwrap();
    let mut connection = options.clone().disable_statement_logging().connect().await.unwrap();
    connection.execute(BARE_TABLE).await.unwrap();
    let settings = "select current_setting('server_version') || ', synchronous_commit=' || current_setting('synchronous_commit') \
         || ', fsync=' || current_setting('fsync')";
    let settings: String = connection.fetch_one(settings).await.unwrap().get(0);
    println!("PostgreSQL {settings}, {PAYLOAD_BYTES}-byte payloads; medians of {ROUNDS} rounds");
    println!("CPU is that of this process alone; the ratio is the median of each round's own");
    println!(
        "\n| saturated | lanes | batch | bare | appender | ratio | CPU here per row, bare and appender |"
    );
    println!("|---|---|---|---|---|---|---|");
    for (name, n_topics, window) in [
        ("1 topic", 1, Duration::ZERO),
        ("100 topics", 100, Duration::ZERO),
        ("100 topics, ids", 100, Duration::from_secs(120)),
    ] {
        for n_lanes in [1, 4] {
            if n_topics >= n_lanes {
                saturated(&url, &mut connection, name, n_topics, n_lanes, window).await;
            }
        }
    }
    println!("\n| one at a time | median | 99 % |");
    println!("|---|---|---|");
    lone(&url, &mut connection).await;
}

/// What a saturated loop did.
#[derive(Clone, Copy)]
struct Rate {
    rows_per_second: f64,
    cpu_seconds_per_row: f64,
}

impl Rate {
    fn of(n_rows: f64, began: Instant, cpu_began: f64) -> Self {
        Self {
            rows_per_second: n_rows / began.elapsed().as_secs_f64(),
            cpu_seconds_per_row: (cpu_seconds() - cpu_began) / n_rows,
        }
    }
}

async fn saturated(
    url: &str,
    connection: &mut PgConnection,
    name: &str,
    n_topics: u64,
    n_lanes: u64,
    window: Duration,
) {
    let (mut batches, mut ratios) = (Vec::new(), Vec::new());
    let (mut bare_rates, mut rates) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        connection.execute("drop schema if exists bongsu cascade").await.unwrap();
        connection.execute("checkpoint").await.unwrap();
        let (appender, batch) = appender_rate(url, n_topics, n_lanes, window).await;
        connection.execute("truncate bare").await.unwrap();
        connection.execute("checkpoint").await.unwrap();
        let bare = bare_rate(url, n_topics, n_lanes, batch as u64).await;
        batches.push(batch);
        ratios.push(appender.rows_per_second / bare.rows_per_second);
        bare_rates.push(bare);
        rates.push(appender);
    }
    let per_second =
        |rates: &[Rate]| median(&mut rates.iter().map(|rate| rate.rows_per_second).collect::<Vec<_>>());
    let cpu = |rates: &[Rate]| {
        1e6 * median(&mut rates.iter().map(|rate| rate.cpu_seconds_per_row).collect::<Vec<_>>())
    };
    println!(
        "| {name} | {n_lanes} | {:.0} | {:.0}/s | {:.0}/s | {:.2} | {:.1} µs, {:.1} µs |",
        median(&mut batches),
        per_second(&bare_rates),
        per_second(&rates),
        median(&mut ratios),
        cpu(&bare_rates),
        cpu(&rates),
    );
}

/// Publishers that keep the appender full. Answers acknowledged messages per second, and messages per batch.
async fn appender_rate(url: &str, n_topics: u64, n_lanes: u64, window: Duration) -> (Rate, f64) {
    let store = Arc::new(PostgresStore::open(PostgresOptions::new(url)).await.unwrap());
    let acknowledged = Arc::new(AtomicU64::new(0));
    let n_batches = Arc::new(AtomicU64::new(0));
    let counters = (acknowledged.clone(), n_batches.clone());
    let on_commit = move |batch: Vec<(Result<Appended, Failure>, ())>| {
        counters.0.fetch_add(
            batch.iter().filter(|(outcome, ())| outcome.is_ok()).count() as u64,
            Ordering::Relaxed,
        );
        counters.1.fetch_add(1, Ordering::Relaxed);
        std::future::ready(())
    };
    let limits = AppenderLimits { lanes: usize::try_from(n_lanes).unwrap(), ..AppenderLimits::default() };
    let (appender, ended) = Appender::spawn(store.clone(), limits, on_commit);
    let (began, cpu_began) = (Instant::now(), cpu_seconds());
    let publishers: Vec<_> = (0..PUBLISHERS)
        .map(|publisher| {
            let appender = appender.clone();
            tokio::spawn(async move {
                let mut n = publisher;
                while began.elapsed() < SATURATED_FOR {
                    let id = if window.is_zero() { String::new() } else { random_id(n) };
                    let append = message(n % n_topics, id, window);
                    appender.submit(Submission { append, completion: () }).await.unwrap();
                    n += PUBLISHERS;
                }
            })
        })
        .collect();
    for publisher in publishers {
        publisher.await.unwrap();
    }
    appender.close().await;
    ended.await.unwrap();
    let acknowledged = acknowledged.load(Ordering::Relaxed) as f64;
    let rate = Rate::of(acknowledged, began, cpu_began);
    store.close().await;
    (rate, acknowledged / n_batches.load(Ordering::Relaxed) as f64)
}

/// The same rows by bare loops, one for each lane and with its share of the topics: one insert after another, each of `batch` rows.
async fn bare_rate(url: &str, n_topics: u64, n_lanes: u64, batch: u64) -> Rate {
    let mut loops = Vec::new();
    let mut connections = Vec::new();
    for _ in 0..n_lanes {
        let options: PgConnectOptions = url.parse().unwrap();
        connections.push(options.disable_statement_logging().connect().await.unwrap());
    }
    let (began, cpu_began) = (Instant::now(), cpu_seconds());
    for (lane, mut connection) in (0..n_lanes).zip(connections) {
        loops.push(tokio::spawn(async move {
            let n_topics = n_topics / n_lanes;
            let mut n_rows = 0;
            while began.elapsed() < SATURATED_FOR {
                let rows = n_rows..n_rows + batch;
                bare_insert(&mut connection, lane * n_topics, n_topics, rows).await;
                n_rows += batch;
            }
            n_rows
        }));
    }
    let mut n_rows = 0;
    for one in loops {
        n_rows += one.await.unwrap();
    }
    Rate::of(n_rows as f64, began, cpu_began)
}

/// Inserts rows of several logs, each log's one after another, as the store does.
async fn bare_insert(connection: &mut PgConnection, first_log: u64, n_logs: u64, rows: std::ops::Range<u64>) {
    let mut places: Vec<(u64, u64)> = rows.map(|n| (first_log + n % n_logs, n / n_logs + 1)).collect();
    places.sort_unstable();
    let payload = vec![b'x'; PAYLOAD_BYTES];
    let insert = sqlx::query(BARE_INSERT)
        .bind(places.iter().map(|(log, _)| *log as i64).bind_iter())
        .bind(places.iter().map(|(_, offset)| *offset as i64).bind_iter())
        .bind(places.iter().map(|_| now() as i64).bind_iter())
        .bind(places.iter().map(|_| "publisher").bind_iter())
        .bind(places.iter().map(|_| payload.as_slice()).bind_iter());
    connection.execute(insert).await.unwrap();
}

/// One publish at a time, in turns with one bare commit of one row at a time.
async fn lone(url: &str, connection: &mut PgConnection) {
    connection.execute("truncate bare; drop schema if exists bongsu cascade").await.unwrap();
    let store = Arc::new(PostgresStore::open(PostgresOptions::new(url)).await.unwrap());
    let (appender, _ended) = Appender::spawn(
        store.clone(),
        AppenderLimits::default(),
        |batch: Vec<(Result<Appended, Failure>, oneshot::Sender<()>)>| {
            for (outcome, acknowledge) in batch {
                outcome.unwrap();
                acknowledge.send(()).unwrap();
            }
            std::future::ready(())
        },
    );
    let (mut bare, mut plain, mut with_id) = (Vec::new(), Vec::new(), Vec::new());
    for n in 0..LONE_ROUNDS as u64 {
        let began = Instant::now();
        let row = sqlx::query("insert into bare values ($1, $2, $3, $4, $5)")
            .bind(0_i64)
            .bind(n as i64 + 1)
            .bind(now() as i64)
            .bind("publisher")
            .bind(vec![b'x'; PAYLOAD_BYTES]);
        connection.execute(row).await.unwrap();
        bare.push(began.elapsed().as_secs_f64());
        for (times, id, window) in [
            (&mut plain, String::new(), Duration::ZERO),
            (&mut with_id, random_id(n), Duration::from_secs(120)),
        ] {
            let began = Instant::now();
            let (completion, acknowledged) = oneshot::channel();
            let append = message(0, id, window);
            assert!(appender.submit(Submission { append, completion }).await.is_ok());
            acknowledged.await.unwrap();
            times.push(began.elapsed().as_secs_f64());
        }
    }
    let bare_median = median(&mut bare);
    for (name, mut times) in [("bare commit", bare), ("publish", plain), ("publish with an id", with_id)] {
        let median = median(&mut times);
        let slow = times[times.len() * 99 / 100];
        println!("| {name} | {:.0} µs ({:.2}) | {:.0} µs |", median * 1e6, median / bare_median, slow * 1e6);
    }
    appender.close().await;
    store.close().await;
    connection.execute(AssertSqlSafe("drop table bare")).await.unwrap();
}

fn message(topic_number: u64, id: String, window: Duration) -> Append {
    let message = Message { id, ..Message::new(vec![b'x'; PAYLOAD_BYTES]) };
    Append {
        message: NewMessage { topic: topic(topic_number), message, expect: None },
        publisher: "publisher".to_owned(),
        time: Time(now()),
        idempotency_window: window,
    }
}

fn topic(number: u64) -> Topic {
    Topic::parse(&format!("bench/topic/{number}")).unwrap()
}

/// An id in no order, as random UUIDs are: 32 hexadecimal digits.
fn random_id(n: u64) -> String {
    // SplitMix64, which maps different numbers to different ones.
    let mut z = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^= z >> 31;
    format!("{z:016x}{n:016x}")
}

/// Processor time that this process has used so far.
fn cpu_seconds() -> f64 {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    used.tv_sec as f64 + used.tv_nsec as f64 / 1e9
}

fn now() -> u64 {
    let elapsed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::try_from(elapsed.as_millis()).unwrap()
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}
