//! What was published, what was acknowledged, and what each subscriber saw; and the judgment over it.

mod judge;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::filter;
use crate::transport::Transport;
use crate::wire::Position;

pub(crate) use judge::{Counts, Share};

/// A message's number, unique in a run. Its message id is this in decimal.
pub(crate) type Number = u64;

/// Everything that the checker knows. Publishers and subscribers write it as it happens.
#[derive(Default)]
pub(crate) struct Ledger(Mutex<Books>);

#[derive(Default)]
struct Books {
    /// All that was ever sent, acknowledged or not: to which topic, and by what.
    sent: HashMap<Number, (String, Transport)>,
    /// What the broker said that it has, and where, if it said that.
    acknowledged: HashMap<Number, (String, Option<Position>)>,
    subscribers: Vec<Record>,
    violations: Vec<Violation>,
    n_losses_told: u64,
}

/// What one subscriber saw.
struct Record {
    transport: Transport,
    filters: Vec<String>,
    topics: HashMap<String, Seen>,
    /// Numbers of the probes that came.
    probes: BTreeSet<Number>,
    /// The node that it is connected to, or was last, where its transport says so.
    node: String,
    /// Why its last connection ended.
    ended: String,
    n_connections: u64,
    n_deliveries: u64,
}

#[derive(Default)]
struct Seen {
    /// In the order of arrival, which is that of the log or a violation.
    messages: Vec<(Position, Number)>,
    /// What the broker said was lost: offsets from and until.
    lost: Vec<(u64, u64)>,
    /// The newest position that this subscriber knows to have passed.
    known: Option<Position>,
}

/// A promise that was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Broken {
    /// An acknowledged message is not in the log, or not where it was said to be; or one in the log never reached somebody.
    Lost,
    /// A message came twice, or stands in the log twice.
    Doubled,
    /// A message came after a later one, or two publishes of one connection changed places.
    OutOfOrder,
    /// A message was skipped without a word.
    SilentGap,
    /// Two different messages had one position.
    Forked,
    /// Something was told that nothing explains: a loss without retention, a reset without a new log, a refusal for good.
    Unexplained,
    /// Subscribers were not served again within the time allowed.
    NotRecovered,
}

/// Which promise, and how.
#[derive(Debug, Clone)]
pub(crate) struct Violation {
    pub(crate) broken: Broken,
    pub(crate) text: String,
    /// The subscriber's that saw it.
    pub(crate) transport: Option<Transport>,
}

/// Topics under this filter keep only their newest messages: there, and only there, may `lost` come.
pub(crate) const SHORT_FILTER: &str = "short/#";

impl Ledger {
    /// Adds a subscriber with these filters, which reads everything from the earliest message on, and returns its number.
    pub(crate) fn subscriber(&self, transport: Transport, filters: Vec<String>) -> usize {
        let mut books = self.books();
        books.subscribers.push(Record {
            transport,
            filters,
            topics: HashMap::new(),
            probes: BTreeSet::new(),
            node: String::new(),
            ended: String::new(),
            n_connections: 0,
            n_deliveries: 0,
        });
        books.subscribers.len() - 1
    }

    /// A message is about to be sent.
    pub(crate) fn sent(&self, number: Number, topic: &str, by: Transport) {
        self.books().sent.insert(number, (topic.to_owned(), by));
    }

    /// A message was acknowledged by a transport that says nothing of positions.
    pub(crate) fn taken(&self, number: Number, topic: &str) {
        self.books().acknowledged.insert(number, (topic.to_owned(), None));
    }

    /// A message was acknowledged, perhaps once more.
    pub(crate) fn acknowledged(&self, number: Number, topic: &str, position: Position) {
        let mut books = self.books();
        let before = books.acknowledged.insert(number, (topic.to_owned(), Some(position)));
        let before = before.and_then(|(_, before)| before);
        if let Some(before) = before.filter(|before| *before != position) {
            books.violate(
                Broken::Doubled,
                format!("{topic}: {number} was acknowledged at {before} and at {position}"),
            );
        }
    }

    /// Something else that must not be.
    pub(crate) fn violate(&self, broken: Broken, text: String) {
        self.books().violate(broken, text);
    }

