//! A session between a log, a feed and a client that comes and goes: whatever happens, the client gets every message once.
//!
//! Each run is a seed. The world publishes, trims, delays the feed, fails reads, stalls the client and cuts the connection; the
//! client resumes as the protocol says. A checker with its own bookkeeping watches each topic. `SESSION_MODEL_SEED=n` repeats one
//! run, `SESSION_MODEL_RUNS=n` makes more.

#![expect(clippy::unwrap_used, reason = "the model is wrong if one fails")]

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bongsu_protocol::command::{
    Command, HistoryQuery, HistoryRange, Request, RequestId, Start, Subscription,
};
use bongsu_protocol::event::{Event, Reply};
use bongsu_protocol::message::Time;
use bongsu_protocol::position::Position;
use bongsu_protocol::reason::{Error, ErrorCode};
use bongsu_protocol::session::{
    Bounds, Effect, Grants, Listed, LogPage, Offer, Outgoing, Session, SlowReader, TopicKind,
};
use bongsu_protocol::topic::{Topic, TopicFilter};

const TOPICS: [&str; 4] = ["a/x", "a/y", "b/x", "c"];
/// Logs that a listing names at a time: small, so that listings have several steps.
const LISTED_AT_A_TIME: usize = 2;
/// Ticks that a message is under way to the session at most; what `since` lies back by.
const FEED_DELAY_MAX: u64 = 50;

/// A small generator of its own, so that a seed means the same run for ever (xorshift64*).
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % n
    }

    fn chance(&mut self, one_in: u64) -> bool {
        self.below(one_in) == 0
    }
}

/// A message as it is shared: its topic and place.
type Item = (Topic, Position);

#[derive(Default)]
struct Log {
    /// The time of each message; the first has offset 1.
    times: Vec<u64>,
    n_trimmed: u64,
}

impl Log {
    fn head(&self) -> Position {
        if self.times.is_empty() { Position::default() } else { Position::new(7, self.times.len() as u64) }
    }

    fn first(&self) -> Position {
        if self.times.is_empty() { Position::new(0, 1) } else { Position::new(7, self.n_trimmed + 1) }
    }

    fn page(&self, topic: &Topic, query: &HistoryQuery) -> LogPage<Item> {
        let (first, head) = (self.first(), self.head());
        let HistoryRange::Forward(start) = query.range else { panic!("readers read forward") };
        let after = match start {
            Start::Latest => head.offset.0,
            Start::Earliest => self.n_trimmed,
            Start::Last(n) => head.offset.0.saturating_sub(n),
            Start::After(position) if position.epoch == head.epoch => position.offset.0,
            Start::After(_) => head.offset.0,
            Start::Time(time) => self.times.iter().filter(|at| **at < time.0).count() as u64,
        };
        let after = after.max(self.n_trimmed);
        let offsets = (after + 1..=head.offset.0).take(query.limit.min(5) as usize);
        let item = |offset| (Position::new(7, offset), 10, (topic.clone(), Position::new(7, offset)));
        LogPage { items: offsets.map(item).collect(), first, end: head, head }
    }
}

enum Fed {
    Message { topic: Topic, position: Position, queued_at: u64 },
    Watch(TopicFilter),
    Unwatch(TopicFilter),
}

/// What the client knows of a topic: the checker.
#[derive(Default)]
struct Seen {
    /// The first offset that came, or was told to be lost.
    first: Option<u64>,
    newest: Option<u64>,
}

struct World {
    random: Random,
    now: u64,
    logs: BTreeMap<Topic, Log>,
    session: Session<Item>,
    watched: Vec<TopicFilter>,
    feed: VecDeque<Fed>,
    /// Reads under way; some were answered when they were asked, but the answer takes its time.
    reads: VecDeque<(HistoryQuery, Option<LogPage<Item>>)>,
    lists: VecDeque<(TopicFilter, Option<Topic>)>,
    n_reads: u64,
    client: Client,
}

