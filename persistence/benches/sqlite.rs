//! Acknowledged publishes on SQLite, beside bare loops that insert the same rows with the same durability, in one run.
//!
//! `cargo bench -p bongsu-persistence --bench sqlite [-- FOLDER]`; the files are made in FOLDER, by default in the system's
//! temporary folder, which must be on a disk for the figures to mean anything.

#![expect(clippy::unwrap_used, reason = "whoever runs it reads the panic")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bongsu_persistence::appender::{Appender, AppenderLimits, Failure, Submission};
use bongsu_persistence::sqlite::{SqliteOptions, SqliteStore};
use bongsu_persistence::store::{Append, Appended};
use bongsu_protocol::message::{Message, NewMessage, Time};
use bongsu_protocol::topic::Topic;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions, Executor, SqlSafeStr, SqlStr};
use tempfile::TempDir;
use tokio::sync::oneshot;

const PAYLOAD_BYTES: usize = 128;
/// How long each measurement of a saturated loop takes.
const SATURATED_FOR: Duration = Duration::from_millis(1000);
/// Each measurement is repeated, in turns with the others, and the median counts.
const ROUNDS: usize = 5;
const LONE_ROUNDS: usize = 2000;
const PUBLISHERS: u64 = 16;
/// Rows in one statement of the bare loop: the store's own number, and the fastest of 64, 256 and 1,024.
const ROWS_PER_STATEMENT: usize = 256;

/// The bare tables: one with the rows in the order of their key, one with the key beside them. The faster one counts.
const BARE_TABLES: [(&str, &str); 2] = [("clustered", ") WITHOUT ROWID"), ("row ids", ")")];

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if !arguments.iter().any(|argument| argument == "--bench") {
        println!("run it by `cargo bench`; a test of it would say nothing");
        return;
    }
    let folder = arguments.iter().find(|argument| !argument.starts_with("--"));
    let folder = folder.map_or_else(std::env::temp_dir, std::path::PathBuf::from);
    println!(
        "in {}, {PAYLOAD_BYTES}-byte payloads, WAL, synchronous=FULL; medians of {ROUNDS}",
        folder.display()
    );
    println!("CPU is that of the whole process: with the appender, also that of the publishers");
    println!(
        "the ratio is the median of each round's own, to the faster (CPU: the cheaper) bare loop of that round"
    );
    let [(first, _), (second, _)] = BARE_TABLES;
    println!(
        "\n| saturated | batch | bare, {first} | bare, {second} | appender | ratio | ratio of CPU per row |"
    );
    println!("|---|---|---|---|---|---|---|");
    for (name, n_topics, window) in [
        ("1 topic", 1, Duration::ZERO),
        ("1 topic, ids", 1, Duration::from_secs(120)),
        ("100 topics", 100, Duration::ZERO),
        ("100 topics, ids", 100, Duration::from_secs(120)),
    ] {
        saturated(&folder, name, n_topics, window).await;
    }
    println!("\n| one at a time | median | 99 % |");
    println!("|---|---|---|");
    lone(&folder).await;
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

async fn saturated(folder: &Path, name: &str, n_topics: u64, window: Duration) {
    let (mut batches, mut ratios, mut cpu_ratios) = (Vec::new(), Vec::new(), Vec::new());
    let mut rates = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        let (appender, batch) = appender_rate(folder, n_topics, window).await;
        let clustered = bare_rate(folder, BARE_TABLES[0].1, n_topics, batch as usize).await;
        let with_row_ids = bare_rate(folder, BARE_TABLES[1].1, n_topics, batch as usize).await;
        batches.push(batch);
        ratios.push(appender.rows_per_second / clustered.rows_per_second.max(with_row_ids.rows_per_second));
        let cheaper = clustered.cpu_seconds_per_row.min(with_row_ids.cpu_seconds_per_row);
        cpu_ratios.push(appender.cpu_seconds_per_row / cheaper);
        for (rates, rate) in rates.iter_mut().zip([clustered, with_row_ids, appender]) {
            rates.push(rate);
        }
    }
    let columns = rates.map(|rates| {
        let mut per_second: Vec<f64> = rates.iter().map(|rate| rate.rows_per_second).collect();
        let mut cpu: Vec<f64> = rates.iter().map(|rate| rate.cpu_seconds_per_row * 1e6).collect();
        format!("{:.0}/s, {:.1} µs", median(&mut per_second), median(&mut cpu))
    });
    println!(
        "| {name} | {:.0} | {} | {:.2} | {:.2} |",
        median(&mut batches),
        columns.join(" | "),
        median(&mut ratios),
        median(&mut cpu_ratios)
    );
}

