//! Many readers come back at once, some messages behind: time until all have what they missed, and what was read for it.

use std::time::Instant;

use anyhow::{Context as _, ensure};
use bongsu_protocol::codec::{self, Format};
use bongsu_protocol::command::{Command, Start};
use bongsu_protocol::event::{Event, Reply};
use bongsu_protocol::message::{Message, NewMessage};
use bongsu_protocol::position::{Offset, Position};
use bongsu_protocol::topic::Topic;
use bytes::Bytes;

use crate::broker::{Broker, BrokerArgs};
use crate::load::{Load, Opening};
use crate::machine;
use crate::report::{Table, median};
use crate::wire::{self, Compression};

/// Many readers resume at once
#[derive(Debug, clap::Args)]
pub(crate) struct ReconnectArgs {
    #[command(flatten)]
    broker: BrokerArgs,
    /// Connections, each reading one topic
    #[arg(long, default_value_t = 1000)]
    subscribers: usize,
    /// Topics
    #[arg(long, default_value_t = 100)]
    topics: usize,
    /// Messages that each of them missed
    #[arg(long, default_value_t = 50)]
    behind: u64,
    /// Messages of each topic
    #[arg(long, default_value_t = 500)]
    messages: u64,
    /// Bytes of a payload
    #[arg(long, default_value_t = 128)]
    payload: usize,
    /// Interleaved runs; the median is shown
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// A short run that shows that it works
    #[arg(long)]
    quick: bool,
}

/// What the broker has in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cache {
    /// The tails, since it took the messages itself.
    Warm,
    /// Nothing: it was started again.
    Cold,
}

/// What one storm came to.
#[derive(Debug, Clone, Copy)]
struct Storm {
    /// Milliseconds until all were connected.
    connected_ms: f64,
    /// Milliseconds until all had what they missed.
    live_ms: f64,
    /// Pages that were read from the store.
    reads: f64,
    /// Pages that readers took, from memory or from the store.
    pages: f64,
    /// CPU seconds of the broker.
    cpu: f64,
}

pub(crate) fn run(args: &ReconnectArgs) -> anyhow::Result<()> {
    ensure!(args.topics > 0 && args.behind <= args.messages, "a reader cannot miss more than there is");
    machine::check_open_files(args.subscribers)?;
    let n_runs = if args.quick { 1 } else { args.runs };
    let (mut warm, mut cold) = (Vec::new(), Vec::new());
    for _ in 0..n_runs {
        let broker = Broker::start(&args.broker, &[])?;
        let heads = fill(args, &broker)?;
        warm.push(storm(args, &broker, &heads)?);
        broker.wait_until_empty()?;
        let broker = broker.restart(&args.broker, &[])?;
        cold.push(storm(args, &broker, &heads)?);
    }
    println!(
        "\n{} readers of {} topics resume at once, each {} messages of {} bytes behind, median of {n_runs}:\n",
        args.subscribers, args.topics, args.behind, args.payload
    );
    let mut table = Table::new(&[
        "tail cache",
        "connected, ms",
        "all caught up, ms",
        "store reads",
        "pages to readers",
        "CPU-s",
        "runs, ms",
    ]);
    for (cache, storms) in [(Cache::Warm, &warm), (Cache::Cold, &cold)] {
        let middle = |value: fn(&Storm) -> f64| median(storms.iter().map(value));
        let runs: Vec<String> = storms.iter().map(|storm| format!("{:.0}", storm.live_ms)).collect();
        table.row(&[
            if cache == Cache::Warm { "warm" } else { "cold, broker just started" }.to_owned(),
            format!("{:.0}", middle(|storm| storm.connected_ms)),
            format!("{:.0}", middle(|storm| storm.live_ms)),
            format!("{:.0}", middle(|storm| storm.reads)),
            format!("{:.0}", middle(|storm| storm.pages)),
            format!("{:.2}", middle(|storm| storm.cpu)),
            runs.join(" "),
        ]);
    }
    table.print();
    Ok(())
}

fn topic(number: usize) -> String {
    format!("bench/reconnect/{number}")
}

/// Publishes the history of each topic; answers the topics' heads.
fn fill(args: &ReconnectArgs, broker: &Broker) -> anyhow::Result<Vec<Position>> {
    let mut load = Load::new()?;
    load.open(broker.address(), 1, Opening::WebSocket(Compression::Plain))?;
    let (mut heads, mut id) = (Vec::new(), 0);
    for number in 0..args.topics {
        let topic = Topic::parse(&topic(number))?;
        let message = |number| NewMessage {
            topic: topic.clone(),
            message: Message::new(wire::numbered_payload(args.payload, number)),
            expect: None,
        };
        let messages: Vec<NewMessage> = (1..=args.messages).map(message).collect();
        for messages in messages.chunks(1024) {
            id += 1;
            load.send(0, &wire::request(id, Command::Publish(messages.to_vec())))?;
            let mut head = None;
            load.pump_until("an acknowledgment", |_, frame| {
                head = Some(newest(frame.body));
                true
            })?;
            heads.truncate(number);
            heads.push(head.context("no acknowledgment came")??);
        }
    }
    Ok(heads)
}

/// The last position that a reply to a publish names.
fn newest(body: &[u8]) -> anyhow::Result<Position> {
    let events = codec::decode_events(Format::Binary, &Bytes::copy_from_slice(body))?;
    let Some(Event::Reply { result: Ok(Reply::Published(published)), .. }) = events.into_iter().next() else {
        anyhow::bail!("a publish was not answered with positions");
    };
    match published.into_iter().next_back() {
        Some(Ok(published)) => published.position.context("a durable message has no position"),
        other => anyhow::bail!("a publish was answered with {other:?}"),
    }
}

fn storm(args: &ReconnectArgs, broker: &Broker, heads: &[Position]) -> anyhow::Result<Storm> {
    let counters = || {
        let [reads, pages] =
            ["bongsu_store_reads_total", "bongsu_catch_up_pages_total"].map(|name| broker.metric(name));
        anyhow::Ok((reads? as f64, pages? as f64, machine::cpu_seconds(broker.pid())?))
    };
    let before = counters()?;
    let began = Instant::now();
    let mut load = Load::new()?;
    load.open(broker.address(), args.subscribers, Opening::WebSocket(Compression::Plain))?;
    let connected_ms = began.elapsed().as_secs_f64() * 1e3;
    for place in 0..args.subscribers {
        let number = place % args.topics;
        let head = heads[number];
        let from = Position { offset: Offset(head.offset.0 - args.behind), ..head };
        load.send(place, &wire::subscribe(1, &topic(number), Start::After(from))?)?;
    }
    // Each gets the answer to its subscription, and what it missed in order.
    let (mut expected, mut n_left, mut n_wrong) =
        (vec![args.messages - args.behind + 1; args.subscribers], args.subscribers, 0);
    let mut n_answers = 0;
    load.pump_until("what was missed", |place, frame| {
        if frame.size_bytes < args.payload || frame.number().is_none_or(|number| number > args.messages) {
            n_answers += 1;
        } else {
            n_wrong += usize::from(frame.number() != Some(expected[place]));
            expected[place] += 1;
            n_left -= usize::from(expected[place] > args.messages);
        }
        n_left == 0 && n_answers == args.subscribers || n_wrong > 0
    })?;
    ensure!(n_wrong == 0, "a reader got another message than its next one");
    let live_ms = began.elapsed().as_secs_f64() * 1e3;
    let after = counters()?;
    Ok(Storm {
        connected_ms,
        live_ms,
        reads: after.0 - before.0,
        pages: after.1 - before.1,
        cpu: after.2 - before.2,
    })
}
