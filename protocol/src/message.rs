//! Messages: what a publisher sends, and what a reader gets.

use bytes::Bytes;

use crate::limits::{
    CONTENT_TYPE_BYTES_MAX, HEADER_BYTES_MAX, HEADERS_MAX, MESSAGE_ID_BYTES_MAX, PAYLOAD_BYTES_MAX,
};
use crate::position::{Offset, Position};
use crate::topic::Topic;

/// Milliseconds since 1970-01-01T00:00:00Z, without leap seconds, at most 2^53 - 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Time(pub u64);

/// What a message carries; the same before and after it was published.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Message {
    /// The bytes. Their meaning is the publisher's; see `content_type`.
    pub payload: Bytes,
    /// The media type (RFC 6838), or empty if the publisher gave none. `application/json` (and `…+json`) makes JSON readers
    /// see the payload as JSON, `text/…` as a string.
    pub content_type: String,
    /// Names and values, each name once, in the publisher's order.
    pub headers: Vec<(String, String)>,
    /// The idempotency key: a second publish with the same id within the topic's window is not stored again.
    /// Empty if the publisher gave none.
    pub id: String,
}

/// A message on its way in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewMessage {
    /// Where to.
    pub topic: Topic,
    /// What.
    pub message: Message,
    /// Publish only if the topic's newest offset is this one (0: only if the log is empty); otherwise the answer is `conflict`.
    pub expect: Option<Offset>,
}

/// A published message, as readers get it. Shared by every reader: nothing in it belongs to one subscriber.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The topic it was published to.
    pub topic: Topic,
    /// Its place in the log; `None` on topics that keep no history.
    pub position: Option<Position>,
    /// When the broker took it. Never smaller than that of the message before it in the same log.
    pub time: Time,
    /// Who published it: the subject of the publisher's token, or empty for an anonymous one.
    pub publisher: String,
    /// What was published. Empty, but for its id, if the message was erased.
    pub message: Message,
    /// The message was erased after it was published; its offset stays so that the log has no hole.
    pub erased: bool,
}

impl AsRef<Self> for Delivery {
    fn as_ref(&self) -> &Self {
        self
    }
}

/// Why a message cannot be published. The sender must change it; retrying cannot help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMessage {
    /// Past [`PAYLOAD_BYTES_MAX`].
    #[error("a payload has at most {PAYLOAD_BYTES_MAX} bytes, this one has {0}")]
    PayloadTooLarge(usize),
    /// Past [`CONTENT_TYPE_BYTES_MAX`], or not printable ASCII.
    #[error("a content type is printable ASCII of at most {CONTENT_TYPE_BYTES_MAX} bytes")]
    ContentType,
    /// Past [`HEADERS_MAX`] or [`HEADER_BYTES_MAX`].
    #[error("a message has at most {HEADERS_MAX} headers of {HEADER_BYTES_MAX} bytes together")]
    HeadersTooLarge,
    /// An empty name, a control character, or a name that occurs twice.
    #[error("a header has a name, occurs once, and has no control characters")]
    Header,
    /// Past [`MESSAGE_ID_BYTES_MAX`], or with a control character.
    #[error("a message id has at most {MESSAGE_ID_BYTES_MAX} bytes and no control characters")]
    Id,
}

impl Message {
    /// A message of plain bytes, without content type, headers or id.
    #[must_use]
    pub fn new(payload: impl Into<Bytes>) -> Self {
        Self { payload: payload.into(), ..Self::default() }
    }

    /// Checks every limit.
    ///
    /// # Errors
    /// [`InvalidMessage`], to be shown to the publisher.
    pub fn validate(&self) -> Result<(), InvalidMessage> {
        if self.payload.len() > PAYLOAD_BYTES_MAX {
            return Err(InvalidMessage::PayloadTooLarge(self.payload.len()));
        }
        let printable = self.content_type.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        if self.content_type.len() > CONTENT_TYPE_BYTES_MAX || !printable {
            return Err(InvalidMessage::ContentType);
        }
        if self.id.len() > MESSAGE_ID_BYTES_MAX || self.id.chars().any(char::is_control) {
            return Err(InvalidMessage::Id);
        }
        let header_bytes: usize = self.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        if self.headers.len() > HEADERS_MAX || header_bytes > HEADER_BYTES_MAX {
            return Err(InvalidMessage::HeadersTooLarge);
        }
        for (n_before, (name, value)) in self.headers.iter().enumerate() {
            let twice = self.headers[..n_before].iter().any(|(earlier, _)| earlier == name);
            let control = name.chars().chain(value.chars()).any(char::is_control);
            if name.is_empty() || twice || control {
                return Err(InvalidMessage::Header);
            }
        }
        Ok(())
    }

    /// Bytes that the message occupies for the purpose of limits: payload, headers, id and content type.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.payload.len() + headers + self.id.len() + self.content_type.len()
    }
}
