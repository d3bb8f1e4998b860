//! Acknowledged publishes on SQLite, beside a bare loop that inserts the same rows with the same durability.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bongsu_protocol::codec::{self, Format};
use bongsu_protocol::event::{Event, Reply};
use bongsu_protocol::topic::Topic;
use bytes::Bytes;

use crate::broker::{Broker, BrokerArgs};
use crate::load::{Load, Opening};
use crate::machine::{self, Core};
use crate::report::{Table, median};
use crate::rows::Rows;
use crate::wire::{self, Compression};

/// Requests that a connection has open: what the broker allows.
const REQUESTS_OPEN: u64 = 64;

/// Single commits in a row, before it is the other side's turn.
const COMMITS_PER_TURN: usize = 50;

/// Acknowledged publishes on SQLite
#[derive(Debug, clap::Args)]
pub(crate) struct PublishArgs {
    #[command(flatten)]
    broker: BrokerArgs,
    /// Connections that publish, each to a topic of its own and with 64 requests open
    #[arg(long, default_value_t = 64)]
    publishers: usize,
    /// Bytes of a payload
    #[arg(long, default_value_t = 128)]
    payload: usize,
    /// Seconds of each measurement at saturation
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Interleaved runs; the median is shown
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Single publishes in each run
    #[arg(long, default_value_t = 500)]
    singles: usize,
    /// A short run that shows that it works
    #[arg(long)]
    quick: bool,
}

/// What saturation came to.
#[derive(Debug, Clone, Copy)]
struct Rate {
    /// Messages a second.
    messages: f64,
    /// Messages of a transaction.
    batch: f64,
    /// CPU seconds per million messages.
    cpu: f64,
}

pub(crate) fn run(args: &PublishArgs) -> anyhow::Result<()> {
    ensure!(args.publishers > 0, "at least one publisher is needed");
    machine::check_open_files(args.publishers)?;
    let (n_runs, time, n_singles) = if args.quick {
        (1, Duration::from_millis(500), COMMITS_PER_TURN)
    } else {
        (args.runs, Duration::from_secs(args.seconds), args.singles)
    };
    let (mut broker, mut bare, mut lone) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..n_runs {
        let rate = saturate(args, time)?;
        broker.push(rate);
        // The same number of rows in a transaction, as near as there is one.
        let batch = rate.batch.round().max(1.0);
        bare.push(insert(args, time, batch as usize)?);
        lone.push(alternate(args, n_singles)?);
    }
    show_rates(args, &broker, &bare);
    show_lone(n_singles, &lone);
    Ok(())
}

/// Publishes as much as the broker acknowledges.
fn saturate(args: &PublishArgs, time: Duration) -> anyhow::Result<Rate> {
    let broker = Broker::start(&args.broker, &[])?;
    let mut load = Load::new()?;
    load.open(broker.address(), args.publishers, Opening::WebSocket(Compression::Plain))?;
    let mut publishers = Publishers::new(args)?;
    for place in 0..args.publishers {
        publishers.publish(&load, place, REQUESTS_OPEN)?;
    }
    publishers.run(&mut load, time / 5)?;
    let counters = || {
        anyhow::Ok((
            broker.metric("bongsu_messages_stored_total")?,
            broker.metric("bongsu_store_batches_total")?,
        ))
    };
    let ((stored, batches), cpu) = (counters()?, machine::cpu_seconds(broker.pid())?);
    let began = Instant::now();
    let n_acknowledged = publishers.run(&mut load, time)? as f64;
    let (seconds, cpu) = (began.elapsed().as_secs_f64(), machine::cpu_seconds(broker.pid())? - cpu);
    let (stored_now, batches_now) = counters()?;
    let batch = (stored_now - stored) as f64 / ((batches_now - batches).max(1)) as f64;
    Ok(Rate { messages: n_acknowledged / seconds, batch, cpu: cpu / n_acknowledged * 1e6 })
}

/// Clients that keep a number of requests open.
struct Publishers {
    topics: Vec<Topic>,
    payload: Bytes,
    /// The last request of each.
    ids: Vec<u64>,
}

impl Publishers {
    fn new(args: &PublishArgs) -> anyhow::Result<Self> {
        let topic = |place| Topic::parse(&format!("bench/publish/{place}"));
        Ok(Self {
            topics: (0..args.publishers).map(topic).collect::<Result<_, _>>()?,
            payload: vec![b'x'; args.payload].into(),
            ids: vec![0; args.publishers],
        })
    }

    fn publish(&mut self, load: &Load, place: usize, n_messages: u64) -> anyhow::Result<()> {
        let mut bytes = Vec::new();
        for _ in 0..n_messages {
            self.ids[place] += 1;
            bytes.extend(wire::publish(self.ids[place], &self.topics[place], self.payload.clone()));
        }
        load.send(place, &bytes)
    }

    /// Publishes anew for each acknowledgment; answers how many there were.
    fn run(&mut self, load: &mut Load, time: Duration) -> anyhow::Result<u64> {
        let began = Instant::now();
        let (mut n_acknowledged, mut answers) = (0, vec![0; self.topics.len()]);
        while began.elapsed() < time {
            let mut refused = None;
            load.pump(Duration::from_millis(100), |place, frame| match acknowledgments(frame.body) {
                Ok(n_messages) => answers[place] += n_messages,
                Err(error) => refused = Some(error),
            })?;
            if let Some(error) = refused {
                return Err(error);
            }
            for (place, n_answers) in answers.iter_mut().enumerate() {
                let n_messages = std::mem::take(n_answers);
                n_acknowledged += n_messages;
                if n_messages > 0 {
                    self.publish(load, place, n_messages)?;
                }
            }
        }
        Ok(n_acknowledged)
    }
}

