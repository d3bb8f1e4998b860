//! One batch, one transaction.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use bongsu_protocol::message::{Delivery, Time};
use bongsu_protocol::position::Position;
use bongsu_protocol::topic::Topic;
use sqlx::error::BoxDynError;
use sqlx::sqlite::{SqliteArguments, SqliteConnection, SqliteRow};
use sqlx::{Arguments, Executor, Row, SqlStr};

use super::rows::{Log, Sizes, bind_message, column, log_columns, message_columns, number, pieces, sizes};
use super::writer::{Floors, Writer};
use crate::store::{Append, Appended};

static INSERT_MESSAGES: Sizes =
    LazyLock::new(|| sizes(concat!("INSERT INTO messages (log, ", message_columns!(), ") VALUES "), 9, ""));

static INSERT_LOGS: Sizes =
    LazyLock::new(|| sizes(concat!("INSERT INTO logs (topic, ", log_columns!(), ") VALUES "), 7, ""));

static UPDATE_LOGS: Sizes = LazyLock::new(|| {
    sizes(
        "UPDATE logs SET head = new.column2, time = new.column3, bytes = new.column4 FROM (VALUES ",
        4,
        ") AS new WHERE logs.id = new.column1",
    )
});

static SELECT_LOGS: Sizes = LazyLock::new(|| {
    sizes(
        concat!("SELECT ", log_columns!(), ", topic FROM (VALUES ",),
        1,
        ") AS wanted CROSS JOIN logs ON logs.topic = wanted.column1",
    )
});

static INSERT_IDS: Sizes = LazyLock::new(|| {
    sizes(
        "INSERT INTO ids (log, id, offset, until) VALUES ",
        4,
        " ON CONFLICT (log, id) DO UPDATE SET offset = excluded.offset, until = excluded.until",
    )
});

static SELECT_IDS: Sizes = LazyLock::new(|| {
    sizes(
        "SELECT wanted.column1, offset, until FROM (VALUES ",
        3,
        ") AS wanted CROSS JOIN ids ON ids.log = wanted.column2 AND ids.id = wanted.column3",
    )
});

/// Stores a batch and answers one outcome per message, after the commit.
pub(super) async fn append(writer: &mut Writer, batch: Vec<Append>) -> Result<Vec<Appended>, sqlx::Error> {
    load(writer, batch.iter().map(|append| &append.message.topic)).await?;
    let guards = guards(writer, &batch).await?;
    let plan = Plan::new(&writer.logs, writer.floors, &guards, batch);
    if !plan.messages.is_empty() {
        plan.write(writer).await?;
        writer.floors.log = plan.floors.log;
        writer.logs.extend(plan.logs);
    }
    Ok(plan.outcomes)
}

/// Reads the logs of the topics, as far as they are not known yet and exist.
pub(super) async fn load<'a>(
    writer: &mut Writer,
    topics: impl Iterator<Item = &'a Topic>,
) -> Result<(), sqlx::Error> {
    let mut unknown: Vec<&Topic> = topics.filter(|topic| !writer.logs.contains_key(*topic)).collect();
    unknown.sort_unstable();
    unknown.dedup();
    for (sql, piece) in pieces(&unknown, &SELECT_LOGS) {
        let rows =
            query(&mut writer.connection, sql, piece, |arguments, topic| arguments.add(topic.as_str()))
                .await?;
        for row in rows {
            let name: &str = row.try_get(6)?;
            let found = piece.binary_search_by(|topic| topic.as_str().cmp(name));
            let topic = found.map_err(|_| sqlx::Error::RowNotFound)?;
            writer.logs.insert(piece[topic].clone(), Log::from_row(&row)?);
        }
    }
    Ok(())
}

/// A message id that was stored, and until when it refuses a second one.
#[derive(Debug, Clone, Copy)]
struct Guard {
    position: Position,
    until: Time,
}

/// Looks up the ids of the messages whose topic has a log: for each message of the batch, what is known of its id.
async fn guards(writer: &mut Writer, batch: &[Append]) -> Result<HashMap<usize, Guard>, sqlx::Error> {
    let mut wanted = Vec::new();
    for (index, append) in batch.iter().enumerate() {
        let log = writer.logs.get(&append.message.topic);
        if let Some(log) = log
            && !append.message.message.id.is_empty()
        {
            wanted.push((index, *log, append.message.message.id.as_str()));
        }
    }
    let mut guards = HashMap::new();
    for (sql, piece) in pieces(&wanted, &SELECT_IDS) {
        let rows = query(&mut writer.connection, sql, piece, |arguments, (index, log, id)| {
            arguments.add(column(*index as u64))?;
            arguments.add(log.id)?;
            arguments.add(*id)
        });
        for row in rows.await? {
            let index = usize::try_from(number(&row, 0)?).unwrap_or(usize::MAX);
            let log = writer.logs.get(&batch[index].message.topic).ok_or(sqlx::Error::RowNotFound)?;
            guards.insert(index, Guard { position: log.at(number(&row, 1)?), until: Time(number(&row, 2)?) });
        }
    }
    Ok(guards)
}

/// What a batch comes to: decided in memory, then written in as few statements as possible.
struct Plan {
    outcomes: Vec<Appended>,
    /// New messages, each with its log's number.
    messages: Vec<(i64, Arc<Delivery>)>,
    /// New ids, each with its log's number and its message's offset.
    ids: Vec<(i64, Arc<Delivery>, Time)>,
    /// The logs that the batch adds to, as they will be.
    logs: HashMap<Topic, Log>,
    floors: Floors,
}

