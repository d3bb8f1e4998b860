//! Taking messages, ids and logs away.

use bongsu_protocol::message::Time;
use bongsu_protocol::position::Position;
use bongsu_protocol::topic::Topic;
use sqlx::{Executor, Row};

use super::rows::{Log, column, number};
use super::writer::{Floors, Writer};
use crate::store::{REMOVE_STEP_MAX, Removal, Removed, Retention};

/// What of a log's oldest messages is to go: ?1 the log, ?2 its first offset, ?3 how many messages to look at. A message goes if its
/// time is before ?4, its offset at most ?5, or the bytes before it less than ?6 and it is not the head, ?7. All three hold for the
/// messages up to some offset, so what goes is a range. Of the messages before ?8 the bytes are counted.
const SELECT_EXCESS: &str = "SELECT count(*), coalesce(sum(size) FILTER (WHERE offset < ?8), 0) FROM (
        SELECT offset, time, size, sum(size) OVER (ORDER BY offset ROWS UNBOUNDED PRECEDING) - size AS before
        FROM (SELECT offset, time, size FROM messages WHERE log = ?1 AND offset >= ?2 ORDER BY offset LIMIT ?3)
    )
    WHERE time < ?4 OR offset <= ?5 OR (before < ?6 AND offset < ?7)";

/// Does what is asked, in one transaction.
pub(super) async fn remove(writer: &mut Writer, removal: Removal) -> Result<Removed, sqlx::Error> {
    let topic = match &removal {
        Removal::ForgetIds { now } => return writer.ids.forget_passed(&mut writer.connection, *now).await,
        Removal::Retain { topic, .. }
        | Removal::Purge { topic, .. }
        | Removal::Erase { topic, .. }
        | Removal::Delete { topic } => topic.clone(),
    };
    let Some(log) = writer.log(&topic).await? else { return Ok(Removed::default()) };
    match removal {
        Removal::Retain { retention, now, .. } => retain(writer, topic, log, retention, now).await,
        Removal::Purge { until, .. } => purge(writer, topic, log, until.0).await,
        Removal::Erase { position, .. } => erase(writer, topic, log, position).await,
        Removal::Delete { .. } => delete(writer, &topic, log).await,
        Removal::ForgetIds { .. } => Ok(Removed::default()),
    }
}

async fn retain(
    writer: &mut Writer,
    topic: Topic,
    log: Log,
    retention: Retention,
    now: Time,
) -> Result<Removed, sqlx::Error> {
    let oldest_time = retention
        .age
        .map_or(0, |age| now.0.saturating_sub(u64::try_from(age.as_millis()).unwrap_or(u64::MAX)));
    let until = retention.count.map_or(0, |count| log.head.saturating_sub(count));
    let excess_bytes = retention.bytes.map_or(0, |bytes| log.bytes.saturating_sub(bytes));
    if until < log.first && excess_bytes == 0 && !is_older(writer, &log, oldest_time).await? {
        return Ok(Removed::default());
    }
    let query = sqlx::query(SELECT_EXCESS)
        .bind(log.id)
        .bind(column(log.first))
        // One more than goes, to see whether there is more.
        .bind(column(REMOVE_STEP_MAX + 1))
        .bind(column(oldest_time))
        .bind(column(until))
        .bind(column(excess_bytes))
        .bind(column(log.head))
        .bind(column(log.first + REMOVE_STEP_MAX));
    let row = writer.connection.fetch_one(query).await?;
    let (n_excess, bytes) = (number(&row, 0)?, number(&row, 1)?);
    let count = n_excess.min(REMOVE_STEP_MAX);
    take_oldest(writer, topic, log, count, bytes).await?;
    Ok(Removed { count, more: n_excess > count })
}

/// Whether the oldest kept message is from before a time.
async fn is_older(writer: &mut Writer, log: &Log, time: u64) -> Result<bool, sqlx::Error> {
    if time == 0 || log.first > log.head {
        return Ok(false);
    }
    let query = sqlx::query("SELECT time FROM messages WHERE log = ?1 AND offset = ?2")
        .bind(log.id)
        .bind(column(log.first));
    Ok(number(&writer.connection.fetch_one(query).await?, 0)? < time)
}

async fn purge(writer: &mut Writer, topic: Topic, log: Log, until: u64) -> Result<Removed, sqlx::Error> {
    let n_asked = (until.min(log.head) + 1).saturating_sub(log.first);
    let count = n_asked.min(REMOVE_STEP_MAX);
    let query = sqlx::query(
        "SELECT coalesce(sum(size), 0) FROM messages WHERE log = ?1 AND offset >= ?2 AND offset < ?3",
    )
    .bind(log.id)
    .bind(column(log.first))
    .bind(column(log.first + count));
    let bytes = number(&writer.connection.fetch_one(query).await?, 0)?;
    take_oldest(writer, topic, log, count, bytes).await?;
    Ok(Removed { count, more: n_asked > count })
}

