//! The message ids that refuse a second message.
//!
//! Ids come in no order. An index of them on disk would have each batch rewrite about one page per id, many times the bytes of the
//! messages themselves. So new ids are only added at the end of the table `ids`, and found in memory; what memory has no room for moves to
//! the table `old_ids`, which has an index, in the order of that index and many at once.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, LazyLock};

use bongsu_protocol::message::{Delivery, Time};
use sqlx::error::BoxDynError;
use sqlx::sqlite::{SqliteArguments, SqliteConnection};
use sqlx::{Arguments, Executor, Row};

use super::rows::{Sizes, column, execute, number, pieces, query, sizes};
use crate::store::{REMOVE_STEP_MAX, Removed};

/// Ids that move to the index at once: more than the appender's largest batch brings, so that it keeps up.
const MOVED_PER_STEP: i64 = 8192;

/// Ids that one removal looks at: some milliseconds.
const LOOKED_AT_PER_STEP: i64 = 65_536;

static INSERT_IDS: Sizes = LazyLock::new(|| sizes("INSERT INTO ids (log, id, offset, until) VALUES ", 4, ""));

static SELECT_OLD_IDS: Sizes = LazyLock::new(|| {
    sizes(
        "SELECT wanted.column1, offset, until FROM (VALUES ",
        3,
        ") AS wanted CROSS JOIN old_ids ON old_ids.log = wanted.column2 AND old_ids.id = wanted.column3",
    )
});

/// Where a message with an id was stored, and until when the id refuses a second one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Guard {
    pub(super) offset: u64,
    pub(super) until: Time,
}

/// An id that was stored: of which log, with which message, until when it guards.
pub(super) type NewId = (i64, Arc<Delivery>, Time);

/// What the tables hold, as far as memory has room.
#[derive(Debug)]
pub(super) struct Ids {
    /// All of the table `ids`, by a hash of log and id. Its 128 bits come from keys that nobody knows, so two ids never meet.
    recent: HashMap<u128, Guard>,
    keys: [RandomState; 2],
    /// How many ids memory has room for.
    recent_max: usize,
    /// Whether `old_ids` may have rows.
    old: bool,
    /// How far removals have looked, by `seq`.
    looked_at: i64,
}

impl Ids {
    /// Reads what the table holds: a second for a full one.
    pub(super) async fn load(
        connection: &mut SqliteConnection,
        recent_max: usize,
    ) -> Result<Self, sqlx::Error> {
        let mut ids = Self {
            recent: HashMap::new(),
            keys: [RandomState::new(), RandomState::new()],
            recent_max,
            old: connection.fetch_optional("SELECT 1 FROM old_ids LIMIT 1").await?.is_some(),
            looked_at: 0,
        };
        let mut seq: i64 = i64::MIN;
        loop {
            let query = sqlx::query(
                "SELECT seq, log, id, offset, until FROM ids WHERE seq > ?1 ORDER BY seq LIMIT ?2",
            )
            .bind(seq)
            .bind(MOVED_PER_STEP);
            let rows = connection.fetch_all(query).await?;
            for row in &rows {
                seq = row.try_get(0)?;
                let guard = Guard { offset: number(row, 3)?, until: Time(number(row, 4)?) };
                ids.recent.insert(ids.key(row.try_get(1)?, row.try_get(2)?), guard);
            }
            if (rows.len() as i64) < MOVED_PER_STEP {
                return Ok(ids);
            }
        }
    }

    fn key(&self, log: i64, id: &str) -> u128 {
        let [high, low] = self.keys.each_ref().map(|key| u128::from(key.hash_one((log, id))));
        high << 64 | low
    }

    /// Looks ids up: for each its guard, if it has one that may still hold.
    pub(super) async fn find(
        &self,
        connection: &mut SqliteConnection,
        wanted: &[(i64, &str)],
    ) -> Result<Vec<Option<Guard>>, sqlx::Error> {
        let mut guards: Vec<_> =
            wanted.iter().map(|(log, id)| self.recent.get(&self.key(*log, id)).copied()).collect();
        if !self.old {
            return Ok(guards);
        }
        let unknown: Vec<usize> = (0..wanted.len()).filter(|index| guards[*index].is_none()).collect();
        for (sql, piece) in pieces(&unknown, &SELECT_OLD_IDS) {
            let rows = query(connection, sql, piece, |arguments, index| {
                arguments.add(column(*index as u64))?;
                arguments.add(wanted[*index].0)?;
                arguments.add(wanted[*index].1)
            });
            for row in rows.await? {
                let index = usize::try_from(number(&row, 0)?).ok();
                let guard = index.and_then(|index| guards.get_mut(index)).ok_or(sqlx::Error::RowNotFound)?;
                *guard = Some(Guard { offset: number(&row, 1)?, until: Time(number(&row, 2)?) });
            }
        }
        Ok(guards)
    }

    /// Writes new ids, within the caller's transaction; [`add`](Self::add) follows after its commit.
    pub(super) async fn write(connection: &mut SqliteConnection, new: &[NewId]) -> Result<(), sqlx::Error> {
        execute(connection, &INSERT_IDS, new, bind_id).await
    }

    /// Takes new ids up that were committed.
    pub(super) fn add(&mut self, new: &[NewId]) {
        for (log, delivery, until) in new {
            let guard = Guard { offset: offset(delivery), until: *until };
            self.recent.insert(self.key(*log, &delivery.message.id), guard);
        }
    }

    /// Whether some must move to the index before more come.
    pub(super) fn is_full(&self) -> bool {
        self.recent.len() > self.recent_max
    }