struct Client {
    filters: Vec<(TopicFilter, Start)>,
    /// What `Subscribed` said, per filter.
    since: BTreeMap<TopicFilter, Time>,
    seen: BTreeMap<Topic, Seen>,
    /// Offsets below which a topic's messages were published before the subscription was known to be there.
    must_have_from: BTreeMap<Topic, u64>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let filter = |text: &str| TopicFilter::parse(text).unwrap();
        let shapes: [&[&str]; 4] = [&["a/x"], &["a/#", "c"], &["#"], &["a/x", "a/+"]];
        let starts = [Start::Latest, Start::Earliest, Start::Last(3)];
        let shape = shapes[random.below(4) as usize];
        let filters = shape.iter().map(|text| (filter(text), starts[random.below(3) as usize])).collect();
        let logs = TOPICS.iter().map(|name| (Topic::parse(name).unwrap(), Log::default())).collect();
        let client = Client {
            filters,
            since: BTreeMap::new(),
            seen: BTreeMap::new(),
            must_have_from: BTreeMap::new(),
        };
        let mut world = Self {
            random,
            now: 1000,
            logs,
            session: session(),
            watched: Vec::new(),
            feed: VecDeque::new(),
            reads: VecDeque::new(),
            lists: VecDeque::new(),
            n_reads: 0,
            client,
        };
        for _ in 0..world.random.below(20) {
            world.publish();
        }
        world.feed.clear();
        world.connect();
        world
    }

    fn mono(&self) -> Duration {
        Duration::from_millis(self.now)
    }

    fn publish(&mut self) {
        let name = TOPICS[self.random.below(4) as usize];
        let topic = Topic::parse(name).unwrap();
        let log = self.logs.get_mut(&topic).unwrap();
        log.times.push(self.now);
        let position = log.head();
        self.feed.push_back(Fed::Message { topic, position, queued_at: self.now });
    }

    /// A new connection: the client subscribes, or resumes with what it knows.
    fn connect(&mut self) {
        self.session = session();
        self.watched.clear();
        self.reads.clear();
        self.lists.clear();
        self.feed.retain(|fed| matches!(fed, Fed::Message { .. }));
        let client = &self.client;
        let resume = |(filter, from): &(TopicFilter, Start)| {
            let seen = |(topic, seen): (&Topic, &Seen)| {
                let newest = seen.newest.filter(|_| filter.matches(topic))?;
                Some((topic.clone(), Position::new(if newest == 0 { 0 } else { 7 }, newest)))
            };
            let seen: Vec<_> = client.seen.iter().filter_map(seen).collect();
            let from = match client.since.get(filter) {
                Some(since) if filter.as_topic().is_none() => Start::Time(*since),
                _ => *from,
            };
            Subscription { filter: filter.clone(), from, seen }
        };
        let subscriptions = client.filters.iter().map(resume).collect();
        self.session
            .handle(Time(0), Ok(Request { id: RequestId(1), command: Command::Subscribe(subscriptions) }));
    }

    fn effects(&mut self) {
        let due = self.session.poll_timeout().is_some_and(|at| at <= self.mono());
        if due || self.session.wants_poll() {
            self.session.poll(self.mono());
            // A time that has passed would be waited for without an end.
            let next = self.session.poll_timeout();
            assert!(next.is_none_or(|at| at > self.mono()), "polled at {:?}, due at {next:?}", self.mono());
        }
        while let Some(effect) = self.session.poll_effect() {
            match effect {
                Effect::Watch { filter } => self.feed.push_back(Fed::Watch(filter)),
                Effect::Unwatch { filter } => self.feed.push_back(Fed::Unwatch(filter)),
                Effect::Read { query } => {
                    let now =
                        self.random.chance(2).then(|| self.logs[&query.topic].page(&query.topic, &query));
                    self.reads.push_back((query, now));
                }
                Effect::List { filter, after } => self.lists.push_back((filter, after)),
                other => panic!("unexpected {other:?}"),
            }
        }
        assert!(self.reads.len() <= 1, "one read at a time");
    }

    fn feed_one(&mut self) {
        match self.feed.pop_front() {
            Some(Fed::Message { topic, position, .. }) => self.feed_message(&topic, position),
            Some(Fed::Watch(filter)) => {
                self.watched.push(filter.clone());
                self.session.watched(&filter, TopicKind::Durable, Time(self.now - FEED_DELAY_MAX));
            }
            Some(Fed::Unwatch(filter)) => self.watched.retain(|watched| *watched != filter),
            None => {}
        }
    }

    fn feed_message(&mut self, topic: &Topic, position: Position) {
        if self.watched.iter().any(|filter| filter.matches(topic)) {
            let item = &(topic.clone(), position);
            let (slow_reader, bytes) = (SlowReader::DropOldest, 10);
            self.session.offer(&Offer { topic, position: Some(position), slow_reader, bytes, item });
        }
    }

    fn answer_read(&mut self, fails: bool) {
        let Some((query, early)) = self.reads.pop_front() else { return };
        self.n_reads += 1;
        let log = &self.logs[&query.topic];
        let mut page = early.unwrap_or_else(|| log.page(&query.topic, &query));
        // The node may have heard of messages that came while the answer was under way.
        if self.random.chance(2) {
            page.head = page.head.max(log.head());
        }
        let result = if fails { Err(unavailable()) } else { Ok(page) };
        self.session.read_done(self.mono(), result);
    }

    fn answer_list(&mut self) {
        let Some((filter, after)) = self.lists.pop_front() else { return };
        let wanted = |(topic, log): &(&Topic, &Log)| {
            !log.times.is_empty()
                && filter.matches(topic)
                && after.as_ref().is_none_or(|after| *topic > after)
        };
        let listed = |(topic, log): (&Topic, &Log)| (topic.clone(), log.first(), log.head());
        let logs: Vec<Listed> = self.logs.iter().filter(wanted).map(listed).take(LISTED_AT_A_TIME).collect();
        self.session.listed(&filter, Ok(logs));
    }

    /// The client takes what the connection sends, and checks it.
    fn take(&mut self, n: u64) {
        for _ in 0..n {
            let Some(outgoing) = self.session.poll_outgoing() else { return };
            match outgoing {
                Outgoing::Delivery((topic, position)) => {
                    let seen = self.client.seen.entry(topic.clone()).or_default();
                    if let Some(newest) = seen.newest {
                        assert_eq!(position.offset.0, newest + 1, "{topic}: not the next message");
                    }
                    seen.first.get_or_insert(position.offset.0);
                    seen.newest = Some(position.offset.0);
                }
                Outgoing::Event(event) => self.take_event(*event),
            }
        }
    }

    fn take_event(&mut self, event: Event) {
        match event {
            Event::Lost(lost) => {
                let range = lost.range.expect("the topic keeps history");
                let seen = self.client.seen.entry(lost.topic.clone()).or_default();
                assert_eq!(
                    seen.newest.map_or(range.from.0, |newest| newest + 1),
                    range.from.0,
                    "loss begins elsewhere"
                );
                assert!(range.until.0 <= self.logs[&lost.topic].n_trimmed, "told of a loss that was none");
                seen.first.get_or_insert(range.from.0);
                seen.newest = Some(range.until.0);
            }
            Event::Reply { result: Ok(Reply::Subscribed(results)), .. } => {
                for subscribed in results.into_iter().flatten() {
                    self.client.since.entry(subscribed.filter.clone()).or_insert(subscribed.since);
                    for (topic, position) in subscribed.positions {
                        let seen = self.client.seen.entry(topic).or_default();
                        seen.newest = seen.newest.max(Some(position.offset.0));
                    }
                    for (topic, log) in &self.logs {
                        if subscribed.filter.matches(topic) {
                            let next = log.times.len() as u64 + 1;
                            self.client.must_have_from.entry(topic.clone()).or_insert(next);
                        }
                    }
                }
            }
            other => panic!("unexpected {other:?}"),
        }
    }

    fn step(&mut self) {
        self.now += 1;
        match self.random.below(12) {
            0..=2 => self.publish(),
            3..=5 => self.feed_one(),
            6 => self.answer_read(false),
            7 => self.answer_list(),
            8..=9 => {
                let n = self.random.below(4);
                self.take(n);
            }
            10 if self.random.chance(40) => self.connect(),
            11 if self.random.chance(20) => {
                let topic = Topic::parse(TOPICS[self.random.below(4) as usize]).unwrap();
                let log = self.logs.get_mut(&topic).unwrap();
                log.n_trimmed = (log.n_trimmed + 2).min(log.times.len() as u64);
            }
            // A read fails only once every subscription is there: before, its failure ends the subscription.
            11 if self.client.since.len() == self.client.filters.len() && self.random.chance(10) => {
                let starting = !self.session.filters().is_empty() && !self.reads.is_empty();
                if starting && matches!(self.reads[0].0.range, HistoryRange::Forward(Start::After(_))) {
                    self.answer_read(true);
                }
            }
            _ => {}
        }
        while matches!(self.feed.front(), Some(Fed::Message { queued_at, .. }) if queued_at + FEED_DELAY_MAX <= self.now)
        {
            self.feed_one();
        }
        self.effects();
    }

    /// Nothing disturbs any more: within few steps everything has arrived, and then nothing is asked.
    fn settle(&mut self) {
        for _ in 0..2000 {
            self.now += 10;
            self.feed_one();
            self.answer_read(false);
            self.answer_list();
            self.take(3);
            self.effects();
        }
        let n_reads = self.n_reads;
        for _ in 0..50 {
            self.now += 1000;
            self.effects();
            self.answer_read(false);
        }
        assert_eq!(self.n_reads, n_reads, "reads though all is quiet");
        assert_eq!(self.client.since.len(), self.client.filters.len(), "every subscription was made");
        for (topic, from) in &self.client.must_have_from {
            let head = self.logs[topic].times.len() as u64;
            if head >= *from {
                let seen = self.client.seen.get(topic).expect("something came of the topic");
                assert_eq!(seen.newest, Some(head), "{topic} did not reach its head");
                // Where only a time says what was missed, what retention took before the first message cannot be told.
                let from = (*from).max(self.logs[topic].n_trimmed + 1);
                assert!(seen.first.is_some_and(|first| first <= from), "{topic} begins too late");
            }
        }
    }
}

