//! What the broker says: the events of the native protocol, which streams of events over HTTP use as well.

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A message's place in its topic's log. Positions compare by epoch, then by offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Position {
    pub(crate) epoch: u64,
    pub(crate) offset: u64,
}

/// One event of the broker. It has exactly one of these.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Event {
    pub(crate) welcome: Option<Welcome>,
    pub(crate) reply: Option<Reply>,
    pub(crate) delivery: Option<Delivery>,
    pub(crate) lost: Option<Lost>,
    pub(crate) reset: Option<Reset>,
    pub(crate) unsubscribed: Option<Value>,
    pub(crate) goodbye: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Welcome {
    pub(crate) node: String,
    pub(crate) heartbeat_ms: u64,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Reply {
    pub(crate) id: u64,
    pub(crate) published: Option<Results<Published>>,
    pub(crate) subscribed: Option<Results<SubscribedResult>>,
    pub(crate) history: Option<History>,
    pub(crate) error: Option<Refusal>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Results<T> {
    pub(crate) results: Vec<T>,
}

/// What became of one message: one of the two is there.
#[derive(Debug, Deserialize)]
pub(crate) struct Published {
    pub(crate) published: Option<Receipt>,
    pub(crate) error: Option<Refusal>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Receipt {
    pub(crate) position: Position,
}

/// What became of one subscription: one of the two is there.
#[derive(Debug, Deserialize)]
pub(crate) struct SubscribedResult {
    pub(crate) subscribed: Option<Subscribed>,
    pub(crate) error: Option<Refusal>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Subscribed {
    pub(crate) filter: String,
    pub(crate) since: u64,
    #[serde(default)]
    pub(crate) positions: Vec<TopicPosition>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct TopicPosition {
    pub(crate) topic: String,
    pub(crate) position: Position,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Refusal {
    pub(crate) code: String,
    #[serde(default)]
    pub(crate) text: String,
    pub(crate) retry_after_ms: Option<u64>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct History {
    #[serde(default)]
    pub(crate) messages: Vec<Delivery>,
    #[serde(default)]
    pub(crate) more: bool,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Delivery {
    pub(crate) topic: String,
    pub(crate) epoch: u64,
    pub(crate) offset: u64,
    /// The message id that the publisher gave.
    #[serde(default)]
    pub(crate) id: String,
    /// The payload.
    #[serde(default)]
    pub(crate) data: Value,
}

#[derive(Debug, Default, Deserialize)]
pub(crate) struct Lost {
    pub(crate) topic: String,
    #[serde(default)]
    pub(crate) epoch: u64,
    #[serde(default)]
    pub(crate) from: u64,
    #[serde(default)]
    pub(crate) until: u64,
}

#[derive(Debug, Default, Deserialize)]
pub(crate) struct Reset {
    pub(crate) topic: String,
    pub(crate) epoch: u64,
}

impl Delivery {
    pub(crate) const fn position(&self) -> Position {
        Position { epoch: self.epoch, offset: self.offset }
    }

    /// The number that the message has as its id and as its payload; both, where they differ.
    pub(crate) fn id(&self) -> String {
        let payload = self.data.to_string();
        if payload == self.id { payload } else { format!("{} with the payload {payload}", self.id) }
    }
}

/// A frame is one event or an array of them.
pub(crate) fn parse(text: &str) -> anyhow::Result<Vec<Event>> {
    let parsed = if text.starts_with('[') {
        serde_json::from_str(text)
    } else {
        serde_json::from_str(text).map(|event| vec![event])
    };
    parsed.with_context(|| format!("not a frame of events: {text}"))
}
