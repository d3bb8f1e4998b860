//! What is told of sessions: the schema of the messages on `$sys/sessions/…`, and the topics they are on.

use bongsu_protocol::limits::MESSAGE_ID_BYTES_MAX;
use bongsu_protocol::message::{Message, NewMessage};
use bongsu_protocol::topic::Topic;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The reason of a session's end that its node could not tell.
pub const NODE_LOST: &str = "node_lost";

/// Bytes of a node's name in a topic, from which on its digest stands in its place: a topic has at most 255.
const LEVEL_BYTES_MAX: usize = 128;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A session began.
    Connected,
    /// Its subject became another one: it brought a token.
    Authenticated,
    /// It began to read topics.
    Subscribed,
    /// It reads some of them no more. A session that ends reads nothing; that is not told topic by topic.
    Unsubscribed,
    /// All that it reads, in the place of events that were lost.
    Subscriptions,
    /// It ended.
    Disconnected,
    /// Events of this node were not told one by one, since the store was away for too long.
    Lost,
}

/// One event, as readers get it: the JSON of a message. `docs/events.md` is its reference.
///
/// Every event of a session bears what is known of it, so that a reader needs no memory of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// What happened.
    pub event: Kind,
    /// When, in milliseconds since 1970, by the clock of the node that told it.
    pub time: u64,
    /// The node that the session was on.
    pub node: String,
    /// Which session; empty in [`Kind::Lost`].
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub session: String,
    /// The number of the event in its session, from 1; one more than the event before it, or events were lost. In [`Kind::Lost`] the
    /// number of the loss in its process.
    pub seq: u64,
    /// When the session began, or in [`Kind::Lost`] the process.
    pub since: u64,
    /// Whom its token names; empty for nobody.
    #[serde(default)]
    pub subject: String,
    /// The address and port that it came from; empty where nobody knows.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub peer: String,
    /// What carries it, by the names of the metric `bongsu_sessions`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub transport: String,
    /// The topic filters that are meant.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub topics: Vec<String>,
    /// Why it ended: a close reason, or [`NODE_LOST`].
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// How many events were lost.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub count: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Event {
    /// The id of its message, which is the same whoever tells it: a session begins once and ends once.
    pub(super) fn id(&self) -> String {
        let Self { session, node, seq, since, .. } = self;
        let id = match self.event {
            Kind::Connected => format!("{session}/connected"),
            Kind::Disconnected => format!("{session}/disconnected"),
            Kind::Lost => format!("{node}-{since:x}/lost/{seq}"),
            Kind::Authenticated | Kind::Subscribed | Kind::Unsubscribed | Kind::Subscriptions => {
                format!("{session}/{seq}")
            }
        };
        if id.len() <= MESSAGE_ID_BYTES_MAX { id } else { digest(&id) }
    }

    /// The message that tells it.
    pub(super) fn to_message(&self, topic: Topic) -> NewMessage {
        // A struct of texts and numbers always has a JSON form.
        let payload = serde_json::to_vec(self).unwrap_or_default().into();
        let content_type = "application/json".to_owned();
        let message = Message { payload, content_type, id: self.id(), ..Message::default() };
        NewMessage { topic, message, expect: None }
    }

    /// The end of the session of which this is the newest event, told by somebody else.
    pub(super) fn lost_with_its_node(&self, time: u64) -> Self {
        Self {
            event: Kind::Disconnected,
            time: time.max(self.time),
            seq: self.seq + 1,
            topics: Vec::new(),
            reason: NODE_LOST.to_owned(),
            ..self.clone()
        }
    }

    /// Bytes that it costs while it waits, roughly.
    pub(super) fn cost_bytes(&self) -> usize {
        let texts = [&self.node, &self.session, &self.subject, &self.peer, &self.transport, &self.reason];
        let texts: usize = texts.iter().map(|text| text.len()).sum();
        let topics: usize = self.topics.iter().map(|topic| topic.len() + size_of::<String>()).sum();
        size_of::<Self>() + texts + topics
    }
}

/// Where the events of a node's sessions are told.
pub(super) fn told_on(level: &str) -> Topic {
    own_topic("$sys/sessions/", level)
}

/// The log that holds what was told of a node's sessions, and which of them are open: its register.
pub(super) fn register_of(level: &str) -> Topic {
    own_topic(REGISTERS, level)
}

/// What the names of all registers begin with.
pub(super) const REGISTERS: &str = "$events/";

fn own_topic(prefix: &str, level: &str) -> Topic {
    Topic::parse(&format!("{prefix}{level}")).expect("a level of a node's name has only characters of topics")
}

/// The level of a topic that stands for a node: its name, with what a level cannot hold percent-encoded.
pub(super) fn level_of(node: &str) -> String {
    let mut level = String::with_capacity(node.len());
    for byte in node.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~:@".contains(&byte) {
            level.push(char::from(byte));
        } else {
            level.push_str(&format!("%{byte:02X}"));
        }
    }
    if level.len() <= LEVEL_BYTES_MAX { level } else { digest(node) }
}

fn digest(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_nodes_are_one_level_each_and_stay_apart() {
        for (node, level) in [
            ("node-1", "node-1"),
            ("a/b", "a%2Fb"),
            ("a%2Fb", "a%252Fb"),
            ("+", "%2B"),
            ("#", "%23"),
            ("한", "%ED%95%9C"),
        ] {
            assert_eq!(level_of(node), level);
            assert_eq!(told_on(&level_of(node)).as_str(), format!("$sys/sessions/{level}"));
        }
        let long = "한".repeat(85);
        assert_eq!(level_of(&long).len(), 64);
        assert_ne!(level_of(&long), level_of(&"글".repeat(85)));
    }
}
