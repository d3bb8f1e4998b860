//! How messages and logs stand in their tables.

use std::sync::LazyLock;

use bongsu_protocol::message::{Delivery, Message, Time};
use bongsu_protocol::position::Position;
use bongsu_protocol::topic::Topic;
use bytes::Bytes;
use sqlx::error::BoxDynError;
use sqlx::sqlite::{SqliteArguments, SqliteConnection, SqliteRow};
use sqlx::{Arguments, AssertSqlSafe, Executor, Row, SqlSafeStr, SqlStr};

/// A log as the table holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Log {
    /// Its number, by which its messages are found.
    pub(super) id: i64,
    pub(super) epoch: u64,
    /// The oldest kept message's offset; one after the head if none is kept.
    pub(super) first: u64,
    /// The newest message's offset, also where it was trimmed.
    pub(super) head: u64,
    /// The newest message's time, also where it was trimmed.
    pub(super) time: Time,
    /// The sum of the sizes of the kept messages.
    pub(super) bytes: u64,
}

/// The columns of [`Log`], in the order of [`Log::from_row`].
macro_rules! log_columns {
    () => {
        "id, epoch, first, head, time, bytes"
    };
}
pub(super) use log_columns;

impl Log {
    pub(super) fn from_row(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: row.try_get(0)?,
            epoch: number(row, 1)?,
            first: number(row, 2)?,
            head: number(row, 3)?,
            time: Time(number(row, 4)?),
            bytes: number(row, 5)?,
        })
    }

    pub(super) fn at(&self, offset: u64) -> Position {
        Position::new(self.epoch, offset)
    }
}

/// Reads a number that is never negative.
pub(super) fn number(row: &SqliteRow, index: usize) -> Result<u64, sqlx::Error> {
    let value: i64 = row.try_get(index)?;
    u64::try_from(value)
        .map_err(|source| sqlx::Error::ColumnDecode { index: index.to_string(), source: source.into() })
}

/// The form of a number in a column. Every number of the protocol is at most 2^53 - 1; a larger one (a retention of
/// "everything") means the largest.
pub(super) fn column(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// The columns of a message, in the order of [`bind_message`] and, after `log`, of [`message_from_row`].
macro_rules! message_columns {
    () => {
        "offset, time, size, id, publisher, content_type, headers, payload"
    };
}
pub(super) use message_columns;

/// Adds one message's values to the arguments of an insert.
pub(super) fn bind_message(
    arguments: &mut SqliteArguments,
    log: i64,
    delivery: &Delivery,
) -> Result<(), BoxDynError> {
    let message = &delivery.message;
    let offset = delivery.position.map_or(0, |position| position.offset.0);
    arguments.add(log)?;
    arguments.add(column(offset))?;
    arguments.add(column(delivery.time.0))?;
    arguments.add(column(message.size_bytes() as u64))?;
    arguments.add(text_or_null(&message.id))?;
    arguments.add(text_or_null(&delivery.publisher))?;
    arguments.add(text_or_null(&message.content_type))?;
    arguments.add(headers_or_null(&message.headers)?)?;
    arguments.add(message.payload.as_ref())
}

fn text_or_null(text: &str) -> Option<&str> {
    if text.is_empty() { None } else { Some(text) }
}

fn headers_or_null(headers: &[(String, String)]) -> Result<Option<String>, BoxDynError> {
    if headers.is_empty() { Ok(None) } else { Ok(Some(serde_json::to_string(headers)?)) }
}

/// Reads one message.
pub(super) fn message_from_row(row: &SqliteRow, topic: &Topic, epoch: u64) -> Result<Delivery, sqlx::Error> {
    let text = |index| Ok::<_, sqlx::Error>(row.try_get::<Option<String>, _>(index)?.unwrap_or_default());
    let headers = match row.try_get::<Option<&str>, _>(6)? {
        None => Vec::new(),
        Some(json) => serde_json::from_str(json).map_err(|error| sqlx::Error::Decode(error.into()))?,
    };
    let payload: Option<Vec<u8>> = row.try_get(7)?;
    Ok(Delivery {
        topic: topic.clone(),
        position: Some(Position::new(epoch, number(row, 0)?)),
        time: Time(number(row, 1)?),
        publisher: text(4)?,
        erased: payload.is_none(),
        message: Message {
            payload: payload.map(Bytes::from).unwrap_or_default(),
            content_type: text(5)?,
            headers,
            id: text(3)?,
        },
    })
}

/// One statement in several sizes: with 1, 2, 4 … rows of placeholders. Each size is compiled once and stays in the
/// connection's cache.
pub(super) type Sizes = LazyLock<Vec<SqlStr>>;

/// log2 of the most rows in one statement. Larger ones gain nothing measurable; SQLite takes at most 32,766 values in one
/// statement, and 2^8 messages have 2,304.
const SIZE_LOG2_MAX: usize = 8;

/// Builds the sizes: `before (?, …), (?, …) after`.
pub(super) fn sizes(before: &str, n_columns: usize, after: &str) -> Vec<SqlStr> {
    let row = format!("({})", vec!["?"; n_columns].join(","));
    (0..=SIZE_LOG2_MAX)
        .map(|size_log2| {
            AssertSqlSafe(format!("{before}{}{after}", vec![row.as_str(); 1 << size_log2].join(",")))
        })
        .map(SqlSafeStr::into_sql_str)
        .collect()
}

/// Cuts rows into pieces that have a statement of their size each: as few as possible, the largest first.
pub(super) fn pieces<'a, T>(mut rows: &'a [T], sizes: &'a Sizes) -> impl Iterator<Item = (SqlStr, &'a [T])> {
    std::iter::from_fn(move || {
        let size_log2 = rows.len().checked_ilog2()?.min(SIZE_LOG2_MAX as u32);
        let (piece, rest) = rows.split_at(1 << size_log2);
        rows = rest;
        Some((sizes[size_log2 as usize].clone(), piece))
    })
}

/// Runs a statement for all rows, as often as its largest size asks for.
pub(super) async fn execute<T>(
    connection: &mut SqliteConnection,
    sizes: &Sizes,
    rows: &[T],
    bind: impl Fn(&mut SqliteArguments, &T) -> Result<(), BoxDynError>,
) -> Result<(), sqlx::Error> {
    for (sql, piece) in pieces(rows, sizes) {
        connection.execute(sqlx::query_with(sql, arguments(piece, &bind)?)).await?;
    }
    Ok(())
}

/// Runs a statement that answers rows.
pub(super) async fn query<T>(
    connection: &mut SqliteConnection,
    sql: SqlStr,
    piece: &[T],
    bind: impl Fn(&mut SqliteArguments, &T) -> Result<(), BoxDynError>,
) -> Result<Vec<SqliteRow>, sqlx::Error> {
    connection.fetch_all(sqlx::query_with(sql, arguments(piece, &bind)?)).await
}

/// Values of a row at most: those of a message.
const COLUMNS_MAX: usize = 9;

fn arguments<T>(
    piece: &[T],
    bind: &impl Fn(&mut SqliteArguments, &T) -> Result<(), BoxDynError>,
) -> Result<SqliteArguments, sqlx::Error> {
    let mut arguments = SqliteArguments::default();
    arguments.reserve(piece.len() * COLUMNS_MAX, 0);
    for row in piece {
        bind(&mut arguments, row).map_err(sqlx::Error::Encode)?;
    }
    Ok(arguments)
}
