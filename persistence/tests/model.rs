//! Random operations on the SQLite store and on the memory store, which must answer alike, also after the file was opened again.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::time::Duration;

use bongsu_persistence::memory::MemoryStore;
use bongsu_persistence::sqlite::{SqliteOptions, SqliteStore, Synchronous};
use bongsu_persistence::store::{Append, Removal, Retention, Store, TopicsQuery};
use bongsu_protocol::command::{HistoryQuery, HistoryRange, Start};
use bongsu_protocol::message::{Message, NewMessage, Time};
use bongsu_protocol::position::{Offset, Position};
use bongsu_protocol::topic::{Topic, TopicFilter};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

const TOPICS: [&str; 4] = ["a", "a/b", "a/c", "b"];
const FILTERS: [&str; 5] = ["#", "a/#", "a/+", "a/b", "+"];

/// An operation whose places are relative: which offsets and epochs exist is known only when it runs.
#[derive(Debug, Clone)]
enum Operation {
    Append(Vec<NewOne>),
    Read { topic: usize, range: Range, limit: u32 },
    Topics { filter: usize, after: Option<usize>, limit: usize },
    Retain { topic: usize, age_ms: Option<u64>, count: Option<u64>, bytes: Option<u64> },
    Purge { topic: usize, back: u64 },
    Erase { topic: usize, back: u64 },
    Delete { topic: usize },
    ForgetIds,
    Reopen,
}

#[derive(Debug, Clone)]
struct NewOne {
    topic: usize,
    payload_bytes: usize,
    with_headers: bool,
    id: Option<u8>,
    window_ms: u64,
    /// Steps of the clock, also backward.
    clock_ms: i64,
    /// The offset expected, counted back from the head.
    expect_back: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
enum Range {
    Latest,
    Earliest,
    Last(u64),
    After { back: i64, epoch: i64 },
    Time { back_ms: i64 },
    Newest,
    Before { back: i64, epoch: i64 },
}

fn new_one() -> impl Strategy<Value = NewOne> {
    (
        0..TOPICS.len(),
        0..40_usize,
        any::<bool>(),
        option::of(0..6_u8),
        prop_oneof![Just(0), Just(5), Just(50)],
        -3..10_i64,
        option::weighted(0.2, 0..2_u64),
    )
        .prop_map(|(topic, payload_bytes, with_headers, id, window_ms, clock_ms, expect_back)| NewOne {
            topic,
            payload_bytes,
            with_headers,
            id,
            window_ms,
            clock_ms,
            expect_back,
        })
}

fn range() -> impl Strategy<Value = Range> {
    prop_oneof![
        Just(Range::Latest),
        Just(Range::Earliest),
        (0..8_u64).prop_map(Range::Last),
        (-2..10_i64, -1..2_i64).prop_map(|(back, epoch)| Range::After { back, epoch }),
        (-5..40_i64).prop_map(|back_ms| Range::Time { back_ms }),
        Just(Range::Newest),
        (-2..10_i64, -1..2_i64).prop_map(|(back, epoch)| Range::Before { back, epoch }),
    ]
}

fn operation() -> impl Strategy<Value = Operation> {
    let topic = 0..TOPICS.len();
    prop_oneof![
        8 => vec(new_one(), 0..12).prop_map(Operation::Append),
        6 => (topic.clone(), range(), 0..12_u32).prop_map(|(topic, range, limit)| Operation::Read { topic, range, limit }),
        2 => (0..FILTERS.len(), option::of(topic.clone()), 0..4_usize)
            .prop_map(|(filter, after, limit)| Operation::Topics { filter, after, limit }),
        3 => (topic.clone(), option::of(0..40_u64), option::of(0..10_u64), option::of(0..200_u64))
            .prop_map(|(topic, age_ms, count, bytes)| Operation::Retain { topic, age_ms, count, bytes }),
        1 => (topic.clone(), 0..6_u64).prop_map(|(topic, back)| Operation::Purge { topic, back }),
        1 => (topic.clone(), 0..6_u64).prop_map(|(topic, back)| Operation::Erase { topic, back }),
        1 => topic.prop_map(|topic| Operation::Delete { topic }),
        1 => Just(Operation::ForgetIds),
        1 => Just(Operation::Reopen),
    ]
}

/// Both stores, and the clock.
struct Pair {
    memory: MemoryStore,
    sqlite: SqliteStore,
    options: SqliteOptions,
    now: u64,
}

impl Pair {
    async fn run(&mut self, operation: Operation) {
        match operation {
            Operation::Append(batch) => self.append(batch).await,
            Operation::Read { topic, range, limit } => {
                let range = self.range(topic, range).await;
                self.read(HistoryQuery { topic: name(topic), range, limit }).await;
            }
            Operation::Topics { filter, after, limit } => {
                let filter = TopicFilter::parse(FILTERS[filter]).unwrap();
                let query = TopicsQuery { filter, after: after.map(name), limit };
                let expected = self.memory.topics(query.clone()).await.unwrap();
                assert_eq!(self.sqlite.topics(query).await.unwrap(), expected);
            }
            Operation::Retain { topic, age_ms, count, bytes } => {
                let retention = Retention { age: age_ms.map(Duration::from_millis), count, bytes };
                self.remove(Removal::Retain { topic: name(topic), retention, now: Time(self.now) }).await;
            }
            Operation::Purge { topic, back } => {
                let until = Offset(self.head(topic).await.offset.0.saturating_sub(back));
                self.remove(Removal::Purge { topic: name(topic), until }).await;
            }
            Operation::Erase { topic, back } => {
                let head = self.head(topic).await;
                let position = Position::new(head.epoch.0, head.offset.0.saturating_sub(back));
                self.remove(Removal::Erase { topic: name(topic), position }).await;
            }
            Operation::Delete { topic } => self.remove(Removal::Delete { topic: name(topic) }).await,
            Operation::ForgetIds => {
                // How many is not compared: ids of deleted logs may be taken away later.
                let removal = Removal::ForgetIds { now: Time(self.now) };
                self.memory.remove(removal.clone()).await.unwrap();
                while self.sqlite.remove(removal.clone()).await.unwrap().more {}
            }
            Operation::Reopen => {
                self.sqlite.close().await;
                self.sqlite = SqliteStore::open(self.options.clone()).await.unwrap();
            }
        }
    }

