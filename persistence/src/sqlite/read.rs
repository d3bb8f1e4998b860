//! Pages and listings, each from one snapshot.

use std::sync::Arc;
use std::time::Duration;

use bongsu_protocol::command::{HistoryQuery, HistoryRange, Start};
use bongsu_protocol::event::Page;
use bongsu_protocol::limits::{PAGE_BYTES_MAX, PAGE_MESSAGES_MAX};
use bongsu_protocol::message::{Delivery, Time};
use bongsu_protocol::position::Position;
use bongsu_protocol::topic::Topic;
use sqlx::sqlite::{SqliteConnection, SqlitePool, SqliteRow};
use sqlx::{Executor, Row};

use super::rows::{Log, column, log_columns, message_columns, message_from_row, number};
use crate::names::Walk;
use crate::store::{ListQuery, Listing, LogBounds};

/// How long a read waits for a connection. Reads take milliseconds: longer means that the disk hangs.
pub(super) const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);

const SELECT_LOG: &str = concat!("SELECT ", log_columns!(), " FROM logs WHERE topic = ?1");

const SELECT_NAMES: &str =
    concat!("SELECT ", log_columns!(), ", topic FROM logs WHERE topic >= ?1 ORDER BY topic LIMIT ?2");

const SELECT_NAMES_UNTIL: &str = concat!(
    "SELECT ",
    log_columns!(),
    ", topic FROM logs WHERE topic >= ?1 AND topic < ?3 ORDER BY topic LIMIT ?2"
);

/// A walk over payload lengths finds the page's end without reading payloads; then one range of rows is the page. ?3 is the most
/// messages, ?4 the most payload bytes.
macro_rules! select_page {
    ($start:literal, $ends:literal, $direction:literal, $within:literal) => {
        concat!(
            "SELECT ",
            message_columns!(),
            " FROM messages WHERE log = ?1 AND ",
            $start,
            " AND ",
            $within,
            " (SELECT ",
            $ends,
            "(offset) FROM (SELECT offset, row_number() OVER page AS n, sum(bytes) OVER page AS total FROM ",
            "(SELECT offset, coalesce(length(payload), 0) AS bytes FROM messages WHERE log = ?1 AND ",
            $start,
            " ORDER BY offset ",
            $direction,
            " LIMIT ?3) WINDOW page AS (ORDER BY offset ",
            $direction,
            " ROWS UNBOUNDED PRECEDING)) WHERE total <= ?4 OR n = 1) ORDER BY offset ",
            $direction
        )
    };
}

const SELECT_FORWARD: &str = select_page!("offset >= ?2", "max", "ASC", "offset <=");
const SELECT_BACKWARD: &str = select_page!("offset < ?2", "min", "DESC", "offset >=");

/// The first offset from ?2 to ?3 whose time is not before ?4, or ?3 if there is none, by bisection: times never go back.
const SELECT_BY_TIME: &str = "WITH RECURSIVE half (low, high) AS (
        SELECT ?2, ?3
        UNION ALL
        SELECT iif(time < ?4, offset + 1, low), iif(time < ?4, high, offset)
        FROM half CROSS JOIN messages ON log = ?1 AND offset = (low + high) / 2
        WHERE low < high
    )
    SELECT low FROM half WHERE low >= high";

/// Reads one page.
pub(super) async fn page(readers: &SqlitePool, query: &HistoryQuery) -> Result<Page, sqlx::Error> {
    // Dropping it ends it, also when this future is dropped half way.
    let mut snapshot = readers.begin().await?;
    let connection = &mut *snapshot;
    let row = connection.fetch_optional(sqlx::query(SELECT_LOG).bind(query.topic.as_str())).await?;
    let Some(row) = row else {
        let (first, head) = (Position::new(0, 1), Position::new(0, 0));
        return Ok(Page { messages: Vec::new(), first, head, more: false });
    };
    let log = Log::from_row(&row)?;
    let range = match query.range {
        HistoryRange::Forward(Start::Time(time)) => {
            Range::Forward { from: by_time(connection, &log, time).await? }
        }
        HistoryRange::Forward(start) => Range::Forward { from: forward_from(&log, start) },
        HistoryRange::Backward(before) => Range::Backward { before: backward_before(&log, before) },
    };
    let n_left = match range {
        Range::Forward { from } => (log.head + 1).saturating_sub(from),
        Range::Backward { before } => before - log.first,
    };
    let n_wanted = n_left.min(u64::from(query.limit)).min(PAGE_MESSAGES_MAX as u64);
    let messages = if n_wanted == 0 {
        Vec::new()
    } else {
        messages(connection, &query.topic, &log, range, n_wanted).await?
    };
    snapshot.commit().await?;
    let more = (messages.len() as u64) < n_left;
    Ok(Page { messages, first: log.at(log.first), head: log.at(log.head), more })
}

