//! Messages that applications publish in SQL: out of the database's outbox, into logs, to readers.
//!
//! ```text
//! application --bongsu.publish, commit--> outbox --one node at a time--> log --on_stored--> hub and bus
//! ```
//!
//! Every node runs this. The database wakes all of them after a commit, one moves what is there and hands it on, and the others find that
//! somebody is at it. A node that dies between its commit and handing on leaves what a lost bus message leaves: readers find it
//! in the log.

use std::sync::Arc;

use bongsu_persistence::postgres::{Notifications, PostgresStore, Route};
use bongsu_persistence::store::Error;
use bongsu_protocol::message::{Delivery, NewMessage};
use bongsu_protocol::topic::Topic;
use futures_util::future::BoxFuture;
use tokio::time::{Interval, MissedTickBehavior};

use crate::config::{Kind, Policies};
use crate::limits::{OUTBOX_BATCH_MAX, OUTBOX_LISTEN_RETRY_TICKS, OUTBOX_POLL_INTERVAL};
use crate::publisher::{Completion, Publisher};

/// Moves messages for as long as the process lives; to be dropped or aborted at its end, at any moment.
///
/// `on_stored` gets what was moved, after its commit and in the order in which readers are to get it, and is awaited before more is
/// moved. Messages of durable topics have their position; those of live topics have none and are nowhere else: whoever gets them is
/// their last chance.
pub async fn run<F>(store: Arc<PostgresStore>, policies: Arc<Policies>, on_stored: F)
where
    F: Fn(Vec<Arc<Delivery>>) -> BoxFuture<'static, ()> + Send + Sync,
{
    let mut wakes = Wakes::new(Arc::clone(&store));
    let mut failing = false;
    loop {
        wakes.next().await;
        match drain(&store, &policies, &on_stored).await {
            Ok(()) => failing = false,
            // Once, and not four times a second.
            Err(error) if !failing => {
                failing = true;
                tracing::warn!(%error, "messages that were published in SQL wait");
            }
            Err(_) => {}
        }
    }
}

/// Moves and hands on until nothing is left, or somebody else is at it.
async fn drain<F>(store: &PostgresStore, policies: &Policies, on_stored: &F) -> Result<(), Error>
where
    F: Fn(Vec<Arc<Delivery>>) -> BoxFuture<'static, ()> + Send + Sync,
{
    let route = |topic: &Topic| match policies.for_topic(topic).kind {
        Kind::Durable { idempotency_window, .. } => Route::Keep { idempotency_window },
        Kind::Live { .. } => Route::PassOn,
    };
    loop {
        let sequenced = store.sequence_outbox(OUTBOX_BATCH_MAX, &route).await?;
        if !sequenced.deliveries.is_empty() {
            on_stored(sequenced.deliveries).await;
        }
        if !sequenced.more {
            return Ok(());
        }
    }
}

/// Hands on what was moved: durable messages to readers, live ones to be published like any other.
pub async fn hand_on(publisher: &Publisher, deliveries: Vec<Arc<Delivery>>) {
    let (stored, live): (Vec<_>, Vec<_>) =
        deliveries.into_iter().partition(|delivery| delivery.position.is_some());
    if !stored.is_empty() {
        publisher.stored_elsewhere(stored).await;
    }
    for delivery in live {
        let message =
            NewMessage { topic: delivery.topic.clone(), message: delivery.message.clone(), expect: None };
        if let Err(waiting) = publisher.publish(&delivery.publisher, message, Completion::Nobody) {
            publisher.wait(waiting).await;
        }
    }
}

/// When to look into the outbox: after a notification, and from time to time, since notifications may be lost, turned off, or swallowed
/// by a proxy.
struct Wakes {
    store: Arc<PostgresStore>,
    notifications: Option<Notifications>,
    polls: Interval,
    /// Polls until listening is tried again.
    until_retry: u32,
}

impl Wakes {
    fn new(store: Arc<PostgresStore>) -> Self {
        let mut polls = tokio::time::interval(OUTBOX_POLL_INTERVAL);
        polls.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { store, notifications: None, polls, until_retry: 0 }
    }

    async fn next(&mut self) {
        let Some(notifications) = &mut self.notifications else {
            self.polls.tick().await;
            self.listen_again().await;
            return;
        };
        let lost = tokio::select! {
            biased;
            heard = notifications.next() => heard.err(),
            _ = self.polls.tick() => None,
        };
        if let Some(error) = lost {
            tracing::debug!(%error, "notifications of the database are lost; the outbox is looked into from time to time");
            self.notifications = None;
        }
    }

    async fn listen_again(&mut self) {
        if let Some(left) = self.until_retry.checked_sub(1) {
            self.until_retry = left;
            return;
        }
        self.until_retry = OUTBOX_LISTEN_RETRY_TICKS;
        match self.store.listen().await {
            Ok(notifications) => self.notifications = notifications,
            Err(error) => tracing::debug!(%error, "the database cannot be listened to"),
        }
    }
}
