//! `bongsu sub`.

use std::collections::HashMap;
use std::future::poll_fn;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::task::Poll;

use anyhow::{Context as _, bail};
use bongsu_client::{Client, Error, ErrorCode, Item, Position, Start, Subscription, Topic, TopicFilter};
use clap::Args;
use futures_util::StreamExt as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;

use super::output::Output;
use super::positions::Positions;
use super::{ConnectArgs, start};

/// What the help ends with.
pub(super) const EXAMPLES: &str = "\
Each message's payload is printed as it came, and a line break after it. Lost messages and logs made anew are told on standard
error, and with --json as objects too. Broken connections are made again, and reading goes on where it was.

With --positions, a later run goes on where this one ended, also after kill -9. The file is replaced after what was read was
written, so that nothing is lost; on standard output, a kill in between repeats the last few messages. With --output as well, the
length of the output is remembered beside the positions, and what lies behind it is cut off: each message is there exactly once.
Topics without history have no positions and are not read again.

The exit status is 0 if it ended as asked (--count, --exit-at-head, SIGINT, SIGTERM, a closed pipe), and 1 otherwise.

Examples:
  bongsu sub 'chat/#' --from last=10
  bongsu sub logs/syslog --from 2026-01-31T12:00:00Z --json
  bongsu sub orders --from earliest --positions orders.pos --output orders.txt
  bongsu sub 'config/+' --from last=1 --exit-at-head";

/// Read topics to standard output or a file
#[derive(Debug, Args)]
pub struct SubArgs {
    /// Topic to read, or a pattern: `+` stands for one level, a last `#` for the rest
    #[arg(required = true, value_name = "FILTER", value_parser = parse_filter)]
    filters: Vec<TopicFilter>,
    /// Where to start: latest, earliest, last=N, EPOCH:OFFSET (after it; one topic only), @MILLISECONDS since 1970, or a time such as
    /// 2026-01-31T12:00:00Z
    #[arg(long, value_name = "START", default_value = "latest", value_parser = start::parse)]
    from: Start,
    /// Stop after this many messages
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Stop once everything that was there at the start was read
    #[arg(long)]
    exit_at_head: bool,
    /// Print each message as a JSON object in a line: topic, epoch, offset, time, id, publisher, type, headers, and data, text or bytes
    #[arg(long)]
    json: bool,
    /// Remember positions in this file, and go on from there; then --from holds for what the file does not know
    #[arg(long, value_name = "FILE")]
    positions: Option<PathBuf>,
    /// Write to this file instead of standard output. Without --positions it is written anew
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    connect: ConnectArgs,
}

fn parse_filter(text: &str) -> Result<TopicFilter, String> {
    TopicFilter::parse(text).map_err(|error| error.to_string())
}

/// Why reading ended.
enum End {
    AsAsked,
    Failed(anyhow::Error),
}

struct Reading {
    subscriptions: Vec<Subscription>,
    positions: Positions,
    output: Output,
    /// Messages that are still wanted.
    n_wanted: Option<u64>,
    head: Head,
}

/// What `--exit-at-head` waits for.
enum Head {
    NotAskedFor,
    /// For where the subscriptions started.
    Starts,
    /// For the newest positions at that time.
    Asked(JoinHandle<anyhow::Result<HashMap<Topic, Position>>>),
    /// For these positions to be reached.
    Known(HashMap<Topic, Position>),
}

pub(super) async fn run(args: SubArgs) -> anyhow::Result<()> {
    let patterns = args.filters.iter().any(|filter| filter.as_topic().is_none());
    match args.from {
        Start::After(_) if patterns || args.filters.len() > 1 => {
            bail!("--from EPOCH:OFFSET is a place in one topic: name one topic, or use --positions")
        }
        Start::Time(_) if patterns && args.exit_at_head => {
            bail!(
                "--exit-at-head with a pattern needs another --from than a time: the broker does not name the topics in advance"
            )
        }
        _ => {}
    }
    let mut signals = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let mut positions = Positions::load(args.positions)?;
    let client = args.connect.connect().await?;
    let output = match &args.output {
        Some(path) => Output::to_file(path, positions.output_bytes(), args.json)?,
        None => Output::to_stdout(args.json),
    };
    let subscriptions = subscribe(&client, &args.filters, args.from, &mut positions).await?;
    let head = if args.exit_at_head { Head::Starts } else { Head::NotAskedFor };
    let mut reading = Reading { subscriptions, positions, output, n_wanted: args.count, head };
    let end = tokio::select! {
        end = reading.run(&client) => end,
        _ = signals.0.recv() => End::AsAsked,
        _ = signals.1.recv() => End::AsAsked,
    };
    let written = reading.write();
    client.close().await;
    match (end, written) {
        (End::Failed(error), _) | (End::AsAsked, Err(error)) if !is_closed_pipe(&error) => Err(error),
        _ => Ok(()),
    }
}

async fn subscribe(
    client: &Client,
    filters: &[TopicFilter],
    from: Start,
    positions: &mut Positions,
) -> anyhow::Result<Vec<Subscription>> {
    let mut subscriptions: Vec<Subscription> = Vec::new();
    for filter in filters {
        if subscriptions.iter().any(|earlier| earlier.topic_filter() == filter) {
            continue;
        }
        let from = match (from, positions.since(filter.as_str())) {
            // The topics that an earlier run knew nothing of began after it did.
            (Start::Latest | Start::Last(_), Some(since)) => Start::Time(since),
            (from, _) => from,
        };
        let subscribing = client.subscribe(filter.as_str()).from(from).seen(positions.under(filter));
        subscriptions.push(subscribing.await.with_context(|| format!("cannot read {filter}"))?);
    }
    Ok(subscriptions)
}