/// Takes a log's oldest messages away.
async fn take_oldest(
    writer: &mut Writer,
    topic: Topic,
    log: Log,
    count: u64,
    bytes: u64,
) -> Result<(), sqlx::Error> {
    if count == 0 {
        return Ok(());
    }
    let rest = Log { first: log.first + count, bytes: log.bytes.saturating_sub(bytes), ..log };
    writer.begin().await?;
    let delete = sqlx::query("DELETE FROM messages WHERE log = ?1 AND offset < ?2")
        .bind(log.id)
        .bind(column(rest.first));
    writer.connection.execute(delete).await?;
    update(writer, &rest).await?;
    writer.commit().await?;
    writer.logs.insert(topic, rest);
    Ok(())
}

async fn update(writer: &mut Writer, log: &Log) -> Result<(), sqlx::Error> {
    let update = sqlx::query("UPDATE logs SET first = ?2, bytes = ?3 WHERE id = ?1")
        .bind(log.id)
        .bind(column(log.first))
        .bind(column(log.bytes));
    writer.connection.execute(update).await.map(drop)
}

/// Takes a message's content away, from the file as well: the bytes are overwritten, and the write-ahead log, which may hold them too,
/// is emptied.
async fn erase(
    writer: &mut Writer,
    topic: Topic,
    log: Log,
    position: Position,
) -> Result<Removed, sqlx::Error> {
    let offset = position.offset.0;
    if position != log.at(offset) {
        return Ok(Removed::default());
    }
    let query = sqlx::query(
        "SELECT size, coalesce(octet_length(id), 0) FROM messages WHERE log = ?1 AND offset = ?2 AND payload IS NOT NULL",
    )
    .bind(log.id)
    .bind(column(offset));
    let Some(row) = writer.connection.fetch_optional(query).await? else { return Ok(Removed::default()) };
    let (size_before, size) = (number(&row, 0)?, number(&row, 1)?);
    let rest = Log { bytes: log.bytes.saturating_sub(size_before.saturating_sub(size)), ..log };
    // Where something below fails it stays on: that costs time, and nothing else.
    writer.connection.execute("PRAGMA secure_delete = ON").await?;
    writer.begin().await?;
    let erase = sqlx::query(
        "UPDATE messages SET size = ?3, content_type = NULL, headers = NULL, payload = NULL WHERE log = ?1 AND offset = ?2",
    )
    .bind(log.id)
    .bind(column(offset))
    .bind(column(size));
    writer.connection.execute(erase).await?;
    update(writer, &rest).await?;
    writer.commit().await?;
    writer.logs.insert(topic, rest);
    writer.connection.execute("PRAGMA secure_delete = OFF").await?;
    writer.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").await?;
    Ok(Removed { count: 1, more: false })
}

/// Takes a log away at once, whatever its size; its rows follow step by step.
async fn delete(writer: &mut Writer, topic: &Topic, log: Log) -> Result<Removed, sqlx::Error> {
    let floors = Floors { log: writer.floors.log.max(log.id), epoch: writer.floors.epoch.max(log.epoch) };
    writer.begin().await?;
    writer.connection.execute(sqlx::query("DELETE FROM logs WHERE id = ?1").bind(log.id)).await?;
    writer.connection.execute(sqlx::query("INSERT INTO dead_logs (log) VALUES (?1)").bind(log.id)).await?;
    writer.write_floors(floors).await?;
    writer.commit().await?;
    writer.logs.remove(topic);
    writer.floors = floors;
    writer.dead = true;
    Ok(Removed { count: log.head + 1 - log.first, more: false })
}

/// Messages of deleted logs that one step takes away: fewer than other removals, since publishers did not ask for it. A step takes
/// about a millisecond.
const SWEEP_STEP_MAX: i64 = 512;

/// Takes some of the messages of deleted logs away, and notes when none are left. Their ids refuse nothing any more, since a log's number
/// is never given again; they go when their window has passed.
pub(super) async fn sweep(writer: &mut Writer) -> Result<(), sqlx::Error> {
    let connection = &mut writer.connection;
    let row = connection.fetch_optional("SELECT log FROM dead_logs LIMIT 1").await?;
    let Some(row) = row else {
        writer.dead = false;
        return Ok(());
    };
    let log: i64 = row.try_get(0)?;
    let delete = "DELETE FROM messages WHERE log = ?1 AND offset IN (SELECT offset FROM messages WHERE log = ?1 LIMIT ?2)";
    let deleted = connection.execute(sqlx::query(delete).bind(log).bind(SWEEP_STEP_MAX)).await?;
    if deleted.rows_affected() == 0 {
        connection.execute(sqlx::query("DELETE FROM dead_logs WHERE log = ?1").bind(log)).await?;
    }
    Ok(())
}
