//! `bongsu pub`.

mod input;

use std::collections::VecDeque;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::bail;
use bongsu_client::{Acknowledgments, Topic};
use clap::Args;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use super::ConnectArgs;
use input::{Batch, Input};

/// Batches that were read and not handed to the client yet: enough that reading never waits for a wakeup.
const BATCHES_READ_MAX: usize = 8;

/// Batches that wait for their acknowledgment. The client's window of bytes is reached first, unless batches are tiny.
const BATCHES_UNACKNOWLEDGED_MAX: usize = 1024;

/// Failures that are told one by one; the rest is counted.
const FAILURES_TOLD_MAX: u64 = 10;

/// What the help ends with.
pub(super) const EXAMPLES: &str = "\
Each message waits for the broker's acknowledgment: on a topic with history, it is stored. The exit status is 0 if every
message was, 1 otherwise. After the first failure no more input is read.

Examples:
  bongsu pub chat/1 'hello'
  tail -F /var/log/syslog | bongsu pub logs/syslog
  bongsu pub packages --file list.txt --lines --id-prefix run-7   # repeat it: nothing is stored twice
  curl -sN https://example.org/feed.ndjson | bongsu pub feed --json
  bongsu sub 'chat/#' --from earliest --exit-at-head --json | bongsu pub --envelope --url ws://other:8080/v1/ws";

/// Publish a text, lines, or files
#[derive(Debug, Args)]
pub struct PubArgs {
    /// Topic to publish to
    #[arg(value_parser = parse_topic, required_unless_present = "envelope")]
    topic: Option<Topic>,
    /// Message to publish; without it and without --file, each line of standard input is one
    text: Option<String>,
    /// Publish these files, each as one message; `-` is standard input
    #[arg(long, short, value_name = "FILE", num_args = 1.., conflicts_with = "text")]
    file: Vec<PathBuf>,
    /// Publish each line of the files as a message
    #[arg(long, requires = "file")]
    lines: bool,
    /// Take any bytes, and give them no content type; by default they are text in UTF-8
    #[arg(long, conflicts_with_all = ["json", "envelope"])]
    raw: bool,
    /// Take each message as JSON, kept byte for byte
    #[arg(long, conflicts_with = "envelope")]
    json: bool,
    /// Take each line as an object with one of data, text or bytes (base64), and perhaps topic, type, headers, id and expect;
    /// what `bongsu sub --json` prints is one
    #[arg(long)]
    envelope: bool,
    /// Content type of each message [default: text/plain; charset=utf-8, or application/json with --json]
    #[arg(long = "type", value_name = "TYPE", conflicts_with = "envelope")]
    content_type: Option<String>,
    /// Header of each message; repeatable
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = parse_header, conflicts_with = "envelope")]
    headers: Vec<(String, String)>,
    /// Give the n-th message the id PREFIX-n, so that a second run with the same input and prefix stores nothing twice
    #[arg(long, value_name = "PREFIX")]
    id_prefix: Option<String>,
    /// Messages that one request carries at most
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..=1024))]
    batch: u16,
    /// Show messages, bytes and rate on standard error each second; the default on a terminal
    #[arg(long)]
    progress: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

fn parse_topic(text: &str) -> Result<Topic, String> {
    Topic::parse(text).map_err(|error| error.to_string())
}

