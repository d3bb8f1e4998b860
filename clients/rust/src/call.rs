//! What goes from an application's handles to the task that owns the connection, and what comes back.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bongsu_protocol::command::{Command, Start};
use bongsu_protocol::event::Reply;
use bongsu_protocol::message::NewMessage;
use bongsu_protocol::position::Position;
use bongsu_protocol::topic::{Topic, TopicFilter};
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};

use crate::engine::SubscriptionId;
use crate::error::Error;
use crate::mailbox::Mailbox;
use crate::state::State;

/// What the application asks of its client.
pub(crate) enum Ask {
    Call {
        command: Command,
        waiter: Waiter,
    },
    /// Each message has an id.
    Publish {
        messages: Vec<NewMessage>,
        waiter: Waiter,
    },
    Subscribe {
        id: SubscriptionId,
        filter: TopicFilter,
        from: Start,
        /// What an earlier run of the application saw.
        seen: Vec<(Topic, Position)>,
        mailbox: Arc<Mailbox>,
        waiter: Waiter,
    },
    Close {
        done: oneshot::Sender<()>,
    },
}

/// Who waits for the answer to a call.
#[derive(Debug)]
pub(crate) struct Waiter {
    pub(crate) reply: oneshot::Sender<Result<Reply, Error>>,
    /// A publish's part of the window; free again when this is dropped.
    pub(crate) _permit: Option<OwnedSemaphorePermit>,
}

/// The answer to a call.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) reply: oneshot::Receiver<Result<Reply, Error>>,
    pub(crate) state: watch::Receiver<State>,
}

impl Future for Answer {
    type Output = Result<Reply, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let reply = Pin::new(&mut self.reply).poll(context);
        reply.map(|reply| reply.unwrap_or_else(|_| Err(closed(&self.state))))
    }
}

/// What a call fails with once the task is gone.
pub(crate) fn closed(state: &watch::Receiver<State>) -> Error {
    match &*state.borrow() {
        State::Closed(cause) => Error::Closed(cause.clone()),
        State::Connecting | State::Open(_) | State::Waiting { .. } => Error::Closed(None),
    }
}