impl Reading {
    async fn run(&mut self, client: &Client) -> End {
        match self.try_run(client).await {
            Ok(()) => End::AsAsked,
            Err(error) => End::Failed(error),
        }
    }

    async fn try_run(&mut self, client: &Client) -> anyhow::Result<()> {
        let mut n_started = 0;
        loop {
            // In the order in which they were made: where one starts may have to wait for the one before it.
            while let Some(started) = self.subscriptions.get(n_started).and_then(Subscription::started) {
                n_started += 1;
                self.positions.start(&started);
                if n_started == self.subscriptions.len() {
                    self.ask_for_heads(client);
                }
            }
            if self.is_at_head() {
                return Ok(());
            }
            let subscriptions = &mut self.subscriptions;
            let at_hand = poll_fn(|context| Poll::Ready(poll_next(subscriptions, n_started, context))).await;
            let next = match at_hand {
                Poll::Ready(next) => next,
                Poll::Pending => {
                    self.write()?;
                    let subscriptions = &mut self.subscriptions;
                    tokio::select! {
                        biased;
                        next = poll_fn(|context| poll_next(subscriptions, n_started, context)) => next,
                        heads = heads(&mut self.head) => {
                            self.head = Head::Known(heads?);
                            continue;
                        }
                    }
                }
            };
            let (whose, item) = match next {
                Next::Item(whose, item) => (whose, item),
                Next::Started => continue,
                Next::Over => bail!("the connection was closed"),
            };
            if let Item::Ended(error) = item {
                let filter = self.subscriptions[whose].topic_filter();
                return Err(error).with_context(|| format!("reading {filter} ended"));
            }
            self.take(whose, &item);
            if self.output.is_full() || self.n_wanted == Some(0) {
                self.write()?;
            }
            if self.n_wanted == Some(0) {
                return Ok(());
            }
        }
    }

    fn take(&mut self, whose: usize, item: &Item) {
        let topic = match item {
            Item::Message(delivery) => &delivery.topic,
            Item::Lost(lost) => &lost.topic,
            Item::Reset { topic, .. } => topic,
            Item::Ended(_) => return,
        };
        // Where filters overlap, each item comes once for each: it is the first one's.
        if self.subscriptions[..whose].iter().any(|earlier| earlier.topic_filter().matches(topic)) {
            return;
        }
        self.output.push(item);
        self.positions.see(item);
        if let (Item::Message(_), Some(n_wanted)) = (item, &mut self.n_wanted) {
            *n_wanted -= 1;
        }
    }

    /// Writes what was read, then remembers it.
    fn write(&mut self) -> anyhow::Result<()> {
        self.output.flush().context("cannot write")?;
        self.positions.save(self.output.n_bytes())
    }

    /// Asks for the newest position of each topic that has something to be read.
    fn ask_for_heads(&mut self, client: &Client) {
        if !matches!(self.head, Head::Starts) {
            return;
        }
        let started = self.subscriptions.iter().filter_map(Subscription::started);
        let topics: Vec<_> = started.flat_map(|it| it.positions).map(|(topic, _)| topic).collect();
        let client = client.clone();
        self.head = Head::Asked(tokio::spawn(async move {
            let mut heads = HashMap::new();
            for topic in topics {
                match client.history(topic.as_str()).limit(1).await {
                    Ok(page) => {
                        heads.insert(topic, page.head);
                    }
                    // It has no history any more.
                    Err(Error::Refused(error)) if error.code == ErrorCode::NotFound => {}
                    Err(error) => {
                        return Err(error).with_context(|| format!("cannot find the head of {topic}"));
                    }
                }
            }
            Ok(heads)
        }));
    }

    fn is_at_head(&mut self) -> bool {
        let Head::Known(heads) = &mut self.head else { return false };
        let positions = &self.positions;
        heads.retain(|topic, head| positions.of(topic).is_none_or(|position| position < *head));
        heads.is_empty()
    }
}

/// What the subscriptions bring.
enum Next {
    /// An item, and whose.
    Item(usize, Item),
    /// It is known where the next subscription started.
    Started,
    /// One of them is over.
    Over,
}

fn poll_next(
    subscriptions: &mut [Subscription],
    n_started: usize,
    context: &mut std::task::Context<'_>,
) -> Poll<Next> {
    for (whose, subscription) in subscriptions.iter_mut().enumerate() {
        if let Poll::Ready(item) = subscription.poll_next_unpin(context) {
            return Poll::Ready(item.map_or(Next::Over, |item| Next::Item(whose, item)));
        }
    }
    // Asked last: who wakes for an item wakes for this too.
    match subscriptions.get(n_started).and_then(Subscription::started) {
        Some(_) => Poll::Ready(Next::Started),
        None => Poll::Pending,
    }
}

/// Waits for the heads that were asked for, if any were.
async fn heads(head: &mut Head) -> anyhow::Result<HashMap<Topic, Position>> {
    match head {
        Head::Asked(asked) => asked.await?,
        Head::NotAskedFor | Head::Starts | Head::Known(_) => std::future::pending().await,
    }
}

/// Whether the reader of standard output went away, as `head` does: no failure.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.root_cause().downcast_ref::<std::io::Error>().is_some_and(|it| it.kind() == ErrorKind::BrokenPipe)
}
