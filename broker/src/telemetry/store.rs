//! A store that is watched.

use std::sync::Arc;

use bongsu_persistence::store::{
    Append, Appended, ChangeMark, Changes, Error, ListQuery, Listing, Removal, Removed, Store,
};
use bongsu_protocol::command::HistoryQuery;
use bongsu_protocol::event::Page;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::span::Stage;
use crate::clock;
use crate::metrics::{Histogram, METRICS};

/// A store that does what another one does, and tells how long that takes.
///
/// A call that is dropped before its end is not told: whoever dropped it gave up and says so.
pub struct MeasuredStore(Arc<dyn Store>);

impl MeasuredStore {
    /// Watches a store.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self(store)
    }
}

impl Store for MeasuredStore {
    fn append(&self, batch: Vec<Append>) -> BoxFuture<'_, Result<Vec<Appended>, Error>> {
        METRICS.append_messages.record_count(batch.len());
        let step = Stage::StoreAppend.begin(batch.iter().map(|append| &append.message.message));
        async move {
            let result = timed(&METRICS.append_seconds, self.0.append(batch)).await;
            if let Some(step) = step {
                step.end(result.as_ref().err().map(ToString::to_string).as_deref());
            }
            result
        }
        .boxed()
    }

    fn read(&self, query: HistoryQuery) -> BoxFuture<'_, Result<Page, Error>> {
        timed(&METRICS.read_seconds, self.0.read(query)).boxed()
    }

    fn list(&self, query: ListQuery) -> BoxFuture<'_, Result<Listing, Error>> {
        self.0.list(query)
    }

    fn changes(&self, since: Option<ChangeMark>) -> BoxFuture<'_, Result<Changes, Error>> {
        timed(&METRICS.changes_seconds, self.0.changes(since)).boxed()
    }

    fn remove(&self, removal: Removal) -> BoxFuture<'_, Result<Removed, Error>> {
        self.0.remove(removal)
    }
}

/// Records how long a call takes, and whether it fails.
async fn timed<T>(histogram: &Histogram, call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let began_at = clock::monotonic();
    let result = call.await;
    histogram.record_time(clock::monotonic().saturating_sub(began_at));
    if result.is_err() {
        METRICS.store_failures.add(1);
    }
    result
}

impl std::fmt::Debug for MeasuredStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MeasuredStore").finish_non_exhaustive()
    }
}
