//! One batch, one call of `bongsu.append`.
//!
//! The database decides, since only there are a log's head and ids known for sure while its row is locked. What it can be spared is
//! done here: which topics there are, which of its topic's messages each one is, sums and largest times. That way a batch whose
//! messages do not depend on one another is stored by a few statements on whole arrays.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use bongsu_protocol::limits::INTEGER_MAX;
use bongsu_protocol::message::{Delivery, Time};
use bongsu_protocol::position::{Offset, Position};
use bongsu_protocol::topic::Topic;
use sha2::{Digest, Sha256};
use sqlx::postgres::{PgArguments, PgBindIterExt, PgRow};
use sqlx::query::Query;
use sqlx::{Arguments, Postgres, Row};

use super::rows::{column, headers_or_null, text_or_null};
use crate::store::{Append, Appended};

const APPEND: &str = "select * from bongsu.append($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21)";

/// Topics that are remembered to have a log: some 5 MiB. When full, all are forgotten, and the next append to each makes sure again, which
/// costs one more write of the log's row.
const TOPICS_KNOWN_MAX: usize = 65_536;

/// Topics that had a log when they were last appended to.
#[derive(Debug, Default)]
pub(super) struct KnownTopics(Mutex<HashSet<Topic>>);

impl KnownTopics {
    pub(super) fn has_all(&self, topics: &[Topic]) -> bool {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        topics.iter().all(|topic| known.contains(topic))
    }

    pub(super) fn add(&self, topics: &[Topic]) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for topic in topics {
            if !known.contains(topic) {
                if known.len() >= TOPICS_KNOWN_MAX {
                    known.clear();
                }
                known.insert(topic.clone());
            }
        }
    }

    pub(super) fn forget(&self, topics: &[Topic]) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for topic in topics {
            known.remove(topic);
        }
    }
}

/// A batch, in the order in which the database takes it.
#[derive(Debug)]
pub(super) struct Batch {
    messages: Vec<Append>,
    /// Indexes of messages: by topic, and within a topic in the order of the batch.
    order: Vec<usize>,
    /// In the order of their bytes, each once.
    pub(super) topics: Vec<Topic>,
    of_topic: Vec<OfTopic>,
    of_message: Vec<OfMessage>,
    /// Messages depend on one another.
    careful: bool,
}

/// What a batch comes to for a topic, if all of it is stored.
#[derive(Debug, Clone, Copy)]
struct OfTopic {
    count: i64,
    bytes: i64,
    first_time: i64,
    last_time: i64,
}

/// What a message is within its topic, in the order of [`Batch::order`].
#[derive(Debug, Clone, Copy)]
struct OfMessage {
    /// The topic's index, from 1.
    topic: i32,
    /// Which of its topic's messages it is, from 1.
    nth: i64,
    /// The largest time of its topic up to it.
    time: i64,
    size: i32,
    /// The two halves of its id's hash, if it has an id.
    id_hash: Option<(i64, i64)>,
    /// For how long its id guards, in milliseconds.
    window_ms: Option<i64>,
}

impl Batch {
    pub(super) fn new(messages: Vec<Append>) -> Self {
        let mut order: Vec<usize> = (0..messages.len()).collect();
        order.sort_by(|a, b| messages[*a].message.topic.cmp(&messages[*b].message.topic));
        let mut topics: Vec<Topic> = Vec::new();
        let mut of_topic: Vec<OfTopic> = Vec::new();
        let mut of_message = Vec::with_capacity(messages.len());
        let mut ids = HashSet::new();
        let mut careful = false;
        for index in &order {
            let append = &messages[*index];
            let own_time = column(append.time.0);
            if topics.last() != Some(&append.message.topic) {
                topics.push(append.message.topic.clone());
                of_topic.push(OfTopic { count: 0, bytes: 0, first_time: own_time, last_time: own_time });
            }
            let topic_number = topics.len();
            let topic = of_topic.last_mut().expect("one was pushed for the first message");
            let size = append.message.message.size_bytes();
            topic.count += 1;
            topic.bytes += size as i64;
            topic.last_time = topic.last_time.max(own_time);
            let id = append.message.message.id.as_str();
            careful |= append.message.expect.is_some() || (!id.is_empty() && !ids.insert((topic_number, id)));
            of_message.push(OfMessage {
                topic: i32::try_from(topic_number).unwrap_or(i32::MAX),
                nth: topic.count,
                time: topic.last_time,
                size: i32::try_from(size).unwrap_or(i32::MAX),
                id_hash: hash(id),
                window_ms: window_ms(append),
            });
        }
        drop(ids);
        Self { messages, order, topics, of_topic, of_message, careful }
    }

