//! What the broker tells a client.

use std::sync::Arc;

use bytes::Bytes;

use crate::command::RequestId;
use crate::message::{Delivery, Time};
use crate::position::{Epoch, Offset, Position};
use crate::reason::{Error, Goodbye};
use crate::topic::{Topic, TopicFilter};

/// One thing that the broker tells a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The first event of every connection.
    Welcome(Welcome),
    /// The answer to a request.
    Reply {
        /// Which request.
        id: RequestId,
        /// What came of it.
        result: Result<Reply, Error>,
    },
    /// A message of a topic that the client reads.
    Delivery(Arc<Delivery>),
    /// Messages that this client will not get.
    Lost(Lost),
    /// The topic's log was made anew: positions of earlier epochs mean nothing any more. What follows is the new log, from its
    /// oldest kept message.
    Reset {
        /// Which topic.
        topic: Topic,
        /// The new log's epoch.
        epoch: Epoch,
    },
    /// The broker ended a subscription.
    Unsubscribed {
        /// Which one.
        filter: TopicFilter,
        /// Why.
        error: Error,
    },
    /// The client's token ends soon, and with it the connection: show another one of the same subject before.
    TokenExpiring(TokenExpiring),
    /// Nothing but a sign of life, sent where nothing else was for the heartbeat interval.
    Heartbeat,
    /// The last event of a connection.
    Goodbye(Goodbye),
}

/// What a client should know of its connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Welcome {
    /// This session's name, unique among all nodes.
    pub session: String,
    /// The node's name.
    pub node: String,
    /// The subject of the token that the handshake carried; empty for an anonymous client.
    pub subject: String,
    /// The node's time.
    pub time: Time,
    /// Milliseconds: the broker sends at least this often. Nothing for twice as long means that the connection is dead.
    pub heartbeat_ms: u64,
    /// Bytes of the largest frame that the broker takes.
    pub frame_bytes_max: u64,
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// The token was taken.
    Authenticated {
        /// Whom it names.
        subject: String,
    },
    /// One result per subscription, in order.
    Subscribed(Vec<Result<Subscribed, Error>>),
    /// The filters named are no longer read (those that were not subscribed to included).
    Unsubscribed,
    /// One result per message, in order.
    Published(Vec<Result<Published, Error>>),
    /// A page.
    History(Page),
    /// This session is a member.
    Entered,
    /// This session is no member.
    Left,
    /// Who is present.
    Members {
        /// At most 1,000 of them, longest present first.
        members: Vec<Member>,
        /// How many there are.
        total: u64,
    },
    /// A sign of life.
    Pong {
        /// The node's time.
        time: Time,
    },
}

/// A subscription that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscribed {
    /// The filter as it was asked for.
    pub filter: TopicFilter,
    /// To resume: topics that `positions` does not name, and of which nothing came, are to be read from this time on.
    pub since: Time,
    /// To resume: where reading started, for each topic with history that was known when the subscription was made and that
    /// starts elsewhere than with the next message. A single topic with history is always named.
    pub positions: Vec<(Topic, Position)>,
}

/// A message that was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// Its place in the log; `None` on topics that keep no history.
    pub position: Option<Position>,
    /// A message with this id was there already, at this position; this one was not stored again.
    pub duplicate: bool,
}

/// When a token ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenExpiring {
    /// By the node's clock.
    pub expires_at: Time,
    /// Milliseconds from now, for clients whose clock is another.
    pub in_ms: u64,
}

/// Messages that will not come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// Of which topic.
    pub topic: Topic,
    /// Which ones, on a topic with history; they were trimmed by retention, or purged.
    pub range: Option<LostRange>,
    /// How many. 0 on a topic without history: some between two nodes, nobody knows how many.
    pub count: u64,
}

/// Offsets that will not come, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LostRange {
    /// In which incarnation of the log.
    pub epoch: Epoch,
    /// The first.
    pub from: Offset,
    /// The last.
    pub until: Offset,
}

/// A page of a topic's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The messages, in the order asked for. Shared with every reader of the same page.
    pub messages: Vec<Arc<Delivery>>,
    /// The oldest kept message's place; one after `head` if none is kept.
    pub first: Position,
    /// The newest message's place, also where it was trimmed. Offset 0 if there never was one.
    pub head: Position,
    /// Whether the log goes on behind the page's last message, in the direction asked for.
    pub more: bool,
}

/// Somebody present on a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The session that entered.
    pub session: String,
    /// Its token's subject; empty for an anonymous one.
    pub subject: String,
    /// What it shows of itself.
    pub info: Bytes,
    /// Since when.
    pub since: Time,
}

/// A change of who is present on a topic, told on the live topic `$presence/` + that topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PresenceChange {
    /// Somebody is present, or shows another info.
    Join(Member),
    /// Somebody is present no longer.
    Leave {
        /// The session that left.
        session: String,
    },
}
