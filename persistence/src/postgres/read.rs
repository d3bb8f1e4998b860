//! Pages, listings and changes, each from one snapshot.

use std::sync::Arc;

use bongsu_protocol::command::{HistoryQuery, HistoryRange, Start};
use bongsu_protocol::event::Page;
use bongsu_protocol::limits::{PAGE_BYTES_MAX, PAGE_MESSAGES_MAX};
use bongsu_protocol::message::{Delivery, Time};
use bongsu_protocol::position::Position;
use bongsu_protocol::topic::Topic;
use sqlx::Row;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;

use super::Shared;
use super::errors::{classify, is_end_of_connection, is_worth_another_try};
use super::pool::Pool;
use super::rows::{column, message, number};
use crate::names::Walk;
use crate::store::{CHANGED_MAX, ChangeMark, Changed, Changes, Error, ListQuery, Listing, LogBounds};

/// How often a read is tried: a connection may turn out to be lost, and a partition may be dropped between the look at a log and the
/// look into it.
const TRIES: usize = 3;

const SELECT_PAGE: &str = "select * from bongsu.page($1, $2, $3, $4, $5, $6, $7)";
const SELECT_RANGE: &str = "select * from bongsu.range($1, $2, $3, $4, $5, $6)";
const SELECT_NAMES: &str = "select epoch, first, head, topic, time, bytes from bongsu.logs \
     where topic >= $1 and ($3::text is null or topic < $3) order by topic limit $2";

/// Where a page of `bongsu.page` has the columns of messages.
const PAGE_MESSAGE: usize = 7;

/// A log's bounds, and what of it is to be read.
#[derive(Debug)]
struct Located {
    log: i64,
    epoch: u64,
    first: u64,
    head: u64,
    /// Offsets from `lo` to `hi`; nothing if `hi` is less.
    lo: u64,
    hi: u64,
    backward: bool,
}

impl Located {
    fn from_row(row: &PgRow, backward: bool) -> Result<Self, sqlx::Error> {
        Ok(Self {
            log: row.try_get(0)?,
            epoch: number(row, 1)?,
            first: number(row, 2)?,
            head: number(row, 3)?,
            lo: number(row, 4)?,
            hi: number(row, 5)?,
            backward,
        })
    }

    fn n_left(&self) -> u64 {
        (self.hi + 1).saturating_sub(self.lo)
    }

    /// Puts messages together to a page. `None`: they are not what follows one another from where reading starts.
    fn page(&self, messages: Vec<Delivery>, limit: u64) -> Option<Page> {
        let n_wanted = self.n_left().min(limit);
        if messages.is_empty() && n_wanted > 0 {
            return None;
        }
        let mut kept = Vec::with_capacity(messages.len());
        let mut payload_bytes = 0;
        for (delivery, n_before) in messages.into_iter().zip(0..n_wanted) {
            let expected = if self.backward { self.hi - n_before } else { self.lo + n_before };
            if delivery.position.map(|position| position.offset.0) != Some(expected) {
                return None;
            }
            payload_bytes += delivery.message.payload.len();
            if payload_bytes > PAGE_BYTES_MAX && !kept.is_empty() {
                break;
            }
            kept.push(Arc::new(delivery));
        }
        let more = (kept.len() as u64) < self.n_left();
        let at = |offset| Position::new(self.epoch, offset);
        Some(Page { messages: kept, first: at(self.first), head: at(self.head), more })
    }
}

impl Shared {
    pub(super) async fn page(&self, query: &HistoryQuery) -> Result<Page, Error> {
        if let Some(replica) = &self.replica
            && let Some(page) = self.page_from_replica(replica, query).await?
        {
            return Ok(page);
        }
        let (located, rows) = self.located(query, true).await?;
        let failed = |error| classify(self.primary.name(), &error);
        let messages = rows
            .iter()
            .skip(1)
            .map(|row| message(row, PAGE_MESSAGE, &query.topic, located.epoch))
            .collect::<Result<Vec<_>, _>>()
            .map_err(failed)?;
        located.page(messages, limit(query)).ok_or_else(|| {
            Error::Corrupt(format!(
                "{}: the log of {} lacks messages from {} to {}",
                self.primary.name(),
                query.topic,
                located.lo,
                located.hi
            ))
        })
    }

    /// Asks the primary how far the log reaches, and the replica for the messages. What the replica does not have, or does not have yet,
    /// is no page of it: then the primary is asked for all. So however old the replica is, no page claims less than was acknowledged.
    async fn page_from_replica(&self, replica: &Pool, query: &HistoryQuery) -> Result<Option<Page>, Error> {
        let (located, _) = self.located(query, false).await?;
        if located.n_left().min(limit(query)) == 0 {
            return Ok(located.page(Vec::new(), 0));
        }
        let statement = || {
            sqlx::query(SELECT_RANGE)
                .bind(located.log)
                .bind(column(located.lo))
                .bind(column(located.hi))
                .bind(located.backward)
                .bind(column(limit(query)))
                .bind(PAGE_BYTES_MAX as i64)
        };
        let read = async {
            let rows = fetch(replica, statement).await?;
            let messages = rows.iter().map(|row| message(row, 0, &query.topic, located.epoch));
            messages.collect::<Result<Vec<_>, _>>().map_err(|error| classify(replica.name(), &error))
        };
        match read.await {
            Ok(messages) => Ok(located.page(messages, limit(query))),
            Err(error) => {
                tracing::debug!(%error, "the replica did not answer; the primary is asked");
                Ok(None)
            }
        }
    }

