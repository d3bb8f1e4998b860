//! One topic to many connections: CPU time of the broker for a delivery, beside two bare loops.

use std::time::{Duration, Instant};

use anyhow::ensure;
use bongsu_protocol::command::Start;
use bongsu_protocol::topic::Topic;

use crate::broker::{Broker, BrokerArgs};
use crate::floor::{FanoutFloor, Floor, FloorKind, Writing};
use crate::load::{Load, Opening};
use crate::machine;
use crate::report::{Table, median};
use crate::wire::{self, Compression};

const TOPIC: &str = "bench/fanout";

/// Fan-out of one topic
#[derive(Debug, clap::Args)]
pub(crate) struct FanoutArgs {
    #[command(flatten)]
    broker: BrokerArgs,
    /// Connections that read the topic
    #[arg(long, default_value_t = 1000)]
    subscribers: usize,
    /// Bytes of a payload
    #[arg(long, default_value_t = 128)]
    payload: usize,
    /// Publishes that arrive together in the saturated case, at most 64
    #[arg(long, default_value_t = 32)]
    window: usize,
    /// Publishes a second in the paced case
    #[arg(long, default_value_t = 20)]
    rate: u32,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Interleaved runs; the median is shown
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Leave out the paced case
    #[arg(long)]
    no_paced: bool,
    /// Leave out the saturated case
    #[arg(long)]
    no_saturated: bool,
    /// A short run that shows that it works
    #[arg(long)]
    quick: bool,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Server {
    Durable,
    Live,
    Floor(Writing),
}

impl Server {
    const ALL: [Self; 4] =
        [Self::Floor(Writing::Coalesced), Self::Floor(Writing::Each), Self::Durable, Self::Live];

    const fn name(self) -> &'static str {
        match self {
            Self::Durable => "broker, durable topic",
            Self::Live => "broker, live topic",
            Self::Floor(Writing::Each) => "floor, one system call per message",
            Self::Floor(Writing::Coalesced) => "floor, pending messages in one system call",
        }
    }
}

/// How publishes come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// A window at once, the next one when all subscribers have it.
    Windows(usize),
    /// One at a time, so many a second.
    PerSecond(u32),
}

/// What one measurement came to.
#[derive(Debug, Clone, Copy)]
struct Cost {
    /// CPU seconds of the server per million deliveries.
    cpu_per_million: f64,
    /// Deliveries a second.
    rate: f64,
}

pub(crate) fn run(args: &FanoutArgs) -> anyhow::Result<()> {
    ensure!((1..=64).contains(&args.window), "a window is 1 to 64 publishes: a connection may have 64 open");
    machine::check_open_files(args.subscribers)?;
    let mut paces = vec![Pace::Windows(args.window), Pace::PerSecond(args.rate)];
    paces.retain(|pace| match pace {
        Pace::Windows(_) => !args.no_saturated,
        Pace::PerSecond(_) => !args.no_paced,
    });
    let (n_runs, time) = if args.quick {
        (1, Duration::from_millis(500))
    } else {
        (args.runs, Duration::from_secs(args.seconds))
    };
    let mut costs: Vec<Vec<Vec<Cost>>> = vec![vec![Vec::new(); Server::ALL.len()]; paces.len()];
    let frame_bytes = frame_bytes(args)?;
    for _ in 0..n_runs {
        for (pace, costs) in paces.iter().zip(&mut costs) {
            for (server, costs) in Server::ALL.iter().zip(costs) {
                costs.push(measure(args, *server, *pace, time, frame_bytes)?);
            }
        }
    }
    for (pace, costs) in paces.iter().zip(&costs) {
        show(args, *pace, frame_bytes, costs);
    }
    Ok(())
}

/// Bytes of a delivery's frame, seen on a connection, so that the floors write as many.
fn frame_bytes(args: &FanoutArgs) -> anyhow::Result<usize> {
    let broker = Broker::start(&args.broker, &[])?;
    let mut load = Load::new()?;
    load.open(broker.address(), 1, Opening::WebSocket(Compression::Plain))?;
    load.ask_each("subscribing", |_| wire::subscribe(1, TOPIC, Start::Latest))?;
    load.send(0, &publish(args, 2, 0)?)?;
    let mut n_bytes = 0;
    load.pump_until("a delivery", |_, frame| {
        n_bytes = n_bytes.max(frame.size_bytes);
        n_bytes > args.payload
    })?;
    Ok(n_bytes)
}

/// A publish whose frame has the same length whatever its numbers are.
fn publish(args: &FanoutArgs, id: u64, number: u64) -> anyhow::Result<Vec<u8>> {
    /// Three bytes as a varint, and so are all that a run needs.
    const FIRST_ID: u64 = 1 << 14;
    Ok(wire::publish(FIRST_ID + id, &Topic::parse(TOPIC)?, wire::numbered_payload(args.payload, number)))
}

