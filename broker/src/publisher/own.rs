//! Publishing that is not one message of one request: the broker's own logs, and transactions.

use std::time::Duration;

use bongsu_persistence::appender::Submission;
use bongsu_persistence::store::{Append, Appended};
use bongsu_protocol::event::Published;
use bongsu_protocol::message::NewMessage;
use bongsu_protocol::reason::Error;
use bongsu_protocol::session::SlowReader;
use tokio::sync::oneshot;

use super::live::LiveMessage;
use super::{Completion, Pending, Publisher};
use crate::clock;
use crate::config::Kind;
use crate::delivery::Shared;
use crate::history;
use crate::limits::STORE_DEADLINE;
use crate::metrics::METRICS;
use crate::telemetry;

impl Publisher {
    /// Appends a message of the broker's own, whatever policies say of its topic, and waits for its commit.
    ///
    /// # Errors
    /// `conflict` with the head where the message expected another one; `unavailable`: it may have been stored all the same.
    pub async fn keep(
        &self,
        mut message: NewMessage,
        idempotency_window: Duration,
    ) -> Result<Published, Error> {
        let publish = telemetry::Publish::begin(&mut message);
        let (caller, answer) = oneshot::channel();
        let append = Append { message, publisher: String::new(), time: clock::wall(), idempotency_window };
        let completion = Pending { completion: Completion::Caller(caller), publish };
        if self.appender.submit(Submission { append, completion }).await.is_err() {
            // The node ends and takes nothing more.
            return Err(history::unavailable());
        }
        answer.await.unwrap_or_else(|_| Err(history::unavailable()))
    }

    /// Publishes messages that their publisher may publish, all or none of those on topics with history: by one append. Those on topics
    /// without follow. Waits for the commit. What the same publisher sent before and was not acknowledged may come after.
    ///
    /// # Errors
    /// What policy says to the first message that it refuses, with nothing published; `unavailable`: the messages may have been stored all
    /// the same, and those with an id can be repeated.
    pub async fn publish_together(&self, publisher: &str, messages: Vec<NewMessage>) -> Result<(), Error> {
        METRICS.published.add(messages.len() as u64);
        let (mut batch, mut live, mut publishes) = (Vec::new(), Vec::new(), Vec::new());
        for mut message in messages {
            let kind = self.admit(publisher, &message).inspect_err(|_| METRICS.publish_refused.add(1))?;
            let publish = telemetry::Publish::begin(&mut message);
            match kind {
                Kind::Durable { idempotency_window, .. } => {
                    let publisher = publisher.to_owned();
                    batch.push(Append { message, publisher, time: clock::wall(), idempotency_window });
                    publishes.push((publish, None));
                }
                Kind::Live { slow_reader } => {
                    let slow_reader = SlowReader::from(slow_reader);
                    let completion = Completion::Nobody;
                    let publisher = publisher.to_owned();
                    live.push(LiveMessage { publisher, message, slow_reader, completion, publish });
                }
            }
        }
        if !batch.is_empty() {
            let _permit = self.together.acquire().await;
            let n_messages = batch.len() as u64;
            let stored = match tokio::time::timeout(STORE_DEADLINE, self.store.append(batch)).await {
                Ok(Ok(outcomes)) => outcomes,
                Ok(Err(error)) => {
                    tracing::warn!(%error, "the store did not take a transaction");
                    METRICS.publish_failed.add(n_messages);
                    return Err(history::unavailable());
                }
                Err(_) => {
                    METRICS.publish_failed.add(n_messages);
                    return Err(history::unavailable());
                }
            };
            METRICS.batches.add(1);
            let deliveries = stored.into_iter().filter_map(|outcome| match outcome {
                Appended::Stored(delivery) => Some(Shared::new(delivery)),
                Appended::Duplicate(_) | Appended::Conflict { .. } => None,
            });
            let deliveries: Vec<_> = deliveries.collect();
            METRICS.stored.add(deliveries.len() as u64);
            self.readers.tell(deliveries).await;
            telemetry::acknowledged(publishes, &METRICS.publish_seconds);
        }
        for message in live {
            self.live.send(message).await;
        }
        Ok(())
    }
}