    /// The statement that stores it. `known`: all topics are thought to have a log.
    pub(super) fn statement(
        &self,
        known: bool,
    ) -> Result<Query<'static, Postgres, PgArguments>, sqlx::Error> {
        let mut arguments = PgArguments::default();
        self.bind(&mut arguments, known).map_err(sqlx::Error::Encode)?;
        Ok(sqlx::query_with(APPEND, arguments))
    }

    fn bind(&self, arguments: &mut PgArguments, known: bool) -> Result<(), sqlx::error::BoxDynError> {
        let bytes: usize = self.messages.iter().map(|append| append.message.message.payload.len()).sum();
        arguments.reserve(21, bytes + 128 * self.messages.len());
        let in_order = || self.order.iter().map(|index| &self.messages[*index]);
        arguments.add(known)?;
        arguments.add(self.careful)?;
        arguments.add(self.topics.iter().map(Topic::as_str).bind_iter())?;
        arguments.add(self.of_topic.iter().map(|topic| topic.count).bind_iter())?;
        arguments.add(self.of_topic.iter().map(|topic| topic.bytes).bind_iter())?;
        arguments.add(self.of_topic.iter().map(|topic| topic.first_time).bind_iter())?;
        arguments.add(self.of_topic.iter().map(|topic| topic.last_time).bind_iter())?;
        arguments.add(self.of_message.iter().map(|message| message.topic).bind_iter())?;
        arguments.add(self.of_message.iter().map(|message| message.nth).bind_iter())?;
        let own_times = || in_order().map(|append| column(append.time.0));
        if own_times().eq(self.of_message.iter().map(|message| message.time)) {
            arguments.add(None::<Vec<i64>>)?;
        } else {
            arguments.add(own_times().bind_iter())?;
        }
        arguments.add(self.of_message.iter().map(|message| message.time).bind_iter())?;
        arguments.add(self.of_message.iter().map(|message| message.size).bind_iter())?;
        add_numbers(arguments, self.of_message.iter().map(|message| message.id_hash.map(|(high, _)| high)))?;
        add_numbers(arguments, self.of_message.iter().map(|message| message.id_hash.map(|(_, low)| low)))?;
        add_numbers(arguments, self.of_message.iter().map(|message| message.window_ms))?;
        add_numbers(
            arguments,
            in_order().map(|append| append.message.expect.map(|offset| column(offset.0))),
        )?;
        add_texts(arguments, in_order().map(|append| text_or_null(&append.message.message.id)))?;
        add_texts(arguments, in_order().map(|append| text_or_null(&append.publisher)))?;
        add_texts(arguments, in_order().map(|append| text_or_null(&append.message.message.content_type)))?;
        let headers: Vec<_> =
            in_order().map(|append| headers_or_null(&append.message.message.headers)).collect();
        add_texts(arguments, headers.iter().map(Option::as_deref))?;
        arguments.add(in_order().map(|append| append.message.message.payload.as_ref()).bind_iter())
    }

    /// What the database answered, for each message in the order of the batch.
    pub(super) fn outcomes(self, row: &PgRow) -> Result<Vec<Appended>, sqlx::Error> {
        let numbers = |index: usize| {
            Ok::<_, sqlx::Error>(row.try_get::<Option<Vec<i64>>, _>(index)?.unwrap_or_default())
        };
        let (epochs, heads, times) = (numbers(0)?, numbers(1)?, numbers(2)?);
        if [&epochs, &heads, &times].iter().any(|numbers| numbers.len() != self.topics.len()) {
            return Err(sqlx::Error::Decode("an append answered for other topics than were asked".into()));
        }
        let mut not_stored: HashMap<i64, Option<i64>> =
            numbers(3)?.into_iter().zip(numbers(4)?.into_iter().map(Some)).collect();
        not_stored.extend(numbers(5)?.into_iter().map(|message| (message, None)));
        let mut heads: Vec<Position> = epochs
            .iter()
            .zip(&heads)
            .map(|(epoch, head)| Position::new(unsigned(*epoch), unsigned(*head)))
            .collect();
        let mut times: Vec<Time> = times.into_iter().map(|time| Time(unsigned(time))).collect();
        let mut messages: Vec<Option<Append>> = self.messages.into_iter().map(Some).collect();
        let mut outcomes: Vec<Option<Appended>> = messages.iter().map(|_| None).collect();
        for ((index, of_message), number) in self.order.iter().zip(&self.of_message).zip(1..) {
            let append = messages[*index].take().expect("the order has each index once");
            let topic = usize::try_from(of_message.topic - 1).expect("it counts from 1");
            let head = &mut heads[topic];
            outcomes[*index] = Some(match not_stored.get(&number) {
                Some(Some(offset)) => {
                    Appended::Duplicate(Position { offset: Offset(unsigned(*offset)), ..*head })
                }
                // A log that only this batch could have made was not made as long as nothing was stored.
                Some(None) if head.offset.0 == 0 => Appended::Conflict { head: Position::default() },
                Some(None) => Appended::Conflict { head: *head },
                None => {
                    *head = head.next();
                    times[topic] = times[topic].max(append.time);
                    Appended::Stored(Arc::new(Delivery {
                        topic: append.message.topic,
                        position: Some(*head),
                        time: times[topic],
                        publisher: append.publisher,
                        message: append.message.message,
                        erased: false,
                    }))
                }
            });
        }
        Ok(outcomes.into_iter().flatten().collect())
    }
}

