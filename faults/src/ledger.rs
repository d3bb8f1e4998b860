//! What was published, what was acknowledged, and what each subscriber saw; and the judgment over it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::filter;
use crate::wire::Position;

/// A message's number, unique in a run. Its message id is this in decimal.
pub(crate) type Number = u64;

/// Everything that the checker knows. Publishers and subscribers write it as it happens.
#[derive(Default)]
pub(crate) struct Ledger(Mutex<Books>);

#[derive(Default)]
struct Books {
    /// All that was ever sent, acknowledged or not, and to which topic.
    sent: HashMap<Number, String>,
    /// Where the broker said that a message stands.
    acknowledged: HashMap<Number, (String, Position)>,
    subscribers: Vec<Record>,
    violations: Vec<Violation>,
    n_deliveries: u64,
    n_losses_told: u64,
}

/// What one subscriber saw.
#[derive(Default)]
struct Record {
    filters: Vec<String>,
    topics: HashMap<String, Seen>,
    /// Numbers of the probes that came.
    probes: BTreeSet<Number>,
    /// The node that it is connected to, or was last.
    node: String,
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
}

/// What a run came to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counts {
    pub(crate) n_sent: u64,
    pub(crate) n_acknowledged: u64,
    /// Sent, never acknowledged, and in the log all the same: once, as promised.
    pub(crate) n_unacknowledged_kept: u64,
    pub(crate) n_deliveries: u64,
    /// `lost` events that retention explains.
    pub(crate) n_losses_told: u64,
}

/// Topics under this filter keep only their newest messages: there, and only there, may `lost` come.
pub(crate) const SHORT_FILTER: &str = "short/#";

impl Ledger {
    /// Adds a subscriber with these filters, which reads everything from the earliest message on, and returns its number.
    pub(crate) fn subscriber(&self, filters: Vec<String>) -> usize {
        let mut books = self.books();
        books.subscribers.push(Record { filters, ..Record::default() });
        books.subscribers.len() - 1
    }

    /// A message is about to be sent.
    pub(crate) fn sent(&self, number: Number, topic: &str) {
        self.books().sent.insert(number, topic.to_owned());
    }

