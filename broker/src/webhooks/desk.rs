//! Where administrators ask how deliveries went, and have them made once more.

use std::sync::Arc;

use bongsu_persistence::store::{Error, Store};
use bongsu_protocol::command::{HistoryQuery, HistoryRange, Start};
use bongsu_protocol::event::Page;
use bongsu_protocol::message::{Delivery, Message};
use bongsu_protocol::position::{Offset, Position};
use bongsu_protocol::topic::Topic;

use super::deliveries::{Attempt, Went};
use super::worker::{Worker, within_deadline};
use crate::config::WebhookSettings;
use crate::limits::WEBHOOK_PAGE;
use crate::publisher::Publisher;

/// Knows the deliveries of all nodes, and makes some again from this one.
pub struct Desk {
    webhooks: Vec<WebhookSettings>,
    store: Arc<dyn Store>,
    publisher: Arc<Publisher>,
    node: String,
}

/// Why a delivery was not made again.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The settings have no such webhook.
    #[error("there is no webhook of that name")]
    NoWebhook,
    /// The message is not kept, or was erased.
    #[error("there is no such message, or nothing of it is kept")]
    NoMessage,
    /// The file with the secrets holds none.
    #[error("its file of secrets holds none as they should be")]
    NoSecret,
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] Error),
}

/// Dead letters that were delivered once more.
#[derive(Debug)]
pub struct Again {
    /// In order; it ends with the first that failed.
    pub attempts: Vec<Attempt>,
    /// The offset after which there are more.
    pub next: Option<u64>,
}

impl Desk {
    /// For these webhooks.
    #[must_use]
    pub fn new(
        webhooks: &[WebhookSettings],
        store: &Arc<dyn Store>,
        publisher: &Arc<Publisher>,
        node: &str,
    ) -> Self {
        let (store, publisher) = (Arc::clone(store), Arc::clone(publisher));
        Self { webhooks: webhooks.to_vec(), store, publisher, node: node.to_owned() }
    }

    /// The webhooks, each with the bounds of its dead letters: the first kept, and the newest.
    ///
    /// # Errors
    /// The store did not answer.
    pub async fn webhooks(&self) -> Result<Vec<(WebhookSettings, Topic, Page)>, Error> {
        let mut found = Vec::new();
        for settings in &self.webhooks {
            let topic = self.worker(settings).dead_letters;
            let page = self.read(&topic, Start::Latest, 1).await?;
            found.push((settings.clone(), topic, page));
        }
        Ok(found)
    }

    /// The newest attempts of a webhook, newest first.
    ///
    /// # Errors
    /// See [`Refused`].
    pub async fn deliveries(
        &self,
        webhook: &str,
        only_failed: bool,
        limit: usize,
    ) -> Result<Vec<Attempt>, Refused> {
        let worker = self.worker(self.settings(webhook)?);
        let is_wanted = |attempt: &Attempt| !only_failed || attempt.outcome != Went::Delivered;
        Ok(worker.deliveries.newest(limit, is_wanted).await?)
    }

    /// Sends a message once more.
    ///
    /// # Errors
    /// See [`Refused`].
    pub async fn redeliver(&self, webhook: &str, topic: &Topic, offset: u64) -> Result<Attempt, Refused> {
        let worker = self.worker(self.settings(webhook)?);
        let delivery = self.message(topic, Offset(offset), None).await?.ok_or(Refused::NoMessage)?;
        let attempt = worker.send_again(&delivery).await.ok_or(Refused::NoSecret)?;
        worker.deliveries.write().await;
        Ok(attempt)
    }

    /// Sends dead letters once more, those after an offset of their topic. They stay where they are.
    ///
    /// # Errors
    /// See [`Refused`].
    pub async fn redeliver_dead(&self, webhook: &str, after: u64, limit: usize) -> Result<Again, Refused> {
        let worker = self.worker(self.settings(webhook)?);
        let mut again = Again { attempts: Vec::new(), next: None };
        let mut reached = after;
        'pages: loop {
            let head = self.read(&worker.dead_letters, Start::Latest, 1).await?.head;
            let start = Start::After(Position { offset: Offset(reached.min(head.offset.0)), ..head });
            let page = self.read(&worker.dead_letters, start, WEBHOOK_PAGE).await?;
            for letter in &page.messages {
                let Some(position) = letter.position else { continue };
                if again.attempts.len() == limit {
                    again.next = Some(reached);
                    break 'pages;
                }
                if let Some(delivery) = self.original(letter).await? {
                    let attempt = worker.send_again(&delivery).await.ok_or(Refused::NoSecret)?;
                    let is_delivered = attempt.outcome == Went::Delivered;
                    again.attempts.push(attempt);
                    if !is_delivered {
                        again.next = Some(reached);
                        break 'pages;
                    }
                }
                reached = position.offset.0;
            }
            if !page.more || page.messages.is_empty() {
                break;
            }
        }
        worker.deliveries.write().await;
        Ok(again)
    }

    fn settings(&self, webhook: &str) -> Result<&WebhookSettings, Refused> {
        let found = self.webhooks.iter().find(|settings| settings.name.as_str() == webhook);
        found.ok_or(Refused::NoWebhook)
    }

    fn worker(&self, settings: &WebhookSettings) -> Worker {
        Worker::new(settings, &self.store, &self.publisher, &self.node)
    }

    /// What a dead letter was; what is left of it where the message itself is gone. `None` if nobody can say.
    async fn original(&self, letter: &Delivery) -> Result<Option<Arc<Delivery>>, Error> {
        let header = |name: &str| {
            let found = letter.message.headers.iter().find(|(header, _)| header == name);
            found.map(|(_, value)| value.as_str())
        };
        let topic = header("webhook-topic").and_then(|topic| Topic::parse(topic).ok());
        let position = header("webhook-position").and_then(|position| position.parse::<Position>().ok());
        let (Some(topic), Some(position)) = (topic, position) else { return Ok(None) };
        if letter.erased {
            return Ok(None);
        }
        if let Some(message) = self.message(&topic, position.offset, Some(position)).await? {
            return Ok(Some(message));
        }
        let message = Message {
            payload: letter.message.payload.clone(),
            content_type: letter.message.content_type.clone(),
            ..Message::default()
        };
        let (time, publisher) = (letter.time, letter.publisher.clone());
        let position = Some(position);
        Ok(Some(Arc::new(Delivery { topic, position, time, publisher, message, erased: false })))
    }

    /// A message that is kept; of the newest log of its topic, or only at exactly this position.
    async fn message(
        &self,
        topic: &Topic,
        offset: Offset,
        exactly: Option<Position>,
    ) -> Result<Option<Arc<Delivery>>, Error> {
        let head = self.read(topic, Start::Latest, 1).await?.head;
        let wanted = exactly.unwrap_or(Position { offset, ..head });
        if wanted.offset.0 == 0 {
            return Ok(None);
        }
        let page = self.read(topic, Start::After(wanted.previous()), 1).await?;
        let found = page.messages.into_iter().next();
        Ok(found.filter(|delivery| delivery.position == Some(wanted) && !delivery.erased))
    }

    async fn read(&self, topic: &Topic, start: Start, limit: u32) -> Result<Page, Error> {
        let range = HistoryRange::Forward(start);
        within_deadline(self.store.read(HistoryQuery { topic: topic.clone(), range, limit })).await
    }
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Desk").finish_non_exhaustive()
    }
}
