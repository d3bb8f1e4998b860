//! The audit log: what administrators changed, and what they tried to.
//!
//! It is the log `$audit` in the store. A record is appended before the change that it tells of, and a change whose record cannot be kept is
//! not made; one that fails afterwards is told by a second record. Nobody but the retention takes a record away, and no client reads one:
//! records go past the hub, and the log is not among the topics that clients can be granted by a wildcard.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bongsu_persistence::store::{Append, Appended, Error, Removal, Retention, Store};
use bongsu_protocol::command::{HistoryQuery, HistoryRange};
use bongsu_protocol::message::{Delivery, Message, NewMessage};
use bongsu_protocol::position::Position;
use bongsu_protocol::topic::Topic;
use bytes::Bytes;

use crate::clock;
use crate::limits::{AUDIT_PAGE, AUDIT_TRIM_INTERVAL, STORE_DEADLINE};
use crate::metrics::METRICS;

/// The log of records.
static LOG: LazyLock<Topic> =
    LazyLock::new(|| Topic::parse("$audit").expect("it has no character that a topic lacks"));

/// Writes and reads the audit log. Old records go by themselves for as long as this is there.
pub struct AuditLog {
    store: Arc<dyn Store>,
}

impl AuditLog {
    /// The log in this store, of which records stay for so long.
    #[must_use]
    pub fn spawn(store: &Arc<dyn Store>, retention: Duration) -> Arc<Self> {
        let log = Arc::new(Self { store: Arc::clone(store) });
        let weak = Arc::downgrade(&log);
        tokio::spawn(async move {
            while let Some(log) = weak.upgrade() {
                log.trim(retention).await;
                drop(log);
                tokio::time::sleep(AUDIT_TRIM_INTERVAL).await;
            }
        });
        log
    }

    /// Writes a record down. When this returns, it is kept.
    ///
    /// # Errors
    /// It was not kept, or not certainly: do not make the change that it tells of.
    pub async fn write(&self, actor: &str, record: Bytes) -> Result<Position, Error> {
        let content_type = "application/json".to_owned();
        let message = Message { payload: record, content_type, ..Message::default() };
        let append = Append {
            message: NewMessage { topic: LOG.clone(), message, expect: None },
            publisher: actor.to_owned(),
            time: clock::wall(),
            idempotency_window: Duration::ZERO,
        };
        let appended = within_deadline(self.store.append(vec![append])).await;
        match appended.as_deref() {
            Ok([Appended::Stored(delivery)]) => {
                METRICS.audited.add(1);
                Ok(delivery.position.unwrap_or_default())
            }
            Ok(_) => Err(Error::Corrupt("a record was taken for another message".to_owned())),
            Err(_) => {
                METRICS.audit_failed.add(1);
                appended.map(|_| Position::default())
            }
        }
    }

    /// The records before a place (`None`: from the newest), newest first: at most a page of them. The log goes on if the answer says so.
    ///
    /// # Errors
    /// Those of [`Store::read`].
    pub async fn read(&self, before: Option<Position>) -> Result<(Vec<Arc<Delivery>>, bool), Error> {
        let range = HistoryRange::Backward(before);
        let query = HistoryQuery { topic: LOG.clone(), range, limit: AUDIT_PAGE };
        let page = within_deadline(self.store.read(query)).await?;
        Ok((page.messages, page.more))
    }

    async fn trim(&self, age: Duration) {
        let retention = Retention { age: Some(age), ..Retention::default() };
        loop {
            let removal = Removal::Retain { topic: LOG.clone(), retention, now: clock::wall() };
            // What is left where the store fails, the next round takes.
            match within_deadline(self.store.remove(removal)).await {
                Ok(removed) if removed.more => {}
                _ => return,
            }
        }
    }
}

impl std::fmt::Debug for AuditLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuditLog").finish_non_exhaustive()
    }
}

async fn within_deadline<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let late = |_| Error::Unavailable("it did not answer in time".to_owned());
    tokio::time::timeout(STORE_DEADLINE, work).await.map_err(late)?
}

#[cfg(test)]
mod tests {
    use bongsu_persistence::memory::MemoryStore;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn records_stay_for_their_time_and_are_read_from_the_newest() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let log = AuditLog::spawn(&store, Duration::from_secs(86_400));
        for number in 0..3 {
            log.write("ada", format!("{number}").into()).await.unwrap();
        }
        let (records, more) = log.read(None).await.unwrap();
        let payloads: Vec<_> = records.iter().map(|record| record.message.payload.clone()).collect();
        assert_eq!((payloads, more), (vec!["2".into(), "1".into(), "0".into()] as Vec<Bytes>, false));
        assert_eq!(records[0].publisher, "ada");
        let (before, _) = log.read(records[1].position).await.unwrap();
        assert_eq!(before.len(), 1);
        // What is as old as now is not older than that.
        while clock::wall() <= records[0].time {
            tokio::task::yield_now().await;
        }
        log.trim(Duration::ZERO).await;
        assert!(log.read(None).await.unwrap().0.is_empty());
    }
}