/// Messages that a frame says are stored.
fn acknowledgments(body: &[u8]) -> anyhow::Result<u64> {
    let mut n_messages = 0;
    for event in codec::decode_events(Format::Binary, &Bytes::copy_from_slice(body))? {
        let Event::Reply { result: Ok(Reply::Published(published)), .. } = event else {
            anyhow::bail!("a publish was answered with {event:?}");
        };
        for published in published {
            published.map_err(|error| anyhow::anyhow!("a publish was refused: {error:?}"))?;
            n_messages += 1;
        }
    }
    Ok(n_messages)
}

/// Inserts the same rows without a broker, on the broker's core.
fn insert(args: &PublishArgs, time: Duration, batch: usize) -> anyhow::Result<Rate> {
    let folder = args.broker.folder()?;
    machine::pin(Core::Server)?;
    let mut rows = Rows::open(folder.path(), args.publishers, args.payload)?;
    let warm = Instant::now();
    while warm.elapsed() < time / 5 {
        rows.insert(batch)?;
    }
    let (cpu, began) = (machine::cpu_seconds(std::process::id())?, Instant::now());
    let mut n_rows = 0;
    while began.elapsed() < time {
        rows.insert(batch)?;
        n_rows += batch;
    }
    let (seconds, cpu) = (began.elapsed().as_secs_f64(), machine::cpu_seconds(std::process::id())? - cpu);
    machine::pin(Core::Load)?;
    let n_rows = n_rows as f64;
    Ok(Rate { messages: n_rows / seconds, batch: batch as f64, cpu: cpu / n_rows * 1e6 })
}

/// Microseconds of single publishes and of single commits, which take turns.
fn alternate(args: &PublishArgs, n_singles: usize) -> anyhow::Result<(Vec<f64>, Vec<f64>)> {
    let broker = Broker::start(&args.broker, &[])?;
    let mut load = Load::new()?;
    load.open(broker.address(), 1, Opening::WebSocket(Compression::Plain))?;
    // Beside the broker's own file, so that both are on one file system.
    let folder =
        tempfile::tempdir_in(broker.folder()).context("cannot make a folder beside the broker's file")?;
    let mut rows = Rows::open(folder.path(), 1, args.payload)?;
    let topic = Topic::parse("bench/lone")?;
    let (mut publishes, mut commits) = (Vec::new(), Vec::new());
    let mut id = 0;
    while publishes.len() < n_singles {
        for _ in 0..COMMITS_PER_TURN {
            id += 1;
            let bytes = wire::publish(id, &topic, vec![b'x'; args.payload]);
            let began = Instant::now();
            load.send(0, &bytes)?;
            load.take_frames("an acknowledgment", 1)?;
            publishes.push(micros(began));
        }
        machine::pin(Core::Server)?;
        for _ in 0..COMMITS_PER_TURN {
            let began = Instant::now();
            rows.insert(1)?;
            commits.push(micros(began));
        }
        machine::pin(Core::Load)?;
    }
    Ok((publishes, commits))
}

fn micros(began: Instant) -> f64 {
    began.elapsed().as_secs_f64() * 1e6
}

fn show_rates(args: &PublishArgs, broker: &[Rate], bare: &[Rate]) {
    println!(
        "\n{} publishers with {REQUESTS_OPEN} requests open each, {} bytes of payload, full durability, median of {}:\n",
        args.publishers,
        args.payload,
        broker.len()
    );
    let rate = |rates: &[Rate]| median(rates.iter().map(|rate| rate.messages));
    let mut table =
        Table::new(&["", "messages/s", "of the bare loop", "messages per commit", "CPU-s per M", "runs"]);
    for (name, rates) in [("bare loop of inserts", bare), ("broker, acknowledged", broker)] {
        let runs: Vec<String> = rates.iter().map(|rate| format!("{:.0}", rate.messages)).collect();
        table.row(&[
            name.to_owned(),
            format!("{:.0}", rate(rates)),
            format!("{:.2}", rate(rates) / rate(bare)),
            format!("{:.0}", median(rates.iter().map(|rate| rate.batch))),
            format!("{:.2}", median(rates.iter().map(|rate| rate.cpu))),
            runs.join(" "),
        ]);
    }
    table.print();
}

fn show_lone(n_singles: usize, runs: &[(Vec<f64>, Vec<f64>)]) {
    println!("\nOne publish at a time, {n_singles} in a run, median of {} runs' medians:\n", runs.len());
    let publishes: Vec<f64> = runs.iter().map(|(publishes, _)| median(publishes.iter().copied())).collect();
    let commits: Vec<f64> = runs.iter().map(|(_, commits)| median(commits.iter().copied())).collect();
    let bare = median(commits.iter().copied());
    let mut table = Table::new(&["", "microseconds", "of one bare commit", "runs"]);
    for (name, medians) in [("one bare commit", commits), ("one publish, acknowledged", publishes)] {
        let all: Vec<String> = medians.iter().map(|median| format!("{median:.0}")).collect();
        let middle = median(medians);
        table.row(&[name.to_owned(), format!("{middle:.0}"), format!("{:.2}", middle / bare), all.join(" ")]);
    }
    table.print();
}
