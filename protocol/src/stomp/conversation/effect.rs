//! What a conversation gives out.

use std::time::Duration;

use bytes::Bytes;

use crate::command::{RequestId, Start};
use crate::message::NewMessage;
use crate::position::Position;
use crate::queue::Settlement;
use crate::reason::CloseReason;
use crate::session;
use crate::stomp::encoder::TailKind;
use crate::topic::Topic;

use super::{Credentials, Group, SubscriptionKey};

/// What the conversation asks of its shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Find out who this is, then [`Conversation::verified`](super::Conversation::verified).
    Verify(Credentials),
    /// Send a heart-beat after `send_after` without anything else sent, slightly before the client expects it, and close the connection
    /// after `dead_after` without anything received. Any byte counts, in both directions.
    Beat {
        /// `None`: send none.
        send_after: Option<Duration>,
        /// `None`: expect none.
        dead_after: Option<Duration>,
    },
    /// What the session inside asks for. Answer on [`Conversation::session_mut`](super::Conversation::session_mut).
    Session(session::Effect),
    /// Publish all of these or none, together with what it settles, then [`Conversation::committed`](super::Conversation::committed).
    Commit {
        /// Which request.
        id: RequestId,
        /// In order.
        messages: Vec<NewMessage>,
        /// In order.
        settled: Vec<Settled>,
    },
    /// Make this subscription a consumer of a queue, then [`Conversation::consuming`](super::Conversation::consuming), and [`Conversation::deliver`](super::Conversation::deliver) from there on.
    Consume {
        /// Which request.
        id: RequestId,
        /// Which subscription.
        subscription: SubscriptionKey,
        /// The log that the queue is made of.
        topic: Topic,
        /// Which of the queues over this log.
        group: Group,
        /// Where the queue starts, if it is not there yet.
        from: Start,
        /// Messages that may wait for being settled at once.
        prefetch: u32,
    },
    /// The subscription consumes no longer: what it did not settle goes to others.
    Cancel {
        /// Which subscription.
        subscription: SubscriptionKey,
        /// The queue is not wanted any more, either: forget what it knows. Only durable subscriptions say so.
        forget: bool,
    },
    /// Settle messages of a queue, and once that is kept, [`Conversation::settled`](super::Conversation::settled).
    Settle {
        /// Which request.
        id: RequestId,
        /// Whose, which, and how.
        settled: Settled,
    },
    /// Close the connection in this way, once what waits was sent. After a DISCONNECT, leave the client a moment to do it.
    Close(CloseReason),
}

/// What became of some messages of a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// Whose they were.
    pub subscription: SubscriptionKey,
    /// Which ones.
    pub positions: Vec<Position>,
    /// What became of them.
    pub settlement: Settlement,
}

/// Something to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outgoing<D> {
    /// A whole frame.
    Frame(Bytes),
    /// A message: these bytes, then what [`encode_message_tail`](crate::stomp::encode_message_tail) wrote for all of its readers of this kind.
    Message {
        /// Of this subscription alone.
        head: Bytes,
        /// Which tail follows.
        tail: TailKind,
        /// The message.
        delivery: D,
    },
}
