//! Messages on their way from the log to consumers.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bongsu_protocol::command::{HistoryQuery, HistoryRange, Start};
use bongsu_protocol::position::Position;
use bongsu_protocol::queue::{ConsumerId, Dispatch, Queue, Settlement, Ticket};
use bongsu_protocol::reason::Error;
use bongsu_protocol::topic::Topic;
use futures_util::future::BoxFuture;

use super::mailbox::Consumer;
use super::pace::retry_pause;
use crate::clock;
use crate::delivery::{Shared, SharedDelivery};
use crate::history::History;
use crate::limits::{QUEUE_DELIVERIES_PER_TURN_MAX, QUEUE_PAGE};
use crate::metrics::METRICS;
use crate::outbound::Outbound;

/// The ticket of settlements that nobody asked for.
pub(super) const NOBODY: Ticket = Ticket(0);

/// Some messages of the log, in order and without holes, with its bounds.
pub(super) struct Page {
    /// The one that was asked for; it is the first, if it is there.
    asked: Position,
    messages: Vec<SharedDelivery>,
    first: Position,
    head: Position,
}

/// Reads what was dispatched and hands it over, in the order of the dispatches.
pub(super) struct Handover {
    topic: Topic,
    history: Arc<History>,
    page: Vec<SharedDelivery>,
    read: Option<BoxFuture<'static, Result<Page, Error>>>,
    /// The log did not answer: nothing is read before this time.
    pub(super) not_before: Duration,
    n_failures: u32,
    /// There is more to hand over, and no need to wait for it.
    pub(super) has_more: bool,
}

impl Handover {
    pub(super) fn new(topic: Topic, history: Arc<History>) -> Self {
        let (page, read) = (Vec::new(), None);
        Self { topic, history, page, read, not_before: Duration::ZERO, n_failures: 0, has_more: false }
    }

    /// Hands over what is here, within bounds, and begins to read what is not.
    pub(super) fn go_on(&mut self, queue: &mut Queue, consumers: &HashMap<ConsumerId, Consumer>) {
        let mut touched: Vec<&Arc<Outbound>> = Vec::new();
        let mut n_handed = 0;
        self.has_more = false;
        while let Some(dispatch) = queue.peek_dispatch() {
            if n_handed == QUEUE_DELIVERIES_PER_TURN_MAX {
                self.has_more = true;
                break;
            }
            let Some(message) = self.find(dispatch.position) else {
                self.begin_read(dispatch.position);
                break;
            };
            queue.poll_dispatch();
            n_handed += 1;
            if message.delivery.erased {
                // Nothing is left of it that anybody could work on.
                queue.settle(dispatch.consumer, &[dispatch.position], Settlement::Done, NOBODY);
                continue;
            }
            match consumers.get(&dispatch.consumer).filter(|consumer| hand(consumer, dispatch, &message)) {
                Some(Consumer { outbound, .. }) => {
                    METRICS.queue_delivered.add(1);
                    METRICS.queue_redelivered.add(dispatch.is_redelivered.into());
                    if !touched.iter().any(|other| other.id() == outbound.id()) {
                        touched.push(outbound);
                    }
                }
                // It was cancelled; the command that says so is on its way.
                None => queue.undelivered(dispatch),
            }
        }
        if queue.peek_dispatch().is_none() {
            self.page = Vec::new();
        }
        for outbound in touched {
            outbound.flush();
        }
    }

    /// Waits for a page, if one is read. May be dropped at any time.
    pub(super) async fn page(&mut self) -> Result<Page, Error> {
        match &mut self.read {
            Some(read) => {
                let result = read.await;
                self.read = None;
                result
            }
            None => std::future::pending().await,
        }
    }

    /// Takes a page that was read.
    pub(super) fn take(&mut self, result: Result<Page, Error>, queue: &mut Queue) {
        let Ok(Page { asked, messages, first, head }) = result else {
            self.not_before = clock::monotonic() + retry_pause(self.n_failures);
            self.n_failures += 1;
            return;
        };
        self.n_failures = 0;
        self.page = messages;
        let Some(dispatch) = queue.peek_dispatch() else { return };
        if asked != dispatch.position || self.find(asked).is_some() {
            // Another one may be the next by now: it is read then.
            return;
        }
        // Where it is not there, the store itself said so, and its bounds with it.
        if first > dispatch.position || head.epoch > dispatch.position.epoch {
            // Retention or a purge was faster than consumers, or the log is another one.
            queue.set_log(first, head);
            queue.poll_dispatch();
            queue.undelivered(dispatch);
        } else {
            // A copy of the log lags behind.
            self.not_before = clock::monotonic() + retry_pause(0);
        }
    }

    /// Whether there is nothing to wait for but the time.
    pub(super) const fn is_reading(&self) -> bool {
        self.read.is_some()
    }

    fn find(&self, position: Position) -> Option<SharedDelivery> {
        let place = self.page.binary_search_by_key(&Some(position), |message| message.delivery.position);
        Some(Arc::clone(&self.page[place.ok()?]))
    }

    fn begin_read(&mut self, position: Position) {
        if self.read.is_none() && clock::monotonic() >= self.not_before {
            let (history, topic) = (Arc::clone(&self.history), self.topic.clone());
            self.read = Some(Box::pin(async move { read(&history, topic, position).await }));
        }
    }
}

/// Reads a message and some behind it: from memory where it is there, and for sure from the store where it is not.
pub(super) async fn read(history: &Arc<History>, topic: Topic, position: Position) -> Result<Page, Error> {
    let range = HistoryRange::Forward(Start::After(position.previous()));
    let query = HistoryQuery { topic, range, limit: QUEUE_PAGE };
    let page = history.catch_up(query.clone()).await?;
    if page.items.first().is_some_and(|(first, ..)| *first == position) {
        let messages = page.items.into_iter().map(|(_, _, message)| message).collect();
        return Ok(Page { asked: position, messages, first: page.first, head: page.head });
    }
    let page = history.page(query).await?;
    let messages = page.messages.iter().map(|message| Shared::new(Arc::clone(message))).collect();
    Ok(Page { asked: position, messages, first: page.first, head: page.head })
}

impl Page {
    /// The message that was asked for.
    pub(super) fn into_asked(self) -> Option<SharedDelivery> {
        self.messages.into_iter().next().filter(|message| message.delivery.position == Some(self.asked))
    }
}

/// False if the consumer takes it no more.
fn hand(consumer: &Consumer, dispatch: Dispatch, message: &SharedDelivery) -> bool {
    let Dispatch { position, is_redelivered, .. } = dispatch;
    let mut state = consumer.outbound.lock();
    let conversation = state.dialog.stomp();
    conversation.is_some_and(|conversation| {
        conversation.deliver(consumer.subscription, position, is_redelivered, message)
    })
}