    /// A message came to a subscriber.
    pub(crate) fn delivered(&self, subscriber: usize, topic: &str, position: Position, id: &str) {
        let mut books = self.books();
        let transport = books.subscribers[subscriber].transport;
        books.subscribers[subscriber].n_deliveries += 1;
        let Ok(number) = id.parse::<Number>() else {
            return books.violate_by(
                Some(transport),
                Broken::Unexplained,
                format!(
                    "{topic} to subscriber {subscriber}: a message {id:?} that nobody sent, at {position}"
                ),
            );
        };
        let record = &mut books.subscribers[subscriber];
        if topic.contains("probe") {
            record.probes.insert(number);
        }
        let seen = record.topics.entry(topic.to_owned()).or_default();
        let known = seen.known;
        if known.is_none_or(|known| position > known) {
            seen.known = Some(position);
            seen.messages.push((position, number));
        }
        let wrong = match known {
            // The earliest message that a topic has which forgets is any.
            None if position.offset == 1 || filter::matches(SHORT_FILTER, topic) => None,
            None => Some((Broken::SilentGap, "it is the first to come".to_owned())),
            Some(known) if position == known.next() => None,
            Some(known) if position > known => Some((Broken::SilentGap, format!("{known} came before"))),
            Some(known) => Some(match seen.messages.iter().rev().find(|(at, _)| *at == position) {
                Some((_, same)) if *same == number => (Broken::Doubled, format!("{known} came before")),
                Some((_, other)) => (Broken::Forked, format!("{other} stood there before")),
                None => (Broken::OutOfOrder, format!("{known} came before")),
            }),
        };
        if let Some((broken, why)) = wrong {
            let text = format!("{topic} to subscriber {subscriber}: {number} at {position}, but {why}");
            books.violate_by(Some(transport), broken, text);
        }
    }

    /// A subscriber was told that offsets are lost to it.
    pub(crate) fn lost(&self, subscriber: usize, topic: &str, epoch: u64, from: u64, until: u64) {
        let mut books = self.books();
        let transport = Some(books.subscribers[subscriber].transport);
        let seen = books.subscribers[subscriber].topics.entry(topic.to_owned()).or_default();
        let known = seen.known.map_or(0, |known| known.offset);
        seen.known = seen.known.max(Some(Position { epoch, offset: until }));
        seen.lost.push((from, until));
        if !filter::matches(SHORT_FILTER, topic) {
            let text = format!(
                "{topic} to subscriber {subscriber}: lost {from} to {until}, where nothing is ever trimmed"
            );
            books.violate_by(transport, Broken::Unexplained, text);
        } else if from > known + 1 {
            let text = format!(
                "{topic} to subscriber {subscriber}: lost {from} to {until}, but {known} came before"
            );
            books.violate_by(transport, Broken::SilentGap, text);
        } else {
            books.n_losses_told += 1;
        }
    }

    /// A subscriber has a new connection.
    pub(crate) fn connected(&self, subscriber: usize, node: &str) {
        let record = &mut self.books().subscribers[subscriber];
        node.clone_into(&mut record.node);
        record.n_connections += 1;
    }

    /// A subscriber's connection is over.
    pub(crate) fn disconnected(&self, subscriber: usize, why: &anyhow::Error) {
        self.books().subscribers[subscriber].ended = format!("{why:#}");
    }

    /// How far the slowest of those that read this topic has come.
    pub(crate) fn slowest(&self, topic: &str) -> u64 {
        let books = self.books();
        let readers = books.subscribers.iter().filter(|record| filter::any_matches(&record.filters, topic));
        let known = readers.map(|record| record.topics.get(topic).and_then(|seen| seen.known));
        known.map(|known| known.map_or(0, |known| known.offset)).min().unwrap_or_default()
    }

    /// How far the fastest of them has come.
    pub(crate) fn fastest(&self, topic: &str) -> u64 {
        let books = self.books();
        let known = books.subscribers.iter().filter_map(|record| record.topics.get(topic)?.known);
        known.map(|known| known.offset).max().unwrap_or_default()
    }