    /// Moves the longest known to the index, within the caller's transaction; what is forgotten after its commit is answered.
    pub(super) async fn move_oldest(
        &mut self,
        connection: &mut SqliteConnection,
    ) -> Result<Vec<(u128, u64)>, sqlx::Error> {
        self.old = true;
        let query =
            sqlx::query("SELECT seq, log, id, offset FROM ids ORDER BY seq LIMIT ?1").bind(MOVED_PER_STEP);
        let rows = connection.fetch_all(query).await?;
        let mut seq: i64 = i64::MIN;
        let mut moved = Vec::with_capacity(rows.len());
        for row in &rows {
            seq = row.try_get(0)?;
            moved.push((self.key(row.try_get(1)?, row.try_get(2)?), number(row, 3)?));
        }
        let insert = "INSERT INTO old_ids (log, id, offset, until)
            SELECT log, id, offset, until FROM ids WHERE seq <= ?1 ORDER BY log, id, seq
            ON CONFLICT (log, id) DO UPDATE SET offset = excluded.offset, until = excluded.until";
        connection.execute(sqlx::query(insert).bind(seq)).await?;
        connection.execute(sqlx::query("DELETE FROM ids WHERE seq <= ?1").bind(seq)).await?;
        Ok(moved)
    }

    /// Forgets what [`move_oldest`](Self::move_oldest) has moved.
    pub(super) fn forget(&mut self, moved: &[(u128, u64)]) {
        for (key, offset) in moved {
            // A later message may have the same id: that one stays.
            if self.recent.get(key).is_some_and(|guard| guard.offset == *offset) {
                self.recent.remove(key);
            }
        }
    }

    /// Takes ids away whose window has passed: each call looks at some, in the order in which they came.
    pub(super) async fn forget_passed(
        &mut self,
        connection: &mut SqliteConnection,
        now: Time,
    ) -> Result<Removed, sqlx::Error> {
        let query = sqlx::query(
            "SELECT count(*), max(seq) FROM (SELECT seq FROM ids WHERE seq > ?1 ORDER BY seq LIMIT ?2)",
        )
        .bind(self.looked_at)
        .bind(LOOKED_AT_PER_STEP);
        let row = connection.fetch_one(query).await?;
        let n_rows: i64 = row.try_get(0)?;
        let last: i64 = row.try_get::<Option<i64>, _>(1)?.unwrap_or(self.looked_at);
        let query = sqlx::query(
            "DELETE FROM ids WHERE seq IN (
                SELECT seq FROM ids WHERE seq > ?1 AND seq <= ?2 AND until <= ?3 ORDER BY seq LIMIT ?4
            ) RETURNING seq, log, id",
        )
        .bind(self.looked_at)
        .bind(last)
        .bind(column(now.0))
        .bind(column(REMOVE_STEP_MAX));
        let rows = connection.fetch_all(query).await?;
        let mut last_removed = self.looked_at;
        for row in &rows {
            last_removed = last_removed.max(row.try_get(0)?);
            let key = self.key(row.try_get(1)?, row.try_get(2)?);
            if self.recent.get(&key).is_some_and(|guard| guard.until <= now) {
                self.recent.remove(&key);
            }
        }
        let count = rows.len() as u64;
        if count == REMOVE_STEP_MAX {
            self.looked_at = last_removed;
            return Ok(Removed { count, more: self.passed_after(connection, last_removed, now).await? });
        }
        self.looked_at = if n_rows == LOOKED_AT_PER_STEP { last } else { 0 };
        if self.looked_at != 0 || !self.old {
            return Ok(Removed { count, more: self.looked_at != 0 });
        }
        let old = self.forget_old(connection, now, REMOVE_STEP_MAX - count).await?;
        Ok(Removed { count: count + old.count, more: old.more })
    }

    /// Whether there is anything left to take away after a step that took all it may. If not, the next call looks from the start.
    async fn passed_after(
        &mut self,
        connection: &mut SqliteConnection,
        seq: i64,
        now: Time,
    ) -> Result<bool, sqlx::Error> {
        let query = sqlx::query("SELECT EXISTS (SELECT 1 FROM ids WHERE seq > ?1 AND until <= ?2)")
            .bind(seq)
            .bind(column(now.0));
        let more = self.old || connection.fetch_one(query).await?.try_get(0)?;
        if !more {
            self.looked_at = 0;
        }
        Ok(more)
    }

    async fn forget_old(
        &mut self,
        connection: &mut SqliteConnection,
        now: Time,
        count_max: u64,
    ) -> Result<Removed, sqlx::Error> {
        let delete = sqlx::query(
            "DELETE FROM old_ids WHERE (log, id) IN (SELECT log, id FROM old_ids WHERE until <= ?1 ORDER BY until LIMIT ?2)",
        )
        .bind(column(now.0))
        .bind(column(count_max));
        let count = connection.execute(delete).await?.rows_affected();
        let row = connection
            .fetch_one(
                sqlx::query(
                    "SELECT EXISTS (SELECT 1 FROM old_ids), EXISTS (SELECT 1 FROM old_ids WHERE until <= ?1)",
                )
                .bind(column(now.0)),
            )
            .await?;
        self.old = row.try_get(0)?;
        Ok(Removed { count, more: row.try_get(1)? })
    }
}

/// Adds one id's values to the arguments of an insert.
pub(super) fn bind_id(
    arguments: &mut SqliteArguments,
    (log, delivery, until): &NewId,
) -> Result<(), BoxDynError> {
    arguments.add(*log)?;
    arguments.add(delivery.message.id.as_str())?;
    arguments.add(column(offset(delivery)))?;
    arguments.add(column(until.0))
}

fn offset(delivery: &Delivery) -> u64 {
    delivery.position.map_or(0, |position| position.offset.0)
}