impl Plan {
    fn new(
        known: &HashMap<Topic, Log>,
        floors: Floors,
        guards: &HashMap<usize, Guard>,
        batch: Vec<Append>,
    ) -> Self {
        let mut plan = Self {
            outcomes: Vec::with_capacity(batch.len()),
            messages: Vec::with_capacity(batch.len()),
            ids: Vec::new(),
            logs: HashMap::new(),
            floors,
        };
        // Ids that this batch itself has stored so far: newer than what was looked up.
        let mut stored: HashMap<(Topic, String), Guard> = HashMap::new();
        for (index, append) in batch.into_iter().enumerate() {
            let topic = append.message.topic.clone();
            let log = plan.logs.get(&topic).or_else(|| known.get(&topic)).copied();
            let guard = if append.message.message.id.is_empty() {
                None
            } else {
                stored.get(&(topic.clone(), append.message.message.id.clone())).or_else(|| guards.get(&index))
            };
            if let Some(guard) = guard
                && append.time < guard.until
            {
                plan.outcomes.push(Appended::Duplicate(guard.position));
                continue;
            }
            let head = log.map_or_else(Position::default, |log| log.at(log.head));
            if append.message.expect.is_some_and(|expected| expected != head.offset) {
                plan.outcomes.push(Appended::Conflict { head });
                continue;
            }
            let (delivery, until) = plan.store(log, append);
            if let (Some(until), Some(position)) = (until, delivery.position) {
                stored.insert((topic, delivery.message.id.clone()), Guard { position, until });
            }
            plan.outcomes.push(Appended::Stored(delivery));
        }
        // Neighbours in the table one after another.
        plan.messages.sort_by_key(|(log, _)| *log);
        plan
    }

    /// Gives a message its place. Also answers until when its id refuses a second one.
    fn store(&mut self, log: Option<Log>, append: Append) -> (Arc<Delivery>, Option<Time>) {
        let mut log = log.unwrap_or_else(|| {
            self.floors.log += 1;
            let epoch = append.time.0.max(self.floors.epoch + 1);
            Log { id: self.floors.log, epoch, first: 1, head: 0, time: Time(0), bytes: 0 }
        });
        log.head += 1;
        log.time = log.time.max(append.time);
        log.bytes += append.message.message.size_bytes() as u64;
        let until = append.guarded_until(log.time);
        let delivery = Arc::new(Delivery {
            topic: append.message.topic,
            position: Some(log.at(log.head)),
            time: log.time,
            publisher: append.publisher,
            message: append.message.message,
            erased: false,
        });
        self.messages.push((log.id, delivery.clone()));
        if let Some(until) = until {
            self.ids.push((log.id, delivery.clone(), until));
        }
        self.logs.insert(delivery.topic.clone(), log);
        (delivery, until)
    }

    /// Writes it all, in one transaction.
    async fn write(&self, writer: &mut Writer) -> Result<(), sqlx::Error> {
        let mut changed: Vec<(&Topic, &Log)> = self.logs.iter().collect();
        changed.sort_unstable_by_key(|(_, log)| log.id);
        // New logs have the largest numbers.
        let (old, new) = changed.split_at(changed.partition_point(|(_, log)| log.id <= writer.floors.log));
        writer.begin().await?;
        let connection = &mut writer.connection;
        execute(connection, &INSERT_MESSAGES, &self.messages, |arguments, (log, delivery)| {
            bind_message(arguments, *log, delivery)
        })
        .await?;
        execute(connection, &INSERT_IDS, &self.ids, |arguments, (log, delivery, until)| {
            arguments.add(*log)?;
            arguments.add(delivery.message.id.as_str())?;
            arguments.add(column(delivery.position.map_or(0, |position| position.offset.0)))?;
            arguments.add(column(until.0))
        })
        .await?;
        execute(connection, &INSERT_LOGS, new, |arguments, (topic, log)| {
            arguments.add(topic.as_str())?;
            arguments.add(log.id)?;
            arguments.add(column(log.epoch))?;
            arguments.add(column(log.first))?;
            arguments.add(column(log.head))?;
            arguments.add(column(log.time.0))?;
            arguments.add(column(log.bytes))
        })
        .await?;
        execute(connection, &UPDATE_LOGS, old, |arguments, (_, log)| {
            arguments.add(log.id)?;
            arguments.add(column(log.head))?;
            arguments.add(column(log.time.0))?;
            arguments.add(column(log.bytes))
        })
        .await?;
        writer.commit().await
    }
}

/// Runs a statement for all rows, as often as its largest size asks for.
async fn execute<T>(
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
async fn query<T>(
    connection: &mut SqliteConnection,
    sql: SqlStr,
    piece: &[T],
    bind: impl Fn(&mut SqliteArguments, &T) -> Result<(), BoxDynError>,
) -> Result<Vec<SqliteRow>, sqlx::Error> {
    connection.fetch_all(sqlx::query_with(sql, arguments(piece, &bind)?)).await
}

fn arguments<T>(
    piece: &[T],
    bind: &impl Fn(&mut SqliteArguments, &T) -> Result<(), BoxDynError>,
) -> Result<SqliteArguments, sqlx::Error> {
    let mut arguments = SqliteArguments::default();
    for row in piece {
        bind(&mut arguments, row).map_err(sqlx::Error::Encode)?;
    }
    Ok(arguments)
}
