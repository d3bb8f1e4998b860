//! What was published in SQL, on its way into the logs.

use std::sync::Arc;
use std::time::Duration;

use bongsu_protocol::message::{Delivery, Message, NewMessage, Time};
use bongsu_protocol::topic::Topic;
use bytes::Bytes;
use sqlx::Row;
use sqlx::postgres::{PgListener, PgPool, PgPoolOptions, PgRow};

use super::append::Batch;
use super::errors::{NO_LOG, classify, code, is_worth_another_try};
use super::pool::Lease;
use super::rows::{headers, number};
use super::{PostgresStore, Shared};
use crate::store::{Append, Appended, Error};

/// What transactions that publish notify, with their commit.
const CHANNEL: &str = "bongsu_outbox";

/// The advisory lock of the one who moves messages. One at a time for all topics: who moves a part of them would have to know that nobody
/// moves an earlier part, and this one is fast enough (docs/benchmarks/postgres.md).
const TRY_LOCK: &str = "select pg_try_advisory_xact_lock(4778914503721120)";

/// The oldest messages, at most $1 and about $2 bytes of payload, at least one; the last column is the database's time.
const SELECT_OLDEST: &str = "select seq, topic, payload, content_type, id, headers, publisher,
        (extract(epoch from clock_timestamp()) * 1000)::bigint
    from (
        select *, sum(octet_length(payload)) over (order by seq) as total, row_number() over (order by seq) as n
            from (select * from bongsu.outbox order by seq limit $1) oldest
    ) message
    where total <= $2 or n = 1
    order by seq";

/// Bytes of payload that are moved at once: as many as the appender's largest batch has.
const BYTES_MAX: i64 = 8 << 20;

/// How often moving is tried that lost against somebody else's transaction, or whose topics turned out to have no log.
const TRIES: usize = 5;

/// What is to become of a message that was published in SQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// It goes into its topic's log.
    Keep {
        /// How long its id guards against a second one.
        idempotency_window: Duration,
    },
    /// It goes to whoever listens, and nowhere else: the topic keeps no history.
    PassOn,
}

/// What was taken out of the outbox.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sequenced {
    /// In the order in which readers are to get them. Those that were only passed on have no position; duplicates are missing.
    pub deliveries: Vec<Arc<Delivery>>,
    /// There may be more: call again.
    pub more: bool,
}

impl PostgresStore {
    /// Moves messages that committed transactions have published from the outbox into their logs, at most `limit`, in one transaction.
    ///
    /// Their order is that of their publishing, among those whose transactions have committed by then: what a transaction publishes after
    /// another has committed comes after what that one published. Whoever finds another node at it gets nothing and does nothing.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: call again later; nothing was taken, or it is in the logs. [`Error::Corrupt`]: tell the operator.
    pub async fn sequence_outbox(
        &self,
        limit: usize,
        route: &(dyn Fn(&Topic) -> Route + Send + Sync),
    ) -> Result<Sequenced, Error> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX).max(1);
        let mut known = true;
        let mut tries = 0;
        loop {
            tries += 1;
            let mut lease = self.shared.primary.lease().await?;
            match self.shared.sequence(&mut lease, limit, route, known).await {
                Ok(sequenced) => return Ok(sequenced),
                Err(error) if tries < TRIES && code(&error).as_deref() == Some(NO_LOG) => known = false,
                Err(error) if tries < TRIES && is_worth_another_try(&error) => {}
                Err(error) => return Err(lease.classify(&error)),
            }
        }
    }

    /// Hears of commits that published something. `None` where a proxy may stand between that pools transactions, since it gives
    /// notifications to nobody; then there is only looking from time to time.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: try again later, and look from time to time until then.
    pub async fn listen(&self) -> Result<Option<Notifications>, Error> {
        let hosts = self.shared.primary.hosts();
        if hosts.terms().pooled {
            return Ok(None);
        }
        // Which host is the primary is found out first; the listener makes a connection of its own.
        let (_, options) = hosts.connect_with_options().await?;
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(hosts.terms().deadline)
            .connect_lazy_with(options);
        let listen = async {
            let mut listener = PgListener::connect_with(&pool).await?;
            listener.eager_reconnect(false);
            listener.listen(CHANNEL).await?;
            Ok::<_, sqlx::Error>(listener)
        };
        let server = hosts.name().to_owned();
        match listen.await {
            Ok(listener) => Ok(Some(Notifications { listener, _pool: pool, server })),
            Err(error) => Err(classify(&server, &error)),
        }
    }
}

/// Tells of commits that published something.
#[derive(Debug)]
pub struct Notifications {
    listener: PgListener,
    /// Of one connection, which is the listener's.
    _pool: PgPool,
    server: String,
}