fn parse_header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("a header is NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// How far it is.
#[derive(Debug, Default)]
struct Progress {
    n_sent: AtomicU64,
    n_bytes: AtomicU64,
    n_acknowledged: AtomicU64,
    n_duplicates: AtomicU64,
    n_failed: AtomicU64,
    /// No more input is wanted.
    stopped: AtomicBool,
}

pub(super) async fn run(mut args: PubArgs) -> anyhow::Result<()> {
    // One message, or a pipe, needs no progress.
    let shows = args.progress
        || (args.text.is_none() && std::io::stderr().is_terminal() && !std::io::stdin().is_terminal());
    let (batches, mut read) = mpsc::channel(BATCHES_READ_MAX);
    let input = Input::new(&mut args)?;
    let client = args.connect.connect().await?;
    // A thread, since files and pipes block; the process does not wait for it.
    std::thread::spawn(move || input.read(&batches));
    let progress = Arc::new(Progress::default());
    let (waiting, unacknowledged) = mpsc::channel(BATCHES_UNACKNOWLEDGED_MAX);
    let collecting = tokio::spawn(collect(unacknowledged, progress.clone()));
    let showing = shows.then(|| tokio::spawn(show(progress.clone())));
    let mut broken_input = None;
    while let Some(batch) = read.recv().await {
        if progress.stopped.load(Ordering::Relaxed) {
            break;
        }
        let Batch { messages, sources } = match batch {
            Ok(batch) => batch,
            Err(error) => {
                broken_input = Some(error);
                break;
            }
        };
        let n_bytes: usize = messages.iter().map(|new| new.message.payload.len()).sum();
        progress.n_sent.fetch_add(messages.len() as u64, Ordering::Relaxed);
        progress.n_bytes.fetch_add(n_bytes as u64, Ordering::Relaxed);
        let acknowledgments = client.publish_batch(messages).await?;
        // Fails only with the task that collects, which is asked below.
        let _ = waiting.send((acknowledgments, sources)).await;
    }
    drop(waiting);
    collecting.await?;
    client.close().await;
    if let Some(showing) = showing {
        showing.abort();
        eprintln!("{}", line(&progress, None));
    }
    let n_failed = progress.n_failed.load(Ordering::Relaxed);
    let n_acknowledged = progress.n_acknowledged.load(Ordering::Relaxed);
    match broken_input {
        Some(error) => Err(error.context(format!("{n_acknowledged} messages were published"))),
        None if n_failed > 0 => {
            bail!(
                "{n_failed} messages were not published, {n_acknowledged} were; not all input may have been read"
            )
        }
        None => Ok(()),
    }
}

/// Waits for the acknowledgments, in order, and tells what failed.
async fn collect(
    mut unacknowledged: mpsc::Receiver<(Acknowledgments, VecDeque<String>)>,
    progress: Arc<Progress>,
) {
    while let Some((acknowledgments, sources)) = unacknowledged.recv().await {
        let results = match acknowledgments.await {
            Ok(results) => results,
            Err(error) => vec![Err(error); sources.len()],
        };
        for (source, result) in sources.into_iter().zip(results) {
            match result {
                Ok(published) => {
                    progress.n_acknowledged.fetch_add(1, Ordering::Relaxed);
                    progress.n_duplicates.fetch_add(u64::from(published.duplicate), Ordering::Relaxed);
                }
                Err(error) => {
                    progress.stopped.store(true, Ordering::Relaxed);
                    if progress.n_failed.fetch_add(1, Ordering::Relaxed) < FAILURES_TOLD_MAX {
                        eprintln!("bongsu: {source} was not published: {error}");
                    }
                }
            }
        }
    }
}

async fn show(progress: Arc<Progress>) {
    let mut ticks = interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    let mut before = 0;
    loop {
        ticks.tick().await;
        let sent = progress.n_sent.load(Ordering::Relaxed);
        eprintln!("{}", line(&progress, Some(sent - before)));
        before = sent;
    }
}

fn line(progress: &Progress, rate: Option<u64>) -> String {
    let read = |number: &AtomicU64| number.load(Ordering::Relaxed);
    let mut line = format!(
        "{} messages, {:.1} MB, {} acknowledged",
        read(&progress.n_sent),
        read(&progress.n_bytes) as f64 / 1e6,
        read(&progress.n_acknowledged),
    );
    if let n @ 1.. = read(&progress.n_duplicates) {
        line.push_str(&format!(" ({n} were there already)"));
    }
    if let Some(rate) = rate {
        line.push_str(&format!(", {rate} a second"));
    }
    line
}