/// The first 128 bits of an id's SHA-256: two ids that meet are as good as impossible to find.
fn hash(id: &str) -> Option<(i64, i64)> {
    if id.is_empty() {
        return None;
    }
    let digest = Sha256::digest(id);
    let half =
        |from: usize| digest[from..from + 8].iter().fold(0_i64, |half, byte| half << 8 | i64::from(*byte));
    Some((half(0), half(8)))
}

/// A window as the store's own words have it: less than a millisecond counts as one.
fn window_ms(append: &Append) -> Option<i64> {
    append.guarded_until(Time(0)).map(|until| column(until.0.min(INTEGER_MAX)))
}

fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// Adds an array of texts; null if it has none.
fn add_texts<'a>(
    arguments: &mut PgArguments,
    texts: impl Iterator<Item = Option<&'a str>> + Clone,
) -> Result<(), sqlx::error::BoxDynError> {
    if texts.clone().any(|text| text.is_some()) {
        arguments.add(texts.bind_iter())
    } else {
        arguments.add(None::<Vec<String>>)
    }
}

/// Adds an array of numbers; null if it has none.
fn add_numbers(
    arguments: &mut PgArguments,
    numbers: impl Iterator<Item = Option<i64>> + Clone,
) -> Result<(), sqlx::error::BoxDynError> {
    if numbers.clone().any(|number| number.is_some()) {
        arguments.add(numbers.bind_iter())
    } else {
        arguments.add(None::<Vec<i64>>)
    }
}