/// Publishers that keep the appender full. Answers acknowledged messages per second, and messages per batch.
async fn appender_rate(folder: &Path, n_topics: u64, window: Duration) -> (Rate, f64) {
    let folder = TempDir::new_in(folder).unwrap();
    let store =
        Arc::new(SqliteStore::open(SqliteOptions::new(folder.path().join("bongsu.db"))).await.unwrap());
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
    let (appender, ended) = Appender::spawn(store.clone(), AppenderLimits::default(), on_commit);
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

/// The same rows by a bare loop: one transaction after another, each of `batch` rows. Answers rows per second.
async fn bare_rate(folder: &Path, table_end: &str, n_topics: u64, batch: usize) -> Rate {
    let folder = TempDir::new_in(folder).unwrap();
    let mut connection = bare_connection(folder.path(), table_end).await;
    let (full, rest) = (insert(ROWS_PER_STATEMENT), insert(batch % ROWS_PER_STATEMENT));
    let mut n_rows = 0;
    let (began, cpu_began) = (Instant::now(), cpu_seconds());
    while began.elapsed() < SATURATED_FOR {
        connection.execute("BEGIN IMMEDIATE").await.unwrap();
        let pieces = std::iter::repeat_n((&full, ROWS_PER_STATEMENT), batch / ROWS_PER_STATEMENT);
        for (sql, n) in pieces.chain([(&rest, batch % ROWS_PER_STATEMENT)]).filter(|(_, n)| *n > 0) {
            let mut query = sqlx::query(sql.clone());
            for _ in 0..n {
                query = query
                    .bind(topic(n_rows % n_topics).as_str().to_owned())
                    .bind((n_rows / n_topics) as i64 + 1)
                    .bind(now() as i64)
                    .bind("publisher")
                    .bind(vec![b'x'; PAYLOAD_BYTES]);
                n_rows += 1;
            }
            connection.execute(query).await.unwrap();
        }
        connection.execute("COMMIT").await.unwrap();
    }
    Rate::of(n_rows as f64, began, cpu_began)
}

/// One publish at a time, in turns with one bare commit of one row at a time.
async fn lone(folder: &Path) {
    let bare_folder = TempDir::new_in(folder).unwrap();
    let mut connection = bare_connection(bare_folder.path(), BARE_TABLES[0].1).await;
    let sql = insert(1);
    let store_folder = TempDir::new_in(folder).unwrap();
    let store = SqliteStore::open(SqliteOptions::new(store_folder.path().join("bongsu.db"))).await.unwrap();
    let (appender, _ended) = Appender::spawn(
        Arc::new(store),
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
        let row = sqlx::query(sql.clone())
            .bind(topic(0).as_str().to_owned())
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
}

async fn bare_connection(folder: &Path, table_end: &str) -> SqliteConnection {
    let options = SqliteConnectOptions::new()
        .filename(folder.join("bare.db"))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .pragma("cache_size", "-4096")
        .disable_statement_logging();
    let mut connection = options.connect().await.unwrap();
    let table = format!(
        "CREATE TABLE messages (topic TEXT NOT NULL, offset INTEGER NOT NULL, time INTEGER NOT NULL, \
         publisher TEXT NOT NULL, payload BLOB NOT NULL, PRIMARY KEY (topic, offset){table_end}"
    );
    connection.execute(AssertSqlSafe(table)).await.unwrap();
    connection
}

fn insert(n_rows: usize) -> SqlStr {
    AssertSqlSafe(format!("INSERT INTO messages VALUES {}", vec!["(?,?,?,?,?)"; n_rows].join(",")))
        .into_sql_str()
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
