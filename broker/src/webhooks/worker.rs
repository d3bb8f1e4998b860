//! Delivers what one topic has, message by message and in order.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bongsu_persistence::store::{Append, Appended, Error, Store};
use bongsu_protocol::command::{HistoryQuery, HistoryRange, Start};
use bongsu_protocol::message::{Delivery, Message, NewMessage, Time};
use bongsu_protocol::position::{Offset, Position};
use bongsu_protocol::topic::Topic;
use http::StatusCode;

use super::deliveries::{Attempt, Deliveries, Went};
use super::post::{Outcome, id_of, post};
use super::signature::Secrets;
use crate::chance;
use crate::clock;
use crate::config::WebhookSettings;
use crate::http_client::Client;
use crate::limits::{
    STORE_DEADLINE, WEBHOOK_DEAD_LETTER_WINDOW, WEBHOOK_PAGE, WEBHOOK_RETRY_AFTER_MAX, WEBHOOK_RETRY_MIN,
    WEBHOOK_SECRETS_INTERVAL,
};
use crate::metrics::METRICS;
use crate::publisher::Publisher;

/// What topics of one webhook are delivered with.
pub(super) struct Worker {
    pub(super) settings: WebhookSettings,
    pub(super) store: Arc<dyn Store>,
    pub(super) publisher: Arc<Publisher>,
    pub(super) client: Client,
    /// The secrets, and when they were read.
    pub(super) secrets: Mutex<Option<(Duration, Secrets)>>,
    pub(super) dead_letters: Topic,
    pub(super) deliveries: Deliveries,
    /// This node's name.
    pub(super) node: String,
}

/// A topic that is to be delivered.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) topic: Topic,
    pub(super) start: Start,
    /// How often its first message was tried.
    pub(super) n_tried: u32,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) topic: Topic,
    /// How far it was delivered, if it moved.
    pub(super) reached: Option<(Position, Time)>,
    /// How often the next message was tried.
    pub(super) n_tried: u32,
    /// The pause before it is tried again.
    pub(super) retry_in: Option<Duration>,
    /// There may be more.
    pub(super) has_more: bool,
    /// The receiver said that it is gone.
    pub(super) is_gone: bool,
}

impl Worker {
    pub(super) fn new(
        settings: &WebhookSettings,
        store: &Arc<dyn Store>,
        publisher: &Arc<Publisher>,
        node: &str,
    ) -> Self {
        let name = settings.name.as_str();
        let dead_letters = Topic::parse(&format!("{}{name}/dead", super::DEAD_LETTERS));
        Self {
            settings: settings.clone(),
            store: Arc::clone(store),
            publisher: Arc::clone(publisher),
            client: Client::new(settings.concurrency),
            secrets: Mutex::default(),
            dead_letters: dead_letters.expect("a webhook's name is a level of a topic"),
            deliveries: Deliveries::of(name, store),
            node: node.to_owned(),
        }
    }

    /// Sends a message because somebody asked for it; `None` without a secret to sign it.
    pub(super) async fn send_again(&self, delivery: &Delivery) -> Option<Attempt> {
        let secrets = self.secrets()?;
        let (outcome, began, duration_ms) = self.send(&secrets, delivery).await;
        let attempt = self.attempt(delivery, 0, &outcome, began, duration_ms);
        self.deliveries.note(attempt.clone());
        Some(attempt)
    }

    /// Sends a message, and says what came of it, when that began and how many milliseconds it took.
    async fn send(&self, secrets: &Secrets, delivery: &Delivery) -> (Outcome, Time, u64) {
        METRICS.webhook_requests.add(1);
        let (began, since) = (clock::wall(), clock::monotonic());
        let url = self.settings.url.reveal();
        let outcome = post(&self.client, url, secrets, delivery, self.settings.timeout).await;
        let took = clock::monotonic().saturating_sub(since);
        (outcome, began, u64::try_from(took.as_millis()).unwrap_or(u64::MAX))
    }

    /// What is told of an attempt.
    fn attempt(
        &self,
        delivery: &Delivery,
        attempt: u32,
        outcome: &Outcome,
        time: Time,
        duration_ms: u64,
    ) -> Attempt {
        let position = delivery.position.unwrap_or_default();
        let (went, status, error) = match outcome {
            Outcome::Taken(status) => (Went::Delivered, Some(*status), None),
            Outcome::Gone => (Went::Gone, Some(StatusCode::GONE), None),
            Outcome::Failed { reason, status, .. } => (Went::Failed, *status, Some(cut(reason))),
        };
        Attempt {
            time_ms: time.0,
            node: self.node.clone(),
            topic: delivery.topic.as_str().to_owned(),
            epoch: position.epoch.0,
            offset: position.offset.0,
            id: id_of(delivery),
            attempt,
            outcome: went,
            status: status.map(|status| status.as_u16()),
            duration_ms,
            error,
            next_ms: None,
        }
    }