impl Notifications {
    /// Waits for the next one. Dropping the future loses none.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: the connection was lost; some may have been missed. Listen anew.
    pub async fn next(&mut self) -> Result<(), Error> {
        match self.listener.try_recv().await {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(Error::Unavailable(format!("{}: the connection was closed", self.server))),
            Err(error) => Err(classify(&self.server, &error)),
        }
    }
}

impl Shared {
    async fn sequence(
        &self,
        lease: &mut Lease<'_>,
        limit: i64,
        route: &(dyn Fn(&Topic) -> Route + Send + Sync),
        known: bool,
    ) -> Result<Sequenced, sqlx::Error> {
        let waiting = lease.fetch_one(sqlx::query("select exists (select from bongsu.outbox)")).await?;
        if !waiting.try_get::<bool, _>(0)? {
            return Ok(Sequenced::default());
        }
        lease.begin().await?;
        let locked = lease.within(sqlx::query(TRY_LOCK)).await?;
        if !locked.first().ok_or(sqlx::Error::RowNotFound)?.try_get::<bool, _>(0)? {
            lease.roll_back().await?;
            return Ok(Sequenced::default());
        }
        // After the lock, so that what its last owner has moved is not seen any more.
        let rows = lease.within(sqlx::query(SELECT_OLDEST).bind(limit).bind(BYTES_MAX)).await?;
        let mut numbers = Vec::with_capacity(rows.len());
        let mut kept = Vec::new();
        let mut passed_on = Vec::new();
        for (index, row) in rows.iter().enumerate() {
            numbers.push(row.try_get::<i64, _>(0)?);
            let Some(mut append) = message(row)? else { continue };
            match route(&append.message.topic) {
                Route::Keep { idempotency_window } => {
                    append.idempotency_window = idempotency_window;
                    kept.push((index, append));
                }
                Route::PassOn => passed_on.push((index, delivery(append))),
            }
        }
        let (indexes, appends): (Vec<_>, Vec<_>) = kept.into_iter().unzip();
        let outcomes = self.store(lease, appends, known).await?;
        lease.within(sqlx::query("delete from bongsu.outbox where seq = any ($1)").bind(&numbers)).await?;
        lease.commit().await?;
        let mut deliveries = passed_on;
        for (index, outcome) in indexes.into_iter().zip(outcomes) {
            if let Appended::Stored(delivery) = outcome {
                deliveries.push((index, delivery));
            }
        }
        deliveries.sort_by_key(|(index, _)| *index);
        let deliveries = deliveries.into_iter().map(|(_, delivery)| delivery).collect();
        Ok(Sequenced { deliveries, more: !rows.is_empty() })
    }

    /// Appends within the transaction that was begun.
    async fn store(
        &self,
        lease: &mut Lease<'_>,
        appends: Vec<Append>,
        known: bool,
    ) -> Result<Vec<Appended>, sqlx::Error> {
        if appends.is_empty() {
            return Ok(Vec::new());
        }
        let batch = Batch::new(appends);
        let known = known && self.known.has_all(&batch.topics);
        let stored = lease.within(batch.statement(known)?).await;
        if stored.is_err() {
            self.known.forget(&batch.topics);
        }
        let row = stored?.into_iter().next().ok_or(sqlx::Error::RowNotFound)?;
        batch.outcomes(&row)
    }
}

/// A row of the outbox; `None` for what is no topic. The database has checked that it is one, by the same rules: what slipped through is
/// dropped, since it must not hold up everything that comes after it.
fn message(row: &PgRow) -> Result<Option<Append>, sqlx::Error> {
    let text = |index| Ok::<_, sqlx::Error>(row.try_get::<Option<String>, _>(index)?.unwrap_or_default());
    let topic = match Topic::parse(row.try_get(1)?) {
        Ok(topic) => topic,
        Err(error) => {
            tracing::error!(%error, "a message that was published in SQL has no valid topic and is dropped");
            return Ok(None);
        }
    };
    let message = Message {
        payload: Bytes::from(row.try_get::<Vec<u8>, _>(2)?),
        content_type: text(3)?,
        id: text(4)?,
        headers: headers(row.try_get(5)?)?,
    };
    Ok(Some(Append {
        message: NewMessage { topic, message, expect: None },
        publisher: text(6)?,
        time: Time(number(row, 7)?),
        idempotency_window: Duration::ZERO,
    }))
}

fn delivery(append: Append) -> Arc<Delivery> {
    Arc::new(Delivery {
        topic: append.message.topic,
        position: None,
        time: append.time,
        publisher: append.publisher,
        message: append.message.message,
        erased: false,
    })
}
