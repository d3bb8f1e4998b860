//! The judgment at the end of a run, and what it counts.

use std::collections::{BTreeMap, HashMap};

use super::{Books, Broken, Ledger, Number, Record, SHORT_FILTER, Seen, Violation};
use crate::filter;
use crate::transport::Transport;
use crate::wire::Position;

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
    pub(crate) by_transport: BTreeMap<Transport, Share>,
}

/// A transport's part in a run.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Share {
    pub(crate) n_readers: u64,
    /// Connections of its readers on which something was answered.
    pub(crate) n_connections: u64,
    pub(crate) n_deliveries: u64,
    pub(crate) n_sent: u64,
    pub(crate) n_acknowledged: u64,
    /// Violations that its readers saw.
    pub(crate) n_violations: u64,
}

impl Ledger {
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
                Some(place) if position.is_none_or(|position| position == *place) => {}
                Some(place) => found.push(Broken::Forked.because(format!(
                    "{topic}: {number} was acknowledged at {} and stands at {place}",
                    place_text(*position)
                ))),
                None if filter::matches(SHORT_FILTER, topic) => {}
                None => found.push(Broken::Lost.because(format!(
                    "{topic}: {number} was acknowledged at {} and is gone",
                    place_text(*position)
                ))),
            }
        }
        let n_unacknowledged_kept =
            places.keys().filter(|number| !books.acknowledged.contains_key(number)).count() as u64;
        books.violations.append(&mut found);
        let counts = Counts {
            n_sent: books.sent.len() as u64,
            n_acknowledged: books.acknowledged.len() as u64,
            n_unacknowledged_kept,
            n_deliveries: books.subscribers.iter().map(|record| record.n_deliveries).sum(),
            n_losses_told: books.n_losses_told,
            by_transport: books.shares(),
        };
        (counts, books.violations.clone())
    }
}

impl Books {
    fn shares(&self) -> BTreeMap<Transport, Share> {
        let mut shares: BTreeMap<Transport, Share> = BTreeMap::new();
        for record in &self.subscribers {
            let share = shares.entry(record.transport).or_default();
            share.n_readers += 1;
            share.n_connections += record.n_connections;
            share.n_deliveries += record.n_deliveries;
        }
        for (number, (_, transport)) in &self.sent {
            let share = shares.entry(*transport).or_default();
            share.n_sent += 1;
            share.n_acknowledged += u64::from(self.acknowledged.contains_key(number));
        }
        for transport in self.violations.iter().filter_map(|violation| violation.transport) {
            shares.entry(transport).or_default().n_violations += 1;
        }
        shares
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
            .filter(|number| books.sent.get(number).is_some_and(|(sent, _)| sent == topic));
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
    let mut find = |broken: Broken, what: String| {
        let text = format!("{topic} to subscriber {subscriber} by {}: {what}", record.transport);
        found.push(Violation { broken, text, transport: Some(record.transport) });
    };
    for (position, id) in log {
        match by_position.get(position) {
            Some(number) if *id == number.to_string() => {}
            Some(number) => {
                find(Broken::Forked, format!("{number} came at {position}, where the log has {id}"));
            }
            None if seen.lost.iter().any(|(from, until)| (*from..=*until).contains(&position.offset)) => {}
            None => find(Broken::Lost, format!("{id} at {position} never came")),
        }
    }
    if let (Some((head, _)), Some((last, number))) = (log.last(), seen.messages.last())
        && last > head
    {
        find(Broken::Forked, format!("{number} came at {last}, past the end of the log at {head}"));
    }
}

fn place_text(position: Option<Position>) -> String {
    position.map_or_else(|| "a place that was not told".to_owned(), |position| position.to_string())
}