    async fn append(&mut self, batch: Vec<NewOne>) {
        let mut appends = Vec::new();
        for one in batch {
            self.now = self.now.saturating_add_signed(one.clock_ms);
            let head = self.head(one.topic).await.offset.0;
            let headers =
                if one.with_headers { vec![("h".to_owned(), "\"v\"".to_owned())] } else { Vec::new() };
            let message = Message {
                payload: vec![b'x'; one.payload_bytes].into(),
                content_type: if one.with_headers { "text/plain".to_owned() } else { String::new() },
                headers,
                id: one.id.map(|id| format!("id {id}")).unwrap_or_default(),
            };
            let expect = one.expect_back.map(|back| Offset(head.saturating_sub(back)));
            appends.push(Append {
                message: NewMessage { topic: name(one.topic), message, expect },
                publisher: if one.with_headers { "somebody".to_owned() } else { String::new() },
                time: Time(self.now),
                idempotency_window: Duration::from_millis(one.window_ms),
            });
        }
        let expected = self.memory.append(appends.clone()).await.unwrap();
        assert_eq!(self.sqlite.append(appends).await.unwrap(), expected);
    }

    async fn read(&self, query: HistoryQuery) {
        let expected = self.memory.read(query.clone()).await.unwrap();
        assert_eq!(self.sqlite.read(query).await.unwrap(), expected);
    }

    async fn remove(&self, removal: Removal) {
        let expected = self.memory.remove(removal.clone()).await.unwrap();
        assert_eq!(self.sqlite.remove(removal).await.unwrap(), expected);
    }

    async fn head(&self, topic: usize) -> Position {
        let range = HistoryRange::Forward(Start::Latest);
        self.memory.read(HistoryQuery { topic: name(topic), range, limit: 0 }).await.unwrap().head
    }

    async fn range(&self, topic: usize, range: Range) -> HistoryRange {
        let head = self.head(topic).await;
        let place = |back: i64, epoch: i64| {
            Position::new(
                head.epoch.0.saturating_add_signed(epoch),
                head.offset.0.saturating_add_signed(-back),
            )
        };
        match range {
            Range::Latest => HistoryRange::Forward(Start::Latest),
            Range::Earliest => HistoryRange::Forward(Start::Earliest),
            Range::Last(n) => HistoryRange::Forward(Start::Last(n)),
            Range::After { back, epoch } => HistoryRange::Forward(Start::After(place(back, epoch))),
            Range::Time { back_ms } => {
                HistoryRange::Forward(Start::Time(Time(self.now.saturating_add_signed(-back_ms))))
            }
            Range::Newest => HistoryRange::Backward(None),
            Range::Before { back, epoch } => HistoryRange::Backward(Some(place(back, epoch))),
        }
    }
}

fn name(topic: usize) -> Topic {
    Topic::parse(TOPICS[topic]).unwrap()
}

async fn check(operations: Vec<Operation>, ids_in_memory_max: usize) {
    let folder = tempfile::tempdir().unwrap();
    // Every commit of a disk costs time, and durability is not what this is about.
    let options = SqliteOptions {
        synchronous: Synchronous::Normal,
        ids_in_memory_max,
        ..SqliteOptions::new(folder.path().join("bongsu.db"))
    };
    let sqlite = SqliteStore::open(options.clone()).await.unwrap();
    let mut pair = Pair { memory: MemoryStore::default(), sqlite, options, now: 100 };
    for operation in operations {
        pair.run(operation).await;
    }
    pair.run(Operation::Reopen).await;
    for topic in 0..TOPICS.len() {
        for range in [HistoryRange::Forward(Start::Earliest), HistoryRange::Backward(None)] {
            pair.read(HistoryQuery { topic: name(topic), range, limit: 1000 }).await;
        }
    }
    pair.sqlite.close().await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 2000, ..ProptestConfig::default() })]

    #[test]
    fn sqlite_answers_as_memory_does(
        operations in vec(operation(), 1..60),
        ids_in_memory_max in prop_oneof![Just(usize::MAX), Just(0), Just(3)],
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(check(operations, ids_in_memory_max));
    }
}
