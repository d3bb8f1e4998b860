//! What a client asks of the broker.

use bytes::Bytes;

use crate::message::{NewMessage, Time};
use crate::position::Position;
use crate::topic::{Topic, TopicFilter};

/// The client's number for a request: larger than that of every earlier request of the connection, at most 2^53 - 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct RequestId(pub u64);

/// One request. It gets exactly one reply with its id, unless the connection closes first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The client's number for it.
    pub id: RequestId,
    /// What is asked.
    pub command: Command,
}

/// What a client may ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Says who the client is, at the start or again before its token runs out.
    Authenticate(Token),
    /// Adds subscriptions; each succeeds or fails by itself.
    Subscribe(Vec<Subscription>),
    /// Ends the subscriptions with these very filters.
    Unsubscribe(Vec<TopicFilter>),
    /// Publishes messages; each succeeds or fails by itself.
    Publish(Vec<NewMessage>),
    /// Reads a page of a topic's log, without subscribing.
    History(HistoryQuery),
    /// Makes this session a member of the topic, or replaces its info.
    Enter {
        /// The topic to be present on.
        topic: Topic,
        /// What other members see: any bytes, by convention JSON. At most 1 KiB.
        info: Bytes,
    },
    /// Ends this session's membership of the topic.
    Leave {
        /// The topic to leave.
        topic: Topic,
    },
    /// Asks who is present on the topic.
    Members {
        /// The topic asked about.
        topic: Topic,
    },
    /// Asks for a sign of life and the broker's time.
    Ping,
}

/// A bearer token. Its text never shows in logs: `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(pub String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

/// One subscription: which topics, and from where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// A topic or a pattern.
    pub filter: TopicFilter,
    /// Where reading starts on topics that `seen` does not name.
    pub from: Start,
    /// Where reading goes on, topic by topic: what a resuming client has seen. Each topic is matched by `filter`.
    pub seen: Vec<(Topic, Position)>,
}

/// Where reading starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Start {
    /// With the next message.
    #[default]
    Latest,
    /// With the oldest kept message.
    Earliest,
    /// With the newest n messages.
    Last(u64),
    /// After a position. Only on a single topic, since positions of different topics have nothing in common.
    After(Position),
    /// With the first message of this time or later.
    Time(Time),
}

/// Which page of a log.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HistoryQuery {
    /// Whose log.
    pub topic: Topic,
    /// From where and which way.
    pub range: HistoryRange,
    /// At most this many messages; the broker may send fewer.
    pub limit: u32,
}

/// From where and which way a page of a log is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HistoryRange {
    /// Oldest first, from the start given.
    Forward(Start),
    /// Newest first, from before the position given, or from the newest message.
    Backward(Option<Position>),
}
