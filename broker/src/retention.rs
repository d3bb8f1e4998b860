//! Takes away what policies no longer keep.

use std::sync::Arc;

use bongsu_persistence::store::{self, Removal, Store, TopicsQuery};
use bongsu_protocol::topic::{Topic, TopicFilter};

use crate::clock;
use crate::config::{Kind, Policies, TOLD};
use crate::limits::{RETENTION_INTERVAL, RETENTION_LOGS_PER_STEP};
use crate::metrics::METRICS;
use crate::queues::STATE_PREFIX;

/// Walks all logs again and again, and trims each as its policy says. Ends with the process.
pub async fn run(store: Arc<dyn Store>, policies: Arc<Policies>) {
    let mut rounds = tokio::time::interval(RETENTION_INTERVAL);
    rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut changes = policies.changes();
    loop {
        tokio::select! {
            biased;
            // Who shortens a retention sees it work at once.
            () = changes.next() => {}
            _ = rounds.tick() => {}
        }
        if let Err(error) = round(&*store, &policies).await {
            tracing::warn!(%error, "retention could not go on; it will in the next round");
        }
    }
}

async fn round(store: &dyn Store, policies: &Policies) -> Result<(), store::Error> {
    // A wildcard in the first level matches no topic of the broker's own.
    for filter in ["#", TOLD] {
        let Ok(filter) = TopicFilter::parse(filter) else { continue };
        trim(store, policies, &filter).await?;
    }
    remove_all(store, &Removal::ForgetIds { now: clock::wall() }).await?;
    Ok(())
}

/// Trims the logs under a filter.
async fn trim(store: &dyn Store, policies: &Policies, filter: &TopicFilter) -> Result<(), store::Error> {
    let mut after: Option<Topic> = None;
    loop {
        let filter = filter.clone();
        let query = TopicsQuery { filter, after: after.take(), limit: RETENTION_LOGS_PER_STEP };
        let logs = store.topics(query).await?;
        let Some(last) = logs.last() else { return Ok(()) };
        after = Some(last.topic.clone());
        for log in &logs {
            // A queue that nobody uses for long must still know what is done.
            if log.topic.as_str().starts_with(STATE_PREFIX) {
                continue;
            }
            if let Kind::Durable { retention, .. } = policies.for_topic(&log.topic).kind {
                let now = clock::wall();
                let removal = Removal::Retain { topic: log.topic.clone(), retention, now };
                METRICS.trimmed.add(remove_all(store, &removal).await?);
            }
        }
    }
}

/// Removes in bounded steps, so that publishers come in between; says how much it was.
async fn remove_all(store: &dyn Store, removal: &Removal) -> Result<u64, store::Error> {
    let mut n_removed = 0;
    loop {
        let removed = store.remove(removal.clone()).await?;
        n_removed += removed.count;
        if !removed.more {
            return Ok(n_removed);
        }
    }
}