/// Which messages of a log, by offset; all of them are kept.
#[derive(Debug, Clone, Copy)]
enum Range {
    Forward { from: u64 },
    Backward { before: u64 },
}

/// The offset with which reading starts; past the head if there is nothing to read.
fn forward_from(log: &Log, start: Start) -> u64 {
    let nothing = log.head + 1;
    match start {
        Start::Earliest => log.first,
        Start::Last(n) => nothing.saturating_sub(n).max(log.first),
        Start::After(position) if position.epoch.0 == log.epoch && position.offset.0 <= log.head => {
            (position.offset.0 + 1).max(log.first)
        }
        Start::After(_) | Start::Latest | Start::Time(_) => nothing,
    }
}

async fn by_time(connection: &mut SqliteConnection, log: &Log, time: Time) -> Result<u64, sqlx::Error> {
    let query = sqlx::query(SELECT_BY_TIME)
        .bind(log.id)
        .bind(column(log.first))
        .bind(column(log.head + 1))
        .bind(column(time.0));
    number(&connection.fetch_one(query).await?, 0)
}

/// The offset before which reading backward starts; the first one if there is nothing to read.
fn backward_before(log: &Log, before: Option<Position>) -> u64 {
    let end = log.head + 1;
    match before {
        None => end,
        Some(position) if position.epoch.0 == log.epoch && position.offset.0 <= end => {
            position.offset.0.max(log.first)
        }
        Some(_) => log.first,
    }
}

/// Reads the messages of a range, up to the limits of a page; at least one.
async fn messages(
    connection: &mut SqliteConnection,
    topic: &Topic,
    log: &Log,
    range: Range,
    n_max: u64,
) -> Result<Vec<Arc<Delivery>>, sqlx::Error> {
    let (sql, start) = match range {
        Range::Forward { from } => (SELECT_FORWARD, from),
        Range::Backward { before } => (SELECT_BACKWARD, before),
    };
    let query = sqlx::query(sql)
        .bind(log.id)
        .bind(column(start))
        .bind(column(n_max))
        .bind(column(PAGE_BYTES_MAX as u64));
    let rows = connection.fetch_all(query).await?;
    let mut messages = Vec::with_capacity(rows.len());
    for (row, n_before) in rows.iter().zip(0..) {
        let delivery = message_from_row(row, topic, log.epoch)?;
        let expected = match range {
            Range::Forward { from } => from + n_before,
            Range::Backward { before } => before - 1 - n_before,
        };
        if delivery.position != Some(log.at(expected)) {
            return Err(hole(topic, expected));
        }
        messages.push(Arc::new(delivery));
    }
    if messages.is_empty() { Err(hole(topic, start)) } else { Ok(messages) }
}

/// A message that should be there is not: the file was damaged, or written by something else.
fn hole(topic: &Topic, offset: u64) -> sqlx::Error {
    sqlx::Error::Decode(format!("the log of {topic} has no message at offset {offset}").into())
}

/// Lists logs.
pub(super) async fn list(readers: &SqlitePool, query: &ListQuery) -> Result<Listing, sqlx::Error> {
    let mut connection = readers.acquire().await?;
    let mut walk = Walk::new(query);
    while let Some(range) = walk.range() {
        let sql = if range.until.is_some() { SELECT_NAMES_UNTIL } else { SELECT_NAMES };
        // At most the names of one statement.
        let n_names = i64::try_from(range.n_names).unwrap_or(i64::MAX);
        let statement = sqlx::query(sql).bind(&range.from).bind(n_names).bind(&range.until);
        let rows = connection.fetch_all(statement).await?;
        walk.take(rows.iter().map(bounds).collect::<Result<_, _>>()?);
    }
    Ok(walk.finish())
}

fn bounds(row: &SqliteRow) -> Result<LogBounds, sqlx::Error> {
    let log = Log::from_row(row)?;
    let topic = Topic::parse(row.try_get(6)?).map_err(|error| sqlx::Error::Decode(error.into()))?;
    let (first, head) = (log.at(log.first), log.at(log.head));
    Ok(LogBounds { topic, first, head, time: log.time, bytes: log.bytes })
}
