//! What is known of a stream besides its messages: one small document, kept in a log of its own.
//!
//! The log `$streams/{topic}` is a register: its newest message is the whole truth about the stream's life, and it is written only
//! on the condition that nobody wrote since it was read (`expect`). So every node sees the same, whoever changed it.

use std::collections::{BTreeMap, BTreeSet};

use bongsu_protocol::limits::TOPIC_BYTES_MAX;
use bongsu_protocol::position::Position;
use bongsu_protocol::topic::Topic;
use serde::{Deserialize, Serialize};

use super::fold::Producer;

/// The first level of the registers. Clients cannot publish below it, since it begins with `$`.
const PREFIX: &str = "$streams/";

/// The media type in which two streams are alike or not: parameters and case do not count.
pub(super) const JSON: &str = "application/json";

/// The newest message of a register.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// What there is.
    pub life: Life,
    /// Tells this stream from an earlier one of the same name, in entity tags.
    pub incarnation: u64,
    /// The topic was there before anybody wrote to it as to a stream: it is not deleted like one.
    pub is_adopted: bool,
    /// As it was given when the stream was created.
    pub content_type: String,
    /// Seconds without a read or write after which the stream ends.
    pub ttl: Option<u64>,
    /// When the stream ends in any case.
    pub expires_at: Option<ExpiresAt>,
    /// Milliseconds since 1970: when it was last read or written, as far as that was worth writing down.
    pub touched: u64,
    /// Where its first messages are, if it is a fork.
    pub fork: Option<Fork>,
    /// Streams whose first messages are here.
    pub forks: BTreeSet<String>,
    /// What the messages up to a place say of their writers.
    pub checkpoint: Checkpoint,
}

/// What there is of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Life {
    /// Its first messages are being written. To everybody but its maker it is not there yet.
    Creating,
    /// It is there.
    Open,
    /// It was deleted, but forks still need its messages.
    Deleted,
    /// It is no more; what is left of it is being removed.
    Gone,
}

/// An end that was given as a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ExpiresAt {
    /// As it was given.
    pub text: String,
    /// Milliseconds since 1970.
    pub at: u64,
}

/// Where the first messages of a fork are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Fork {
    /// The stream that has them.
    pub source: String,
    /// The place of the last of them there. The fork's own messages are counted on from here.
    pub base: (u64, u64),
    /// What the request asked for, to know it again: the offset, if it named one, and the sub-offset.
    pub asked: (Option<String>, u64),
    /// How many forks of forks it is; 1 for the fork of a stream that is none.
    pub depth: usize,
}

/// What the messages up to a place say of their writers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Checkpoint {
    /// Epoch and offset of the last message that counted.
    pub at: (u64, u64),
    /// The idempotent producers.
    pub producers: BTreeMap<String, Producer>,
    /// The last `Stream-Seq`.
    pub seq: Option<String>,
}

impl Fork {
    /// The place in the source's own count that its last message here has.
    pub(super) const fn base(&self) -> Position {
        Position::new(self.base.0, self.base.1)
    }
}

impl Checkpoint {
    pub(super) const fn at(&self) -> Position {
        Position::new(self.at.0, self.at.1)
    }
}

impl Record {
    /// A new stream of a type.
    pub(super) fn new(content_type: String, incarnation: u64, now: u64) -> Self {
        Self {
            life: Life::Open,
            incarnation,
            is_adopted: false,
            content_type,
            ttl: None,
            expires_at: None,
            touched: now,
            fork: None,
            forks: BTreeSet::new(),
            checkpoint: Checkpoint::default(),
        }
    }

    /// When the stream ends if it is touched at this time and never after.
    pub(super) fn ends_at(&self, touched: u64) -> Option<u64> {
        let idle = self.ttl.map(|ttl| touched.max(self.touched).saturating_add(ttl.saturating_mul(1000)));
        let fixed = self.expires_at.as_ref().map(|expires| expires.at);
        idle.into_iter().chain(fixed).min()
    }
}

/// The register of a topic; `None` if the name would be too long, or is the broker's own.
#[must_use]
pub fn register_of(topic: &Topic) -> Option<Topic> {
    if topic.is_reserved() || PREFIX.len() + topic.as_str().len() > TOPIC_BYTES_MAX {
        return None;
    }
    Topic::parse(&format!("{PREFIX}{topic}")).ok()
}

/// The topic of a register.
pub(super) fn topic_of(register: &Topic) -> Option<Topic> {
    Topic::parse(register.as_str().strip_prefix(PREFIX)?).ok()
}

/// All registers.
pub(super) const REGISTERS: &str = "$streams/#";

/// A media type without its parameters, in lower case.
pub(super) fn normal_type(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}
