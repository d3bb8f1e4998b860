//! What others feel while somebody misbehaves: the latency of a paced pair, with and without, in the same process.

mod attack;
mod socket;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use crate::broker::{Broker, BrokerArgs};
use crate::machine;
use crate::report::{Table, median};
use attack::Attack;
use socket::Socket;

/// The topic of the pair.
const TOPIC: &str = "bench/abuse";

/// The latency of others while somebody misbehaves
#[derive(Debug, clap::Args)]
pub(crate) struct AbuseArgs {
    #[command(flatten)]
    broker: BrokerArgs,
    /// Seconds of each phase, calm or not
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Messages a second of the pair
    #[arg(long, default_value_t = 100)]
    rate: u64,
    /// Interleaved runs; the median is shown
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// A short run that shows that it works
    #[arg(long)]
    quick: bool,
}

/// One phase with an attack, and the calm one before it.
struct Seen {
    calm: f64,
    attacked: f64,
    /// How often the attack was refused, or made an attempt that could be.
    refused: f64,
}

pub(crate) fn run(args: &AbuseArgs) -> anyhow::Result<()> {
    let (phase, n_runs) =
        if args.quick { (Duration::from_secs(1), 1) } else { (Duration::from_secs(args.seconds), args.runs) };
    machine::check_open_files(2000)?;
    let token = "auth.tokens=[{ name = \"pair\", sha256 = \
                 \"f3ccf2afbb3f1a1ea6b8b3a5f2c7d4c0f3ccf2afbb3f1a1ea6b8b3a5f2c7d4c0\" }]";
    let settings = [
        "storage.kind=memory",
        token,
        "auth.anonymous.subscribe=[\"bench/#\"]",
        "auth.anonymous.publish=[\"bench/#\"]",
        "stomp.listen=127.0.0.1:0",
    ];
    let broker = Broker::start(&args.broker, &settings)?;
    let stomp = broker.next_address("STOMP clients connect to stomp://")?;
    let mut table =
        Table::new(&["while", "refused a second", "calm p99, ms", "p99, ms", "times the calm one"]);
    for attack in Attack::ALL {
        let mut seen = Vec::new();
        for _ in 0..n_runs {
            let calm = p99(&pair(&broker, phase, args.rate)?);
            let raid = Raid::begin(*attack, broker.address(), stomp);
            let attacked = p99(&pair(&broker, phase, args.rate)?);
            let refused = raid.end() as f64 / phase.as_secs_f64();
            seen.push(Seen { calm, attacked, refused });
        }
        let of = |figure: fn(&Seen) -> f64| median(seen.iter().map(figure));
        table.row(&[
            attack.name().to_owned(),
            format!("{:.0}", of(|seen| seen.refused)),
            format!("{:.2}", of(|seen| seen.calm)),
            format!("{:.2}", of(|seen| seen.attacked)),
            format!("{:.2}", of(|seen| seen.attacked / seen.calm)),
        ]);
    }
    table.print();
    Ok(())
}

/// An attack under way.
struct Raid {
    is_over: Arc<AtomicBool>,
    n_refused: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Raid {
    fn begin(attack: Attack, clients: std::net::SocketAddr, stomp: std::net::SocketAddr) -> Self {
        let (is_over, n_refused) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (over, refused) = (Arc::clone(&is_over), Arc::clone(&n_refused));
        let work = move || {
            // It shares the load's core with the pair, whose latency must not be that of a core that is busy with attacking.
            let _ = rustix::process::nice(19);
            attack.run(clients, stomp, &over, &refused);
        };
        Self { is_over, n_refused, threads: vec![thread::spawn(work)] }
    }

    fn end(self) -> u64 {
        self.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads {
            // One that failed has refused nothing more.
            let _ = thread.join();
        }
        self.n_refused.load(Ordering::Relaxed)
    }
}

/// A publisher and a reader, each on a connection of its own: how long each message took from the one to the other.
fn pair(broker: &Broker, phase: Duration, rate: u64) -> anyhow::Result<Vec<Duration>> {
    let mut reader = Socket::web_socket(broker.address())?;
    reader.send(&format!(r#"{{"id":1,"subscribe":{{"subscriptions":[{{"filter":"{TOPIC}"}}]}}}}"#))?;
    while !reader.receive()?.contains("\"reply\"") {}
    let mut publisher = Socket::web_socket(broker.address())?;
    let sent: Arc<Mutex<Vec<Instant>>> = Arc::default();
    let n_messages = usize::try_from(phase.as_secs() * rate)?;
    let times = Arc::clone(&sent);
    let reading = thread::spawn(move || -> anyhow::Result<Vec<Duration>> {
        let mut latencies = Vec::with_capacity(n_messages);
        while latencies.len() < n_messages {
            let event = reader.receive()?;
            let now = Instant::now();
            if event.contains("\"delivery\"") {
                let sent = times.lock().unwrap_or_else(PoisonError::into_inner);
                // They come in the order in which they were sent.
                let at = sent.get(latencies.len()).context("a message came before it was sent")?;
                latencies.push(now.saturating_duration_since(*at));
            }
        }
        Ok(latencies)
    });
    let begun = Instant::now();
    for number in 0..n_messages {
        let due = Duration::from_secs_f64(number as f64 / rate as f64);
        machine::pause(due.saturating_sub(begun.elapsed()));
        sent.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
        let id = number + 1;
        publisher.send(&format!(
            r#"{{"id":{id},"publish":{{"messages":[{{"topic":"{TOPIC}","data":{id}}}]}}}}"#
        ))?;
        publisher.drain()?;
    }
    let latencies = reading.join().map_err(|_| anyhow::anyhow!("the reader failed"))??;
    ensure!(latencies.len() == n_messages, "not every message came");
    Ok(latencies)
}

/// Milliseconds that 99 of 100 took at most.
fn p99(latencies: &[Duration]) -> f64 {
    let mut sorted = latencies.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() * 99 / 100).map_or(f64::NAN, |latency| latency.as_secs_f64() * 1000.0)
}