    /// Delivers one page of a topic, up to the first message that is not taken.
    pub(super) async fn run(self: Arc<Self>, job: Job) -> Ended {
        let Job { topic, start, n_tried } = job;
        let mut ended = Ended {
            topic: topic.clone(),
            reached: None,
            n_tried,
            retry_in: None,
            has_more: false,
            is_gone: false,
        };
        let Ok((deliveries, head)) = self.page(&topic, start).await else {
            ended.retry_in = Some(pause(1));
            return ended;
        };
        let Some(secrets) = self.secrets() else {
            ended.retry_in = Some(pause(4));
            return ended;
        };
        for delivery in deliveries {
            let name = self.settings.name.as_str();
            let (outcome, began, duration_ms) = self.send(&secrets, &delivery).await;
            let mut attempt = self.attempt(&delivery, ended.n_tried + 1, &outcome, began, duration_ms);
            match outcome {
                Outcome::Taken(_) => METRICS.webhook_delivered.add(1),
                Outcome::Gone => {
                    self.deliveries.note(attempt);
                    ended.is_gone = true;
                    return ended;
                }
                Outcome::Failed { reason, status, retry_after } => {
                    METRICS.webhook_failures.add(1);
                    ended.n_tried += 1;
                    tracing::debug!(webhook = name, topic = %topic, n_tried = ended.n_tried, reason, "not delivered");
                    if ended.n_tried < self.settings.attempts {
                        let asked = retry_after.unwrap_or_default().min(WEBHOOK_RETRY_AFTER_MAX);
                        let own = pause(ended.n_tried).min(self.settings.retry_max);
                        let pause = own.max(asked);
                        let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
                        attempt.next_ms = Some(clock::wall().0.saturating_add(pause_ms));
                        self.deliveries.note(attempt);
                        ended.retry_in = Some(pause);
                        return ended;
                    }
                    let status = status.map(|status| status.as_u16().to_string()).unwrap_or_default();
                    if self.bury(&delivery, ended.n_tried, &reason, &status).await.is_err() {
                        self.deliveries.note(attempt);
                        ended.n_tried -= 1;
                        ended.retry_in = Some(pause(1));
                        return ended;
                    }
                    attempt.outcome = Went::GivenUp;
                    METRICS.webhook_dead.add(1);
                    tracing::warn!(webhook = name, topic = %topic, reason, "a message was given up, and is a dead letter");
                }
            }
            self.deliveries.note(attempt);
            ended.n_tried = 0;
            ended.reached = Some((delivery.position.unwrap_or_default(), delivery.time));
        }
        ended.has_more = ended.reached.is_some_and(|(position, _)| position < head);
        ended
    }

    /// What comes next, and the newest message's place.
    async fn page(&self, topic: &Topic, start: Start) -> Result<(Vec<Arc<Delivery>>, Position), Error> {
        let read = |start| async move {
            let range = HistoryRange::Forward(start);
            let query = HistoryQuery { topic: topic.clone(), range, limit: WEBHOOK_PAGE };
            within_deadline(self.store.read(query)).await
        };
        let mut page = read(start).await?;
        if let Start::After(after) = start {
            if page.head.epoch != after.epoch {
                // The log was made anew: all of it is news.
                page = read(Start::Earliest).await?;
            } else if page.first.offset > Offset(after.offset.0 + 1) {
                let n_lost = page.first.offset.0 - after.offset.0 - 1;
                METRICS.webhook_lost.add(n_lost);
                tracing::warn!(webhook = self.settings.name.as_str(), %topic, n_lost, "messages were removed before they were delivered");
            }
        }
        Ok((page.messages, page.head))
    }

    /// The secrets that stand in the file now, or stood there when it could be read last.
    fn secrets(&self) -> Option<Secrets> {
        let now = clock::monotonic();
        let known = self.secrets.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((read_at, secrets)) = &known
            && now.saturating_sub(*read_at) < WEBHOOK_SECRETS_INTERVAL
        {
            return Some(secrets.clone());
        }
        // Some bytes of a local file, every ten seconds: not worth another thread.
        let text = std::fs::read_to_string(&self.settings.secret_file).ok();
        let Some(secrets) = text.as_deref().and_then(Secrets::parse) else {
            let (webhook, file) = (self.settings.name.as_str(), self.settings.secret_file.display());
            tracing::error!(webhook, %file, "the file holds no secrets as they should be: one or two lines, whsec_ and base64");
            return known.map(|(_, secrets)| secrets);
        };
        *self.secrets.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, secrets.clone()));
        Some(secrets)
    }

    /// Keeps a message that nobody takes where somebody may look for it.
    async fn bury(&self, delivery: &Delivery, n_tried: u32, reason: &str, status: &str) -> Result<(), Error> {
        let header = |name: &str, value: &str| (name.to_owned(), cut(value));
        let mut headers = vec![
            header("webhook-topic", delivery.topic.as_str()),
            header("webhook-position", &delivery.position.unwrap_or_default().to_string()),
            header("webhook-attempts", &n_tried.to_string()),
            header("webhook-reason", reason),
        ];
        if !status.is_empty() {
            headers.push(header("webhook-status", status));
        }
        let message = Message {
            payload: delivery.message.payload.clone(),
            content_type: delivery.message.content_type.clone(),
            headers,
            id: id_of(delivery),
        };
        let append = Append {
            message: NewMessage { topic: self.dead_letters.clone(), message, expect: None },
            publisher: delivery.publisher.clone(),
            time: clock::wall(),
            idempotency_window: WEBHOOK_DEAD_LETTER_WINDOW,
        };
        let appended = within_deadline(self.store.append(vec![append])).await?;
        if let Some(Appended::Stored(delivery)) = appended.into_iter().next() {
            self.publisher.stored_elsewhere(vec![delivery]).await;
        }
        Ok(())
    }
}

/// The pause after so many attempts: it doubles, and is shortened by up to a half at random.
fn pause(n_tried: u32) -> Duration {
    let pause = WEBHOOK_RETRY_MIN * 2_u32.saturating_pow(n_tried.saturating_sub(1).min(20));
    pause.mul_f64(chance::range(0.5..=1.0))
}

/// A header has no control characters, and is no place for long texts.
fn cut(value: &str) -> String {
    value.chars().filter(|c| !c.is_control()).take(512).collect()
}

pub(super) async fn within_deadline<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let late = |_| Error::Unavailable("it did not answer in time".to_owned());
    tokio::time::timeout(STORE_DEADLINE, work).await.map_err(late)?
}
