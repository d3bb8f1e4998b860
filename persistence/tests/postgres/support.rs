//! Short ways to say what a test does.

use std::collections::BTreeMap;
use std::time::Duration;

use bongsu_persistence::postgres::{PostgresOptions, PostgresStore};
use bongsu_persistence::store::{Append, Appended, Error, Store};
use bongsu_protocol::command::{HistoryQuery, HistoryRange, Start};
use bongsu_protocol::event::Page;
use bongsu_protocol::message::{Message, NewMessage, Time};
use bongsu_protocol::position::Position;
use bongsu_protocol::topic::Topic;
use bongsu_testkit::Postgres;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Connection, Executor, Row};

/// An empty database of the server that all tests share.
pub(crate) fn database() -> String {
    Postgres::shared().database()
}

pub(crate) async fn open(url: &str) -> PostgresStore {
    PostgresStore::open(PostgresOptions::new(url)).await.unwrap()
}

/// The database as another program sees it.
pub(crate) async fn tool(url: &str) -> PgConnection {
    PgConnection::connect(url).await.unwrap()
}

pub(crate) async fn run(connection: &mut PgConnection, sql: &str) {
    connection.execute(sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))).await.unwrap();
}

/// The first column of the first row, which is a number.
pub(crate) async fn count(connection: &mut PgConnection, sql: &str) -> i64 {
    connection.fetch_one(AssertSqlSafe(sql.to_owned())).await.unwrap().get(0)
}

/// The first column of all rows, which is a text.
pub(crate) async fn texts(connection: &mut PgConnection, sql: &str) -> Vec<String> {
    let rows = connection.fetch_all(AssertSqlSafe(sql.to_owned())).await.unwrap();
    rows.iter().map(|row: &PgRow| row.get(0)).collect()
}

pub(crate) fn topic(name: &str) -> Topic {
    Topic::parse(name).unwrap()
}

/// A message at time 1,000 with an id that guards for a minute; none if it is empty.
pub(crate) fn message(topic_name: &str, payload: &str, id: &str) -> Append {
    let message = Message { id: id.to_owned(), ..Message::new(payload.to_owned()) };
    Append {
        message: NewMessage { topic: topic(topic_name), message, expect: None },
        publisher: String::new(),
        time: Time(1000),
        idempotency_window: Duration::from_secs(60),
    }
}

/// Appends one message.
pub(crate) async fn append(store: &PostgresStore, topic: &str, payload: &str) -> Result<Position, Error> {
    match store.append(vec![message(topic, payload, "")]).await?.remove(0) {
        Appended::Stored(delivery) => Ok(delivery.position.unwrap()),
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn read(
    store: &PostgresStore,
    topic_name: &str,
    range: HistoryRange,
) -> Result<Page, Error> {
    store.read(HistoryQuery { topic: topic(topic_name), range, limit: 1000 }).await
}

/// All of a log, page by page: payloads by offset. Panics at a hole.
pub(crate) async fn log(store: &PostgresStore, topic: &str) -> BTreeMap<u64, String> {
    let mut log = BTreeMap::new();
    let mut start = Start::Earliest;
    loop {
        let page = read(store, topic, HistoryRange::Forward(start)).await.unwrap();
        for delivery in &page.messages {
            let offset = delivery.position.unwrap().offset.0;
            let payload = String::from_utf8(delivery.message.payload.to_vec()).unwrap();
            assert!(log.insert(offset, payload).is_none(), "{topic} {offset} came twice");
            start = Start::After(delivery.position.unwrap());
        }
        if !page.more {
            let expected: Vec<u64> = (page.first.offset.0..=page.head.offset.0).collect();
            assert_eq!(log.keys().copied().collect::<Vec<_>>(), expected, "{topic} has holes");
            return log;
        }
    }
}

/// Asks until there is an answer, for a minute at most.
pub(crate) async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), asking)
        .await
        .unwrap_or_else(|_| panic!("{what}: not within a minute"))
}

/// A row of pseudo-random numbers, the same for the same seed.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below another.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % n as u64).unwrap()
    }
}
