//! Publishing that is not one message of one request: the broker's own logs, and transactions.

use std::sync::Arc;
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

    /// Stores messages of logs that are brought in as a whole, in one transaction whatever else waits, and tells their readers. Their ids guard
    /// for at least as long as given. Neither rates nor sizes are judged: whoever brings them in has done that.
    ///
    /// # Errors
    /// `unavailable`: they may have been stored all the same, and can be repeated with their ids.
    pub async fn import(
        &self,
        publisher: &str,
        messages: Vec<NewMessage>,
        guarded_for: Duration,
    ) -> Result<Vec<Appended>, Error> {
        let time = clock::wall();
        let batch = messages.into_iter().map(|message| {
            let window = match self.policies.for_topic(&message.topic).kind {
                Kind::Durable { idempotency_window, .. } => idempotency_window.max(guarded_for),
                Kind::Live { .. } => guarded_for,
            };
            Append { message, publisher: publisher.to_owned(), time, idempotency_window: window }
        });
        let batch: Vec<_> = batch.collect();
        METRICS.published.add(batch.len() as u64);
        let outcomes = self.append_at_once(batch).await?;
        self.tell_stored(&outcomes).await;
        Ok(outcomes)
    }

    /// Appends a batch past the appender.
    async fn append_at_once(&self, batch: Vec<Append>) -> Result<Vec<Appended>, Error> {
        let _permit = self.together.acquire().await;
        let n_messages = batch.len() as u64;
        let failure = match tokio::time::timeout(STORE_DEADLINE, self.store.append(batch)).await {
            Ok(Ok(outcomes)) => {
                METRICS.batches.add(1);
                return Ok(outcomes);
            }
            Ok(Err(error)) => Some(error),
            Err(_) => None,
        };
        tracing::warn!(error = failure.map(tracing::field::display), "the store did not take a transaction");
        METRICS.publish_failed.add(n_messages);
        Err(history::unavailable())
    }

    /// Tells readers of what was stored past the appender.
    async fn tell_stored(&self, outcomes: &[Appended]) {
        let deliveries = outcomes.iter().filter_map(|outcome| match outcome {
            Appended::Stored(delivery) => Some(Shared::new(Arc::clone(delivery))),
            Appended::Duplicate(_) | Appended::Conflict { .. } => None,
        });
        let deliveries: Vec<_> = deliveries.collect();
        METRICS.stored.add(deliveries.len() as u64);
        self.readers.tell(deliveries).await;
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
            let outcomes = self.append_at_once(batch).await?;
            self.tell_stored(&outcomes).await;
            telemetry::acknowledged(publishes, &METRICS.publish_seconds);
        }
        for message in live {
            self.live.send(message).await;
        }
        Ok(())
    }
}
