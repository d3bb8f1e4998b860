//! What every handle of a client shares: the way to its task.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bongsu_protocol::command::{Command, Start};
use bongsu_protocol::event::Reply;
use bongsu_protocol::message::NewMessage;
use bongsu_protocol::position::Position;
use bongsu_protocol::topic::{Topic, TopicFilter};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

use crate::builder::Builder;
use crate::call::{Answer, Ask, Waiter, closed};
use crate::driver::Driver;
use crate::engine::SubscriptionId;
use crate::error::Error;
use crate::limits::{CALL_QUEUE, MESSAGE_OVERHEAD_BYTES};
use crate::mailbox::Mailbox;
use crate::state::State;

/// The way to a client's task, which ends when the last handle is dropped.
#[derive(Debug, Clone)]
pub(crate) struct Handle(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    asks: mpsc::Sender<Ask>,
    state: watch::Receiver<State>,
    attention: Arc<Notify>,
    subscription_bytes: usize,
    /// Bytes of unacknowledged messages that may still be published.
    window: Arc<Semaphore>,
    window_bytes: usize,
    /// Begins the message ids that this client makes: random, so that no other client makes the same.
    id_prefix: u64,
    n_ids: AtomicU64,
    n_subscriptions: AtomicU64,
}

impl Handle {
    pub(crate) fn spawn(options: Builder) -> Self {
        let (asks, asked) = mpsc::channel(CALL_QUEUE);
        let (told, state) = watch::channel(State::Connecting);
        let attention = Arc::new(Notify::new());
        let shared = Shared {
            asks,
            state,
            attention: attention.clone(),
            subscription_bytes: options.subscription_bytes,
            window: Arc::new(Semaphore::new(options.window_bytes)),
            window_bytes: options.window_bytes,
            id_prefix: rand::random(),
            n_ids: AtomicU64::new(0),
            n_subscriptions: AtomicU64::new(0),
        };
        tokio::spawn(Driver::new(options, asked, told, attention).run());
        Self(Arc::new(shared))
    }

    pub(crate) fn state(&self) -> watch::Receiver<State> {
        self.0.state.clone()
    }

    pub(crate) async fn close(&self) {
        let (done, closed) = oneshot::channel();
        // Where the task is gone, the client is closed.
        if self.0.asks.send(Ask::Close { done }).await.is_ok() {
            let _ = closed.await;
        }
    }

    /// Asks the broker something and waits for the answer.
    pub(crate) async fn call(&self, command: Command) -> Result<Reply, Error> {
        let (waiter, answer) = self.waiter(None);
        self.ask(Ask::Call { command, waiter }).await?;
        answer.await
    }

    pub(crate) async fn send_messages(&self, mut messages: Vec<NewMessage>) -> Result<Answer, Error> {
        let mut n_bytes = 0;
        for new in &mut messages {
            if new.message.id.is_empty() {
                // Only its uniqueness matters.
                let n = self.0.n_ids.fetch_add(1, Ordering::Relaxed);
                new.message.id = format!("{:016x}-{n:x}", self.0.id_prefix);
            }
            new.message.validate()?;
            n_bytes += new.message.size_bytes() + MESSAGE_OVERHEAD_BYTES;
        }
        // More than the whole window goes alone.
        let n_permits = u32::try_from(n_bytes.min(self.0.window_bytes)).unwrap_or(u32::MAX);
        let permit = self.0.window.clone().acquire_many_owned(n_permits).await;
        let (waiter, answer) = self.waiter(permit.ok());
        self.ask(Ask::Publish { messages, waiter }).await?;
        Ok(answer)
    }

    /// Asks for a subscription, whose items come into the mailbox.
    pub(crate) async fn subscribe(
        &self,
        filter: TopicFilter,
        from: Start,
        seen: Vec<(Topic, Position)>,
        mailbox: Arc<Mailbox>,
    ) -> Result<(), Error> {
        // Only its uniqueness matters.
        let id = SubscriptionId(self.0.n_subscriptions.fetch_add(1, Ordering::Relaxed));
        let (waiter, answer) = self.waiter(None);
        self.ask(Ask::Subscribe { id, filter, from, seen, mailbox, waiter }).await?;
        answer.await.map(|_| ())
    }

    pub(crate) fn mailbox(&self) -> Arc<Mailbox> {
        Arc::new(Mailbox::new(self.0.subscription_bytes, self.0.attention.clone()))
    }

    fn waiter(&self, permit: Option<OwnedSemaphorePermit>) -> (Waiter, Answer) {
        let (reply, answer) = oneshot::channel();
        (Waiter { reply, _permit: permit }, Answer { reply: answer, state: self.0.state.clone() })
    }

    async fn ask(&self, ask: Ask) -> Result<(), Error> {
        self.0.asks.send(ask).await.map_err(|_| closed(&self.0.state))
    }
}
