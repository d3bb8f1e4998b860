//! Connections to one database, as many as are allowed.
//!
//! sqlx's own pool keeps a connection whose server has become a standby, checks each one by a round trip before it is used, and
//! knows one host. This one gives up every idle connection as soon as one breaks, asks again which host is the primary, and checks
//! only those that were idle for a while.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sqlx::postgres::{PgArguments, PgConnection, PgRow};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Connection, Executor, Postgres};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::errors::{classify, is_end_of_connection};
use super::hosts::{Hosts, Terms};
use crate::store::Error;

/// Ticks for which a connection is used without asking whether it still works: some seconds, within which a lost one is
/// most likely to be noticed by whoever uses it.
const FRESH_TICKS: u64 = 5;

/// Ticks after which a connection is made anew, half an hour: plans and caches of a session grow, and names may lead elsewhere.
const LIFETIME_TICKS: u64 = 1800;

/// How much longer than the server's own deadline is waited for an answer: after that the network is taken for broken.
const NETWORK_GRACE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Pool {
    hosts: Hosts,
    permits: Semaphore,
    idle: Mutex<Vec<Idle>>,
    /// Seconds, roughly: see [`Pool::tick`].
    ticks: AtomicU64,
}

#[derive(Debug)]
struct Idle {
    connection: PgConnection,
    born: u64,
    since: u64,
}

impl Pool {
    pub(super) fn new(hosts: Hosts, connections_max: usize) -> Self {
        let permits = Semaphore::new(connections_max.clamp(1, Semaphore::MAX_PERMITS));
        Self { hosts, permits, idle: Mutex::new(Vec::new()), ticks: AtomicU64::new(0) }
    }

    /// The servers, for texts that people read.
    pub(super) fn name(&self) -> &str {
        self.hosts.name()
    }

    pub(super) const fn hosts(&self) -> &Hosts {
        &self.hosts
    }

    const fn terms(&self) -> Terms {
        self.hosts.terms()
    }

    /// To be called every second. Connections are told how old they are by it.
    pub(super) fn tick(&self) {
        self.ticks.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes nothing more, and closes what is idle. Leases end as they would.
    pub(super) async fn close(&self) {
        self.permits.close();
        let idle = std::mem::take(&mut *self.idle.lock().unwrap_or_else(PoisonError::into_inner));
        for one in idle {
            // It is given up either way.
            let _ = one.connection.close().await;
        }
    }

    /// Waits for a connection, at most as long as a statement may take.
    pub(super) async fn lease(&self) -> Result<Lease<'_>, Error> {
        let unavailable = |text: &str| Error::Unavailable(format!("{}: {text}", self.name()));
        let permit = match tokio::time::timeout(self.terms().deadline, self.permits.acquire()).await {
            Ok(Ok(permit)) => permit,
            Ok(Err(_)) => return Err(unavailable("the store was closed")),
            Err(_) => return Err(unavailable("all connections are in use")),
        };
        let now = self.ticks.load(Ordering::Relaxed);
        while let Some(idle) = self.take_idle() {
            if now - idle.born > LIFETIME_TICKS {
                continue;
            }
            let mut lease = Lease {
                pool: self,
                _permit: permit,
                connection: Some(idle.connection),
                born: idle.born,
                open: false,
            };
            if now - idle.since <= FRESH_TICKS || lease.works().await {
                return Ok(lease);
            }
            // The others are as old or older.
            self.forget_idle();
            lease.connection = None;
            return self.fill(lease, now).await;
        }
        self.fill(Lease { pool: self, _permit: permit, connection: None, born: now, open: false }, now).await
    }

    async fn fill<'a>(&'a self, mut lease: Lease<'a>, now: u64) -> Result<Lease<'a>, Error> {
        lease.connection = Some(self.hosts.connect().await?);
        lease.born = now;
        Ok(lease)
    }

    /// The one that was used last, so that those which are not needed grow old.
    fn take_idle(&self) -> Option<Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    /// Gives idle connections up: a server that went away, or is no primary any more, went for all of them.
    fn forget_idle(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// A connection for one caller. One that is dropped in the middle of something, or after an error that says so, is closed; any
/// other goes back.
#[derive(Debug)]
pub(super) struct Lease<'a> {
    pool: &'a Pool,
    _permit: SemaphorePermit<'a>,
    /// None while it is in use, so that a future that is dropped takes it along.
    connection: Option<PgConnection>,
    born: u64,
    /// Whether a transaction of several statements was begun and has not ended.
    open: bool,
}

impl Lease<'_> {
    /// Runs one statement in a transaction of its own and answers its rows, after the commit.
    pub(super) async fn fetch_all(
        &mut self,
        query: Query<'_, Postgres, PgArguments>,
    ) -> Result<Vec<PgRow>, sqlx::Error> {
        let Terms { pooled, deadline, .. } = self.pool.terms();
        self.with(async |connection| {
            if !pooled {
                return connection.fetch_all(query).await;
            }
            begin(connection, deadline).await?;
            let rows = connection.fetch_all(query.persistent(false)).await?;
            connection.execute(sqlx::raw_sql("commit")).await?;
            Ok(rows)
        })
        .await
    }