    /// How far each of them has come, and why it was cut off last, for people.
    pub(crate) fn progress(&self, topic: &str) -> String {
        let books = self.books();
        let texts = books.subscribers.iter().map(|record| {
            let known = record.topics.get(topic).and_then(|seen| seen.known);
            let known = known.map_or_else(|| "nothing".to_owned(), |known| known.to_string());
            format!("{}: {known} ({})", record.transport, record.ended)
        });
        texts.collect::<Vec<_>>().join(", ")
    }

    /// What one of them got of it, in order.
    pub(crate) fn sequence(&self, subscriber: usize, topic: &str) -> Vec<(Position, Number)> {
        let seen = |record: &Record| record.topics.get(topic).map(|seen| seen.messages.clone());
        seen(&self.books().subscribers[subscriber]).unwrap_or_default()
    }

    /// Connections that it had so far.
    pub(crate) fn n_connections(&self, subscriber: usize) -> u64 {
        self.books().subscribers[subscriber].n_connections
    }

    /// Whether every subscriber that reads this topic has got this probe.
    pub(crate) fn has_reached_all(&self, probe: Number, topic: &str) -> bool {
        self.books().without(probe, topic).next().is_none()
    }

    /// The subscribers that have not got this probe, for people.
    pub(crate) fn without(&self, probe: Number, topic: &str) -> String {
        let books = self.books();
        let texts =
            books.without(probe, topic).map(|(idx, Record { transport, filters, node, ended, .. })| {
                format!(
                    "{idx} by {transport} on {node:?} ({}), whose last one ended: {ended}",
                    filters.join(" ")
                )
            });
        texts.collect::<Vec<_>>().join(", ")
    }

    /// Topics that anybody ever published to.
    pub(crate) fn topics(&self) -> BTreeSet<String> {
        self.books().sent.values().map(|(topic, _)| topic.clone()).collect()
    }

    /// A subscriber and a topic of which it has not come to the head, if there is one.
    pub(crate) fn behind(&self, heads: &BTreeMap<String, Position>) -> Option<String> {
        let books = self.books();
        let mut pairs = books.subscribers.iter().enumerate().flat_map(|(subscriber, record)| {
            let wanted = heads.iter().filter(|(topic, _)| filter::any_matches(&record.filters, topic));
            wanted.map(move |(topic, head)| {
                (subscriber, topic, head, record.topics.get(topic).and_then(|seen| seen.known))
            })
        });
        let (subscriber, topic, head, known) =
            pairs.find(|(_, _, head, known)| known.is_none_or(|known| known < **head))?;
        let known = known.map_or_else(|| "nothing".to_owned(), |known| known.to_string());
        Some(format!(
            "{topic} to subscriber {subscriber}: the head is {head}, {known} is the newest that came"
        ))
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    fn without(&self, probe: Number, topic: &str) -> impl Iterator<Item = (usize, &Record)> {
        let readers = self.subscribers.iter().enumerate();
        let readers = readers.filter(move |(_, record)| filter::any_matches(&record.filters, topic));
        readers.filter(move |(_, record)| !record.probes.contains(&probe))
    }

    fn violate(&mut self, broken: Broken, text: String) {
        self.violate_by(None, broken, text);
    }

    fn violate_by(&mut self, transport: Option<Transport>, broken: Broken, text: String) {
        // Said when it happens, beside the fault that is under way. A run that goes wrong goes wrong a million times.
        if self.violations.len() < 50 {
            eprintln!("!! {broken}: {text}");
        }
        self.violations.push(Violation { broken, text, transport });
    }
}

impl Broken {
    /// All of them, in the order of a report.
    pub(crate) const ALL: [Self; 7] = [
        Self::Lost,
        Self::Doubled,
        Self::OutOfOrder,
        Self::SilentGap,
        Self::Forked,
        Self::Unexplained,
        Self::NotRecovered,
    ];

    pub(crate) const fn because(self, text: String) -> Violation {
        Violation { broken: self, text, transport: None }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Lost => "lost",
            Self::Doubled => "doubled",
            Self::OutOfOrder => "out of order",
            Self::SilentGap => "silent gaps",
            Self::Forked => "two messages at one position",
            Self::Unexplained => "unexplained",
            Self::NotRecovered => "not recovered",
        })
    }
}

impl Position {
    const fn next(self) -> Self {
        Self { epoch: self.epoch, offset: self.offset + 1 }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.epoch, self.offset)
    }
}

#[cfg(test)]
mod tests;