fn session() -> Session<Item> {
    // Room for a few messages only, so that readers fall behind all the time.
    let bounds = Bounds { outbox_bytes: 300, subscriptions: 10, topics: 10, requests_in_flight: 10 };
    Session::new(bounds, Grants::everything())
}

fn unavailable() -> Error {
    Error::new(ErrorCode::Unavailable, "try again")
}

fn run(seed: u64) {
    let mut world = World::new(seed);
    for _ in 0..600 {
        world.step();
    }
    world.settle();
}

#[test]
fn clients_that_come_and_go_get_every_message_once() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("SESSION_MODEL_SEED") {
        Some(seed) => seed..seed + 1,
        None => {
            let fresh = std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs());
            fresh..fresh + number("SESSION_MODEL_RUNS").unwrap_or(500)
        }
    };
    println!("seeds {seeds:?}");
    for seed in seeds {
        if let Err(panic) = std::panic::catch_unwind(|| run(seed)) {
            eprintln!("repeat with SESSION_MODEL_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn message_that_comes_while_the_start_is_asked_for_is_not_left_out() {
    let topic = Topic::parse("c").unwrap();
    let filter = TopicFilter::parse("c").unwrap();
    for (from, left_out) in
        [(Start::Earliest, 0), (Start::Last(3), 0), (Start::Time(Time(5)), 0), (Start::Latest, 1)]
    {
        let mut session = session();
        let subscription = Subscription { filter: filter.clone(), from, seen: Vec::new() };
        session.handle(
            Time(0),
            Ok(Request { id: RequestId(1), command: Command::Subscribe(vec![subscription]) }),
        );
        session.watched(&filter, TopicKind::Durable, Time(0));
        session.poll(Duration::ZERO);
        // There was no log when it was read; by the time of the answer the node has heard of a first message.
        let (first, end) = (Position::new(0, 1), Position::default());
        session.read_done(
            Duration::ZERO,
            Ok(LogPage { items: Vec::new(), first, end, head: Position::new(7, 1) }),
        );
        let Some(Outgoing::Event(event)) = session.poll_outgoing() else { panic!("no reply") };
        let Event::Reply { result: Ok(Reply::Subscribed(results)), .. } = *event else { panic!("{event:?}") };
        let begins = results[0].as_ref().unwrap().positions[0].1;
        assert_eq!(begins.offset.0, left_out, "{from:?}");
        session.poll(Duration::from_secs(1));
        let read = std::iter::from_fn(|| session.poll_effect()).any(|effect| {
            matches!(effect, Effect::Read { query } if query.topic == topic && query.range == HistoryRange::Forward(Start::After(Position::new(7, 0))))
        });
        assert_eq!(read, left_out == 0, "{from:?} asks for the message");
    }
}
