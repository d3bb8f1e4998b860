//! Random operations on a store and on the memory store, which must answer alike, also after what a store survives: SQLite's file is
//! opened again, Postgres's partitions grow old.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::sync::LazyLock;
use std::time::Duration;

use bongsu_persistence::memory::MemoryStore;
use bongsu_persistence::postgres::{PostgresOptions, PostgresStore};
use bongsu_persistence::sqlite::{SqliteOptions, SqliteStore, Synchronous};
use bongsu_persistence::store::{
    Append, Appended, ChangeMark, Changes, Error, ListQuery, Listing, Removal, Removed, Retention, Store,
    TopicsQuery,
};
use bongsu_protocol::command::{HistoryQuery, HistoryRange, Start};
use bongsu_protocol::event::Page;
use bongsu_protocol::message::{Message, NewMessage, Time};
use bongsu_protocol::position::{Offset, Position};
use bongsu_protocol::topic::{Topic, TopicFilter};
use futures_util::future::BoxFuture;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use sqlx::postgres::PgConnection;
use sqlx::{Connection, Executor};

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
    Survive,
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
        1 => Just(Operation::Survive),
    ]
}

/// A store under test.
trait Survivor: Store {
    /// Goes through what must not be noticed.
    async fn survive(&mut self);
}

/// Both stores, and the clock.
struct Pair<S> {
    memory: MemoryStore,
    store: S,
    now: u64,
}

impl<S: Survivor> Pair<S> {
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
                assert_eq!(self.store.topics(query).await.unwrap(), expected);
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
                while self.store.remove(removal.clone()).await.unwrap().more {}
            }
            Operation::Survive => self.store.survive().await,
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
        assert_eq!(self.store.append(appends).await.unwrap(), expected);
    }

    async fn read(&self, query: HistoryQuery) {
        let expected = self.memory.read(query.clone()).await.unwrap();
        assert_eq!(self.store.read(query).await.unwrap(), expected);
    }

    async fn remove(&self, removal: Removal) {
        let expected = self.memory.remove(removal.clone()).await.unwrap();
        assert_eq!(self.store.remove(removal).await.unwrap(), expected);
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

async fn check(store: impl Survivor, operations: Vec<Operation>) {
    let mut pair = Pair { memory: MemoryStore::default(), store, now: 100 };
    for operation in operations {
        pair.run(operation).await;
    }
    pair.run(Operation::Survive).await;
    for topic in 0..TOPICS.len() {
        for range in [HistoryRange::Forward(Start::Earliest), HistoryRange::Backward(None)] {
            pair.read(HistoryQuery { topic: name(topic), range, limit: 1000 }).await;
        }
    }
}

/// A file that is opened again.
struct File {
    store: SqliteStore,
    options: SqliteOptions,
    _folder: tempfile::TempDir,
}

impl File {
    async fn new(ids_in_memory_max: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Every commit of a disk costs time, and durability is not what this is about.
        let options = SqliteOptions {
            synchronous: Synchronous::Normal,
            ids_in_memory_max,
            ..SqliteOptions::new(folder.path().join("bongsu.db"))
        };
        Self { store: SqliteStore::open(options.clone()).await.unwrap(), options, _folder: folder }
    }
}

impl Survivor for File {
    async fn survive(&mut self) {
        self.store.close().await;
        self.store = SqliteStore::open(self.options.clone()).await.unwrap();
    }
}

/// A database in which days go by.
struct Database {
    store: PostgresStore,
    connection: PgConnection,
}

impl Database {
    async fn new() -> Self {
        static URL: LazyLock<String> = LazyLock::new(|| bongsu_testkit::Postgres::shared().database());
        let mut connection = PgConnection::connect(&URL).await.unwrap();
        connection.execute("drop schema if exists bongsu cascade").await.unwrap();
        Self { store: PostgresStore::open(PostgresOptions::new(&*URL)).await.unwrap(), connection }
    }
}

impl Survivor for Database {
    async fn survive(&mut self) {
        // Also those that were made ahead: the partition that takes what comes next is another one, and what is due is swept.
        let pass = "update bongsu.partitions set starts = starts - interval '1 day'; \
             update bongsu.dead set due = due - interval '1 day'";
        self.connection.execute(pass).await.unwrap();
        self.store.upkeep().await.unwrap();
    }
}

macro_rules! stores {
    ($($owner:ident)+) => {
        $(impl Store for $owner {
            fn append(&self, batch: Vec<Append>) -> BoxFuture<'_, Result<Vec<Appended>, Error>> {
                self.store.append(batch)
            }
            fn read(&self, query: HistoryQuery) -> BoxFuture<'_, Result<Page, Error>> {
                self.store.read(query)
            }
            fn list(&self, query: ListQuery) -> BoxFuture<'_, Result<Listing, Error>> {
                self.store.list(query)
            }
            fn changes(&self, since: Option<ChangeMark>) -> BoxFuture<'_, Result<Changes, Error>> {
                self.store.changes(since)
            }
            fn remove(&self, removal: Removal) -> BoxFuture<'_, Result<Removed, Error>> {
                self.store.remove(removal)
            }
        })+
    };
}

stores!(File Database);

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 2000, ..ProptestConfig::default() })]

    #[test]
    fn sqlite_answers_as_memory_does(
        operations in vec(operation(), 1..60),
        ids_in_memory_max in prop_oneof![Just(usize::MAX), Just(0), Just(3)],
    ) {
        runtime().block_on(async { check(File::new(ids_in_memory_max).await, operations).await });
    }
}

proptest! {
    // Each case makes the schema anew.
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 500, ..ProptestConfig::default() })]

    #[test]
    fn postgres_answers_as_memory_does(operations in vec(operation(), 1..60)) {
        runtime().block_on(async { check(Database::new().await, operations).await });
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}
