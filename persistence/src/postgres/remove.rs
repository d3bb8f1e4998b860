//! Taking messages, ids and logs away.

use std::sync::PoisonError;

use sqlx::Row;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;

use super::Shared;
use super::errors::is_worth_another_try;
use super::rows::{column, number};
use crate::store::{Error, REMOVE_STEP_MAX, Removal, Removed};

/// How often a removal is tried that lost against somebody else's transaction.
const TRIES: usize = 3;

/// The last value says for how long the rows of whole spans are left to the end of their partition: a day for what retention takes, so that
/// most partitions are dropped before anybody deletes rows of them.
const TRIM: &str =
    "select * from bongsu.trim($1, $2, $3, $4, $5, $6, clock_timestamp() + $7 * interval '1 second')";

const LEFT_BY_RETENTION_S: i64 = 86_400;

impl Shared {
    pub(super) async fn take_away(&self, removal: &Removal) -> Result<Removed, Error> {
        let mut tries = 0;
        loop {
            tries += 1;
            let mut lease = self.primary.lease().await?;
            let after = self.forgotten.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let result = lease.fetch_one(statement(removal, after)).await.and_then(|row| {
                let removed = removed(removal, &row)?;
                if matches!(removal, Removal::ForgetIds { .. }) {
                    // The next walk begins anew.
                    let last = if removed.more { row.try_get(2)? } else { None };
                    *self.forgotten.lock().unwrap_or_else(PoisonError::into_inner) = last;
                }
                Ok(removed)
            });
            match result {
                Ok(removed) => return Ok(removed),
                Err(error) if tries < TRIES && is_worth_another_try(&error) => {}
                Err(error) => return Err(lease.classify(&error)),
            }
        }
    }
}

fn statement(removal: &Removal, after: Option<String>) -> Query<'_, sqlx::Postgres, PgArguments> {
    match removal {
        Removal::Retain { topic, retention, now } => {
            let oldest = retention
                .age
                .map(|age| now.0.saturating_sub(u64::try_from(age.as_millis()).unwrap_or(u64::MAX)));
            sqlx::query(TRIM)
                .bind(topic.as_str())
                .bind(oldest.map(column))
                .bind(None::<i64>)
                .bind(retention.count.map(column))
                .bind(retention.bytes.map(column))
                .bind(REMOVE_STEP_MAX as i64)
                .bind(LEFT_BY_RETENTION_S)
        }
        Removal::Purge { topic, until } => sqlx::query(TRIM)
            .bind(topic.as_str())
            .bind(None::<i64>)
            .bind(column(until.0))
            .bind(None::<i64>)
            .bind(None::<i64>)
            .bind(REMOVE_STEP_MAX as i64)
            .bind(0_i64),
        Removal::Erase { topic, position } => sqlx::query("select bongsu.erase($1, $2, $3)")
            .bind(topic.as_str())
            .bind(column(position.epoch.0))
            .bind(column(position.offset.0)),
        Removal::Delete { topic } => sqlx::query("select bongsu.forget_log($1)").bind(topic.as_str()),
        Removal::ForgetIds { now } => sqlx::query("select * from bongsu.forget_ids($1, $2, $3)")
            .bind(column(now.0))
            .bind(REMOVE_STEP_MAX as i64)
            .bind(after),
    }
}

fn removed(removal: &Removal, row: &PgRow) -> Result<Removed, sqlx::Error> {
    match removal {
        Removal::Retain { .. } | Removal::Purge { .. } | Removal::ForgetIds { .. } => {
            Ok(Removed { count: number(row, 0)?, more: row.try_get(1)? })
        }
        Removal::Erase { .. } => Ok(Removed { count: u64::from(row.try_get::<bool, _>(0)?), more: false }),
        Removal::Delete { .. } => {
            let count = row.try_get::<Option<i64>, _>(0)?.map_or(Ok(0), |_| number(row, 0))?;
            Ok(Removed { count, more: false })
        }
    }
}