    /// Asks the primary for a log's bounds, and for the page as well.
    async fn located(
        &self,
        query: &HistoryQuery,
        with_messages: bool,
    ) -> Result<(Located, Vec<PgRow>), Error> {
        let (start, position, given) = match query.range {
            HistoryRange::Forward(Start::Earliest) => ("earliest", None, None),
            HistoryRange::Forward(Start::Latest) => ("latest", None, None),
            HistoryRange::Forward(Start::Last(n)) => ("last", None, Some(n)),
            HistoryRange::Forward(Start::After(position)) => ("after", Some(position), None),
            HistoryRange::Forward(Start::Time(time)) => ("time", None, Some(time.0)),
            HistoryRange::Backward(before) => ("before", before, None),
        };
        let statement = || {
            sqlx::query(SELECT_PAGE)
                .bind(query.topic.as_str())
                .bind(start)
                .bind(position.map(|position| column(position.epoch.0)))
                .bind(position.map(|position| position.offset.0).or(given).map(column))
                .bind(column(limit(query)))
                .bind(PAGE_BYTES_MAX as i64)
                .bind(with_messages)
        };
        for _ in 0..TRIES {
            let mut lease = self.primary.lease().await?;
            let rows = match lease.fetch_all(statement()).await {
                Ok(rows) => rows,
                Err(error) if is_end_of_connection(&error) || is_worth_another_try(&error) => continue,
                Err(error) => return Err(lease.classify(&error)),
            };
            let located = rows.first().ok_or(sqlx::Error::RowNotFound).and_then(|row| {
                let recovering: bool = row.try_get(6)?;
                Ok((Located::from_row(row, start == "before")?, recovering))
            });
            match located {
                Ok((_, true)) => lease.give_up(),
                Ok((located, false)) => return Ok((located, rows)),
                Err(error) => return Err(lease.classify(&error)),
            }
        }
        Err(Error::Unavailable(format!(
            "{}: connections are lost as soon as they are made",
            self.primary.name()
        )))
    }

    pub(super) async fn list(&self, query: &ListQuery) -> Result<Listing, Error> {
        let mut walk = Walk::new(query);
        while let Some(range) = walk.range() {
            // At most the names of one statement.
            let n_names = i64::try_from(range.n_names).unwrap_or(i64::MAX);
            let page =
                || sqlx::query(SELECT_NAMES).bind(range.from.clone()).bind(n_names).bind(range.until.clone());
            let rows = fetch(&self.primary, page).await?;
            let logs = rows.iter().map(bounds).collect::<Result<_, _>>();
            walk.take(logs.map_err(|error| classify(self.primary.name(), &error))?);
        }
        Ok(walk.finish())
    }

    pub(super) async fn changed_since(&self, since: Option<ChangeMark>) -> Result<Changes, Error> {
        let mark = since.map(|mark| mark.0);
        let statement = || {
            sqlx::query("select * from bongsu.changes($1, $2)")
                .bind(mark.clone())
                .bind(CHANGED_MAX as i64 + 1)
        };
        let rows = fetch(&self.primary, statement).await?;
        changes(&rows).map_err(|error| classify(self.primary.name(), &error))
    }
}

fn limit(query: &HistoryQuery) -> u64 {
    u64::from(query.limit).min(PAGE_MESSAGES_MAX as u64)
}

/// Runs a statement that only reads, on another connection if one turns out to be lost.
async fn fetch<'q>(
    pool: &Pool,
    statement: impl Fn() -> Query<'q, sqlx::Postgres, PgArguments>,
) -> Result<Vec<PgRow>, Error> {
    let mut tries = 0;
    loop {
        tries += 1;
        let mut lease = pool.lease().await?;
        match lease.fetch_all(statement()).await {
            Ok(rows) => return Ok(rows),
            Err(error) if tries < TRIES && (is_end_of_connection(&error) || is_worth_another_try(&error)) => {
            }
            Err(error) => return Err(lease.classify(&error)),
        }
    }
}

fn bounds(row: &PgRow) -> Result<LogBounds, sqlx::Error> {
    let epoch = number(row, 0)?;
    let at = |index| Ok::<_, sqlx::Error>(Position::new(epoch, number(row, index)?));
    let topic = Topic::parse(row.try_get(3)?).map_err(|error| sqlx::Error::Decode(error.into()))?;
    Ok(LogBounds { topic, first: at(1)?, head: at(2)?, time: Time(number(row, 4)?), bytes: number(row, 5)? })
}

fn changes(rows: &[PgRow]) -> Result<Changes, sqlx::Error> {
    let (first, rows) = rows.split_first().ok_or(sqlx::Error::RowNotFound)?;
    let mark = ChangeMark(first.try_get(0)?);
    let complete: bool = first.try_get(1)?;
    if !complete || rows.len() > CHANGED_MAX {
        return Ok(Changes { changed: Vec::new(), mark, complete: false });
    }
    let mut changed = Vec::with_capacity(rows.len());
    for row in rows {
        let topic = Topic::parse(row.try_get(2)?).map_err(|error| sqlx::Error::Decode(error.into()))?;
        let epoch = number(row, 3)?;
        let at = |index| Ok::<_, sqlx::Error>(Position::new(epoch, number(row, index)?));
        changed.push(Changed { topic, before: at(4)?, head: at(5)? });
    }
    Ok(Changes { changed, mark, complete: true })
}
