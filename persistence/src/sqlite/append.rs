//! One batch, one transaction.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use bongsu_protocol::message::{Delivery, Time};
use bongsu_protocol::position::Position;
use bongsu_protocol::topic::Topic;
use sqlx::sqlite::{SqliteArguments, SqliteConnection};
use sqlx::{Arguments, Executor, Row};

use super::ids::{Guard, Ids, NewId, bind_id};
use super::rows::{
    Log, Sizes, bind_message, column, execute, log_columns, message_columns, pieces, query, sizes,
};
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

/// A lone message of a known log in one statement text: each statement by itself would wake the connection's thread and this one, which
/// costs a lone publisher a good part of what the disk does.
macro_rules! lone {
    ($insert_id:literal) => {
        concat!(
            "BEGIN IMMEDIATE; INSERT INTO messages (log, ",
            message_columns!(),
            ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?); ",
            $insert_id,
            "UPDATE logs SET head = ?, time = ?, bytes = ? WHERE id = ?; COMMIT"
        )
    };
}
const LONE_MESSAGE: &str = lone!("");
const LONE_MESSAGE_WITH_ID: &str = lone!("INSERT INTO ids (log, id, offset, until) VALUES (?, ?, ?, ?); ");

/// Stores a batch and answers one outcome per message, after the commit.
pub(super) async fn append(writer: &mut Writer, batch: Vec<Append>) -> Result<Vec<Appended>, sqlx::Error> {
    load(writer, batch.iter().map(|append| &append.message.topic)).await?;
    let guards = guards(writer, &batch).await?;
    let plan = Plan::new(&writer.logs, writer.floors, &guards, batch);
    if !plan.messages.is_empty() {
        let moved = plan.write(writer).await?;
        writer.floors.log = plan.floors.log;
        writer.ids.add(&plan.ids);
        writer.ids.forget(&moved);
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

/// Looks up the ids of the messages whose topic has a log: for each message of the batch that has one, its guard.
async fn guards(writer: &mut Writer, batch: &[Append]) -> Result<HashMap<usize, Guard>, sqlx::Error> {
    let mut wanted = Vec::new();
    let mut indexes = Vec::new();
    for (index, append) in batch.iter().enumerate() {
        let id = append.message.message.id.as_str();
        if id.is_empty() {
            continue;
        }
        if let Some(log) = writer.logs.get(&append.message.topic) {
            wanted.push((log.id, id));
            indexes.push(index);
        }
    }
    let found = writer.ids.find(&mut writer.connection, &wanted).await?;
    Ok(indexes.into_iter().zip(found).filter_map(|(index, guard)| Some((index, guard?))).collect())
}

/// What a batch comes to: decided in memory, then written in as few statements as possible.
struct Plan {
    outcomes: Vec<Appended>,
    /// New messages, each with its log's number.
    messages: Vec<(i64, Arc<Delivery>)>,
    ids: Vec<NewId>,
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
                let epoch = log.map_or(0, |log| log.epoch);
                plan.outcomes.push(Appended::Duplicate(Position::new(epoch, guard.offset)));
                continue;
            }
            let head = log.map_or_else(Position::default, |log| log.at(log.head));
            if append.message.expect.is_some_and(|expected| expected != head.offset) {
                plan.outcomes.push(Appended::Conflict { head });
                continue;
            }
            let (delivery, until) = plan.store(log, append);
            if let (Some(until), Some(position)) = (until, delivery.position) {
                stored
                    .insert((topic, delivery.message.id.clone()), Guard { offset: position.offset.0, until });
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

    /// Writes it all, in one transaction. Answers which ids memory may forget.
    async fn write(&self, writer: &mut Writer) -> Result<Vec<(u128, u64)>, sqlx::Error> {
        let mut changed: Vec<(&Topic, &Log)> = self.logs.iter().collect();
        changed.sort_unstable_by_key(|(_, log)| log.id);
        // New logs have the largest numbers.
        let (old, new) = changed.split_at(changed.partition_point(|(_, log)| log.id <= writer.floors.log));
        if let ([message], [], [(_, log)]) = (self.messages.as_slice(), new, old)
            && !writer.ids.is_full()
        {
            self.write_lone(&mut writer.connection, message, log).await?;
            return Ok(Vec::new());
        }
        writer.begin().await?;
        let connection = &mut writer.connection;
        let moved = if writer.ids.is_full() { writer.ids.move_oldest(connection).await? } else { Vec::new() };
        execute(connection, &INSERT_MESSAGES, &self.messages, |arguments, (log, delivery)| {
            bind_message(arguments, *log, delivery)
        })
        .await?;
        Ids::write(connection, &self.ids).await?;
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
        writer.commit().await?;
        Ok(moved)
    }

    async fn write_lone(
        &self,
        connection: &mut SqliteConnection,
        (log_id, delivery): &(i64, Arc<Delivery>),
        log: &Log,
    ) -> Result<(), sqlx::Error> {
        let mut arguments = SqliteArguments::default();
        let bind = |arguments: &mut SqliteArguments| {
            bind_message(arguments, *log_id, delivery)?;
            for id in &self.ids {
                bind_id(arguments, id)?;
            }
            arguments.add(column(log.head))?;
            arguments.add(column(log.time.0))?;
            arguments.add(column(log.bytes))?;
            arguments.add(log.id)
        };
        bind(&mut arguments).map_err(sqlx::Error::Encode)?;
        let sql = if self.ids.is_empty() { LONE_MESSAGE } else { LONE_MESSAGE_WITH_ID };
        connection.execute(sqlx::query_with(sql, arguments)).await.map(drop)
    }
}