    /// A message was acknowledged, perhaps once more.
    pub(crate) fn acknowledged(&self, number: Number, topic: &str, position: Position) {
        let mut books = self.books();
        let before = books.acknowledged.insert(number, (topic.to_owned(), position));
        if let Some((_, before)) = before.filter(|(_, before)| *before != position) {
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
        books.n_deliveries += 1;
        let Ok(number) = id.parse::<Number>() else {
            return books.violate(
                Broken::Unexplained,
                format!("{topic}: a message {id:?} that nobody sent, at {position}"),
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
            books.violate(
                broken,
                format!("{topic} to subscriber {subscriber}: {number} at {position}, but {why}"),
            );
        }
    }

    /// A subscriber was told that offsets are lost to it.
    pub(crate) fn lost(&self, subscriber: usize, topic: &str, epoch: u64, from: u64, until: u64) {
        let mut books = self.books();
        let seen = books.subscribers[subscriber].topics.entry(topic.to_owned()).or_default();
        let known = seen.known.map_or(0, |known| known.offset);
        seen.known = seen.known.max(Some(Position { epoch, offset: until }));
        seen.lost.push((from, until));
        if !filter::matches(SHORT_FILTER, topic) {
            books.violate(
                Broken::Unexplained,
                format!("{topic} to subscriber {subscriber}: lost {from} to {until}, where nothing is ever trimmed"),
            );
        } else if from > known + 1 {
            books.violate(
                Broken::SilentGap,
                format!(
                    "{topic} to subscriber {subscriber}: lost {from} to {until}, but {known} came before"
                ),
            );
        } else {
            books.n_losses_told += 1;
        }
    }

    /// A subscriber has a new connection.
    pub(crate) fn connected(&self, subscriber: usize, node: &str) {
        node.clone_into(&mut self.books().subscribers[subscriber].node);
    }

    /// Whether every subscriber that reads this topic has got this probe.
    pub(crate) fn has_reached_all(&self, probe: Number, topic: &str) -> bool {
        self.books().without(probe, topic).next().is_none()
    }

    /// The subscribers that have not got this probe, for people.
    pub(crate) fn without(&self, probe: Number, topic: &str) -> String {
        let books = self.books();
        let texts = books
            .without(probe, topic)
            .map(|(idx, record)| format!("{idx} on {} ({})", record.node, record.filters.join(" ")));
        texts.collect::<Vec<_>>().join(", ")
    }

    /// Topics that anybody ever published to.
    pub(crate) fn topics(&self) -> BTreeSet<String> {
        self.books().sent.values().cloned().collect()
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

    /// Compares everything with the logs as the broker has them at the end.
    pub(crate) fn judge(&self, logs: &BTreeMap<String, Vec<(Position, String)>>) -> (Counts, Vec<Violation>) {
        let mut books = self.books();
        let mut found = Vec::new();
        let mut places: HashMap<Number, Position> = HashMap::new();
        for (topic, log) in logs {
            judge_log(topic, log, &books, &mut places, &mut found);
            for (subscriber, record) in books.subscribers.iter().enumerate() {
                if filter::any_matches(&record.filters, topic) {
                    judge_record(topic, log, subscriber, record, &mut found);
                }
            }
        }
        for (number, (topic, position)) in &books.acknowledged {
            match places.get(number) {
                Some(place) if place == position => {}
                Some(place) => found.push(Broken::Forked.because(format!(
                    "{topic}: {number} was acknowledged at {position} and stands at {place}"
                ))),
                None if filter::matches(SHORT_FILTER, topic) => {}
                None => found.push(
                    Broken::Lost
                        .because(format!("{topic}: {number} was acknowledged at {position} and is gone")),
                ),
            }
        }
        let n_unacknowledged_kept =
            places.keys().filter(|number| !books.acknowledged.contains_key(number)).count() as u64;
        books.violations.append(&mut found);
        let counts = Counts {
            n_sent: books.sent.len() as u64,
            n_acknowledged: books.acknowledged.len() as u64,
            n_unacknowledged_kept,
            n_deliveries: books.n_deliveries,
            n_losses_told: books.n_losses_told,
        };
        (counts, books.violations.clone())
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The log by itself: contiguous, each message once, each one of ours.
fn judge_log(
    topic: &str,
    log: &[(Position, String)],
    books: &Books,
    places: &mut HashMap<Number, Position>,
    found: &mut Vec<Violation>,
) {
    for (position, id) in log {
        let number = id
            .parse::<Number>()
            .ok()
            .filter(|number| books.sent.get(number).is_some_and(|sent| sent == topic));
        match number {
            None => found
                .push(Broken::Unexplained.because(format!("{topic}: {id:?} at {position} was never sent"))),
            Some(number) => {
                if let Some(other) = places.insert(number, *position) {
                    found.push(
                        Broken::Doubled
                            .because(format!("{topic}: {number} stands at {other} and at {position}")),
                    );
                }
            }
        }
    }
    for pair in log.windows(2).filter(|pair| pair[1].0 != pair[0].0.next()) {
        found.push(
            Broken::SilentGap.because(format!("{topic}: {} follows {} in the log", pair[1].0, pair[0].0)),
        );
    }
}

/// One subscriber against the log: all of it, at the same positions, but for what it was told is lost.
fn judge_record(
    topic: &str,
    log: &[(Position, String)],
    subscriber: usize,
    record: &Record,
    found: &mut Vec<Violation>,
) {
    let nothing = Seen::default();
    let seen = record.topics.get(topic).unwrap_or(&nothing);
    let by_position: HashMap<Position, Number> = seen.messages.iter().copied().collect();
    for (position, id) in log {
        match by_position.get(position) {
            Some(number) if *id == number.to_string() => {}
            Some(number) => found.push(Broken::Forked.because(format!(
                "{topic} to subscriber {subscriber}: {number} came at {position}, where the log has {id}"
            ))),
            None if seen.lost.iter().any(|(from, until)| (*from..=*until).contains(&position.offset)) => {}
            None => found.push(
                Broken::Lost
                    .because(format!("{topic} to subscriber {subscriber}: {id} at {position} never came")),
            ),
        }
    }
    if let (Some((head, _)), Some((last, number))) = (log.last(), seen.messages.last())
        && last > head
    {
        found.push(Broken::Forked.because(format!(
            "{topic} to subscriber {subscriber}: {number} came at {last}, past the end of the log at {head}"
        )));
    }
}

impl Books {
    fn without(&self, probe: Number, topic: &str) -> impl Iterator<Item = (usize, &Record)> {
        let readers = self.subscribers.iter().enumerate();
        let readers = readers.filter(move |(_, record)| filter::any_matches(&record.filters, topic));
        readers.filter(move |(_, record)| !record.probes.contains(&probe))
    }

    fn violate(&mut self, broken: Broken, text: String) {
        // Said when it happens, beside the fault that is under way. A run that goes wrong goes wrong a million times.
        if self.violations.len() < 50 {
            eprintln!("!! {broken}: {text}");
        }
        self.violations.push(Violation { broken, text });
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
        Violation { broken: self, text }
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
