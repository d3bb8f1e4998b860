//! What connections ask of a queue's task.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bongsu_protocol::command::RequestId;
use bongsu_protocol::position::Position;
use bongsu_protocol::queue::{ConsumerId, Departure, Settlement};
use bongsu_protocol::reason::Error;
use bongsu_protocol::stomp::conversation::SubscriptionKey;
use tokio::sync::{Notify, oneshot};

use crate::outbound::Outbound;

/// Somebody who is handed messages.
#[derive(Debug, Clone)]
pub(super) struct Consumer {
    pub(super) outbound: Arc<Outbound>,
    pub(super) subscription: SubscriptionKey,
}

/// Who wants to know that settlements are kept.
#[derive(Debug)]
pub(super) enum Asker {
    /// A connection's request.
    Request(Arc<Outbound>, RequestId),
    /// A task that waits for just these.
    Caller(oneshot::Sender<Result<(), Error>>),
}

#[derive(Debug)]
pub(super) enum Command {
    Consume { request: RequestId, id: ConsumerId, consumer: Consumer, prefetch: u32 },
    Leave { id: ConsumerId, departure: Departure, forget: bool },
    Settle { id: ConsumerId, positions: Vec<Position>, settlement: Settlement, asker: Asker },
}

/// Commands for one queue's task, in order. Its bound is that of what may ask: each consumer comes and goes once, and settles each
/// message that it holds once, of which its prefetch allows so many.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    commands: Mutex<VecDeque<Command>>,
    bell: Notify,
}

impl Mailbox {
    pub(super) fn push(&self, command: Command) {
        self.lock().push_back(command);
        self.bell.notify_one();
    }

    pub(super) fn take(&self) -> VecDeque<Command> {
        std::mem::take(&mut *self.lock())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Waits until there may be commands. May be dropped at any time.
    pub(super) async fn called(&self) {
        self.bell.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Command>> {
        // A command is put in or taken out whole.
        self.commands.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
