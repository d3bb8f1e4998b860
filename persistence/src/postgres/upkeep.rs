//! What the tables need done from time to time, by any node.

use std::sync::Weak;
use std::time::Duration;

use sqlx::Row;

use super::pool::{Lease, Pool};
use super::rows::number;
use super::{PostgresStore, Shared};
use crate::store::Error;

/// Partitions that are made before their time: the node that makes them may be away for as long as one of them takes.
const PARTITIONS_AHEAD: i32 = 2;

/// How long the journal is kept, and at most twice as long: nodes ask for changes about every second, and one that asks for
/// the first time in minutes reads its logs anew.
const JOURNAL_KEPT: Duration = Duration::from_secs(300);

/// Rows without a log that one step deletes: some milliseconds.
const SWEEP_STEP: i64 = 4096;

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Upkept {
    /// Partitions that were made before their time.
    pub partitions_made: u64,
    /// Partitions that nothing was in any more.
    pub partitions_dropped: u64,
    /// Rows of removed messages in partitions that others still need.
    pub rows_swept: u64,
}

impl PostgresStore {
    /// Makes partitions ahead, drops those that no log needs, and clears what is left over. Every open store does it by itself, every minute;
    /// calling it as well is safe.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: some of it may not have been done, and will be the next time.
    pub async fn upkeep(&self) -> Result<Upkept, Error> {
        self.shared.upkeep().await
    }
}

impl Shared {
    async fn upkeep(&self) -> Result<Upkept, Error> {
        let mut lease = self.primary.lease().await?;
        match upkeep(&mut lease, self.partition).await {
            Ok(upkept) => Ok(upkept),
            Err(error) => Err(lease.classify(&error)),
        }
    }
}

async fn upkeep(lease: &mut Lease<'_>, partition: Duration) -> Result<Upkept, sqlx::Error> {
    let make = sqlx::query("select bongsu.make_partitions($1 * interval '1 second', $2)::bigint")
        .bind(width_s(partition))
        .bind(PARTITIONS_AHEAD);
    let mut upkept =
        Upkept { partitions_made: number(&lease.fetch_one(make).await?, 0)?, ..Upkept::default() };
    let clear =
        sqlx::query("select bongsu.clear_journal($1 * interval '1 second')").bind(JOURNAL_KEPT.as_secs_f64());
    lease.fetch_one(clear).await?;
    for row in lease.fetch_all(sqlx::query("select bongsu.droppable()")).await? {
        let id: i32 = row.try_get(0)?;
        let dropped = lease.fetch_one(sqlx::query("select bongsu.drop_partition($1)").bind(id)).await;
        match dropped.and_then(|row| row.try_get::<bool, _>(0)) {
            Ok(dropped) => upkept.partitions_dropped += u64::from(dropped),
            // Somebody still reads it or writes to it: the next time.
            Err(error) if super::errors::code(&error).as_deref() == Some("55P03") => {}
            Err(error) => return Err(error),
        }
    }
    loop {
        let n_swept =
            number(&lease.fetch_one(sqlx::query("select bongsu.sweep($1)").bind(SWEEP_STEP)).await?, 0)?;
        upkept.rows_swept += n_swept;
        if n_swept < SWEEP_STEP as u64 {
            return Ok(upkept);
        }
    }
}

fn width_s(partition: Duration) -> f64 {
    partition.as_secs_f64().max(1.0)
}

/// Makes the first partitions, before anything is appended.
pub(super) async fn make_partitions(pool: &Pool, partition: Duration) -> Result<(), Error> {
    let mut lease = pool.lease().await?;
    let make = sqlx::query("select bongsu.make_partitions($1 * interval '1 second', $2)")
        .bind(width_s(partition))
        .bind(PARTITIONS_AHEAD);
    match lease.fetch_one(make).await {
        Ok(_) => Ok(()),
        Err(error) => Err(lease.classify(&error)),
    }
}

/// How often upkeep is done.
const UPKEEP_INTERVAL_TICKS: u32 = 60;

/// Ticks of the pools, a second apart, and upkeep, for as long as the store lives.
pub(super) async fn run(shared: Weak<Shared>) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut until_upkeep = UPKEEP_INTERVAL_TICKS;
    loop {
        ticks.tick().await;
        let Some(shared) = shared.upgrade() else { return };
        shared.primary.tick();
        if let Some(replica) = &shared.replica {
            replica.tick();
        }
        until_upkeep -= 1;
        if until_upkeep == 0 {
            until_upkeep = UPKEEP_INTERVAL_TICKS;
            if let Err(error) = shared.upkeep().await {
                tracing::warn!(%error, "the upkeep of the store could not be done; it will be in a minute");
            }
        }
    }
}