    /// As [`fetch_all`](Self::fetch_all), for a statement that has one row.
    pub(super) async fn fetch_one(
        &mut self,
        query: Query<'_, Postgres, PgArguments>,
    ) -> Result<PgRow, sqlx::Error> {
        self.fetch_all(query).await?.into_iter().next().ok_or(sqlx::Error::RowNotFound)
    }

    /// Begins a transaction of several statements; each runs by [`within`](Self::within). Whoever drops the lease before
    /// [`commit`](Self::commit) undoes it, since the connection is closed then.
    pub(super) async fn begin(&mut self) -> Result<(), sqlx::Error> {
        let deadline = self.pool.terms().deadline;
        self.open = true;
        self.with(async |connection| begin(connection, deadline).await).await
    }

    /// Runs a statement of a transaction.
    pub(super) async fn within(
        &mut self,
        query: Query<'_, Postgres, PgArguments>,
    ) -> Result<Vec<PgRow>, sqlx::Error> {
        let persistent = !self.pool.terms().pooled;
        self.with(async |connection| connection.fetch_all(query.persistent(persistent)).await).await
    }

    /// Ends a transaction.
    pub(super) async fn commit(&mut self) -> Result<(), sqlx::Error> {
        self.end("commit").await
    }

    /// Undoes a transaction.
    pub(super) async fn roll_back(&mut self) -> Result<(), sqlx::Error> {
        self.end("rollback").await
    }

    async fn end(&mut self, how: &'static str) -> Result<(), sqlx::Error> {
        let ended =
            self.with(async |connection| connection.execute(sqlx::raw_sql(how)).await.map(drop)).await;
        self.open &= ended.is_err();
        ended
    }

    /// Closes the connection, and those that are idle: the server is not what it was.
    pub(super) fn give_up(mut self) {
        self.connection = None;
        self.pool.forget_idle();
    }

    /// What an error means, in words that name the server.
    pub(super) fn classify(&self, error: &sqlx::Error) -> Error {
        classify(self.pool.name(), error)
    }

    /// Whether the connection still leads to a server of the role.
    async fn works(&mut self) -> bool {
        let question = "select pg_is_in_recovery()::text";
        let answer = self.with(async |connection| connection.fetch_one(sqlx::raw_sql(question)).await).await;
        let in_recovery =
            answer.and_then(|row| sqlx::Row::try_get::<&str, _>(&row, 0).map(|text| text == "true"));
        in_recovery.is_ok_and(|in_recovery| !in_recovery || self.pool.terms().role == super::hosts::Role::Any)
    }

    async fn with<T>(
        &mut self,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, sqlx::Error> {
        let Some(mut connection) = self.connection.take() else {
            return Err(sqlx::Error::Protocol("the connection was lost".to_owned()));
        };
        let deadline = self.pool.terms().deadline + NETWORK_GRACE;
        let result = match tokio::time::timeout(deadline, work(&mut connection)).await {
            Ok(result) => result,
            Err(_) => {
                let text = format!("no answer within {deadline:?}");
                Err(sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, text)))
            }
        };
        match &result {
            Err(error) if is_end_of_connection(error) => self.pool.forget_idle(),
            // It may be in a failed transaction: through a proxy every statement is in one.
            Err(_) if self.pool.terms().pooled => {}
            _ => self.connection = Some(connection),
        }
        result
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        // Closing undoes a transaction.
        if self.open {
            return;
        }
        let since = self.pool.ticks.load(Ordering::Relaxed);
        let idle = Idle { connection, born: self.born, since };
        if !self.pool.permits.is_closed() {
            self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner).push(idle);
        }
    }
}

async fn begin(connection: &mut PgConnection, deadline: Duration) -> Result<(), sqlx::Error> {
    let deadline_ms = deadline.as_millis();
    let begin = format!("begin isolation level read committed; set local statement_timeout = {deadline_ms}");
    connection.execute(sqlx::raw_sql(AssertSqlSafe(begin))).await.map(drop)
}