fn measure(
    args: &FanoutArgs,
    server: Server,
    pace: Pace,
    time: Duration,
    frame_bytes: usize,
) -> anyhow::Result<Cost> {
    let opening = Opening::WebSocket(Compression::Plain);
    // The load goes before its server, which then has nobody to take leave of.
    match server {
        Server::Floor(writing) => {
            let publish_bytes = publish(args, 0, 0)?.len();
            let floor = Floor::start(FloorKind::Fanout(FanoutFloor {
                subscribers: args.subscribers,
                publish_bytes,
                frame_bytes,
                writing,
            }))?;
            let mut load = Load::new()?;
            load.open(floor.address(), args.subscribers + 1, Opening::Bare)?;
            drive(args, &mut load, floor.pid(), pace, time, false)
        }
        Server::Durable | Server::Live => {
            let live: &[&str] = &["topics=[{filter=\"#\",kind=\"live\"}]"];
            let broker = Broker::start(&args.broker, if server == Server::Live { live } else { &[] })?;
            let mut load = Load::new()?;
            load.open(broker.address(), args.subscribers + 1, opening)?;
            load.ask_each("subscribing", |place| match place {
                // The publisher asks for something too, so that everyone gets an answer.
                0 => Ok(wire::request(1, bongsu_protocol::command::Command::Ping)),
                _ => wire::subscribe(1, TOPIC, Start::Latest),
            })?;
            drive(args, &mut load, broker.pid(), pace, time, true)
        }
    }
}

/// Publishes for a while, and looks at what that cost the server.
fn drive(
    args: &FanoutArgs,
    load: &mut Load,
    pid: u32,
    pace: Pace,
    time: Duration,
    is_numbered: bool,
) -> anyhow::Result<Cost> {
    let mut readers = vec![0_u64; load.len()];
    let mut n_published = 0;
    // One window to warm up, then the time is measured.
    window(args, load, &mut n_published, args.window, &mut readers, is_numbered)?;
    let (cpu, began) = (machine::cpu_seconds(pid)?, Instant::now());
    let n_before = n_published;
    while began.elapsed() < time {
        match pace {
            Pace::Windows(size) => window(args, load, &mut n_published, size, &mut readers, is_numbered)?,
            Pace::PerSecond(rate) => {
                let due = began + Duration::from_secs(n_published - n_before) / rate;
                while let Some(left) = due.checked_duration_since(Instant::now()) {
                    // Only acknowledgments of the publish before can come.
                    load.pump(left, |_, _| {})?;
                }
                window(args, load, &mut n_published, 1, &mut readers, is_numbered)?;
            }
        }
    }
    let (seconds, cpu) = (began.elapsed().as_secs_f64(), machine::cpu_seconds(pid)? - cpu);
    let n_deliveries = (n_published - n_before) as f64 * args.subscribers as f64;
    Ok(Cost { cpu_per_million: cpu / n_deliveries * 1e6, rate: n_deliveries / seconds })
}

/// Publishes some messages together, and waits until every subscriber has all of them, in order.
fn window(
    args: &FanoutArgs,
    load: &mut Load,
    n_published: &mut u64,
    n_messages: usize,
    readers: &mut [u64],
    is_numbered: bool,
) -> anyhow::Result<()> {
    let mut bytes = Vec::new();
    for _ in 0..n_messages {
        bytes.extend(publish(args, *n_published + 2, *n_published)?);
        *n_published += 1;
    }
    load.send(0, &bytes)?;
    let mut n_left = n_messages * args.subscribers;
    let mut wrong = None;
    load.pump_until("deliveries", |place, frame| {
        // The publisher gets acknowledgments.
        if place != 0 {
            if is_numbered && frame.number() != Some(readers[place]) {
                wrong = wrong.or_else(|| Some((place, readers[place], frame.number())));
            }
            readers[place] += 1;
            n_left -= 1;
        }
        n_left == 0 || wrong.is_some()
    })?;
    if let Some((place, expected, found)) = wrong {
        anyhow::bail!("connection {place} was to get message {expected} and got {found:?}");
    }
    Ok(())
}

fn show(args: &FanoutArgs, pace: Pace, frame_bytes: usize, costs: &[Vec<Cost>]) {
    let n_runs = costs.first().map_or(0, Vec::len);
    let (load, floor) = match pace {
        Pace::Windows(size) => (format!("windows of {size} publishes"), Writing::Coalesced),
        Pace::PerSecond(rate) => (format!("{rate} publishes a second"), Writing::Each),
    };
    println!(
        "\nOne topic to {} connections, {} bytes of payload ({frame_bytes} with all headers), {load}, median of {n_runs}:\n",
        args.subscribers, args.payload
    );
    let cpu = |costs: &[Cost]| median(costs.iter().map(|cost| cost.cpu_per_million));
    let floor = Server::ALL.iter().position(|server| *server == Server::Floor(floor));
    let floor = floor.and_then(|place| costs.get(place)).map_or(f64::NAN, |costs| cpu(costs));
    let mut table =
        Table::new(&["server", "CPU-s per M deliveries", "times its floor", "deliveries/s", "runs"]);
    for (server, costs) in Server::ALL.iter().zip(costs) {
        let runs: Vec<String> = costs.iter().map(|cost| format!("{:.2}", cost.cpu_per_million)).collect();
        table.row(&[
            server.name().to_owned(),
            format!("{:.2}", cpu(costs)),
            format!("{:.2}", cpu(costs) / floor),
            format!("{:.0}", median(costs.iter().map(|cost| cost.rate))),
            runs.join(" "),
        ]);
    }
    table.print();
}
