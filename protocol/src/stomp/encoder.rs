//! From frames to bytes, as the negotiated version writes them.

use bytes::{BufMut, BytesMut};

use crate::message::Delivery;

use super::destination::{self, Dialect};
use super::frame::{Command, Version};
use super::refusal::Refusal;

/// Headers of a MESSAGE that the broker writes itself. A publisher's header of such a name is not passed on.
const OWN_HEADERS: [&str; 15] = [
    "ack",
    "content-length",
    "content-type",
    "destination",
    "epoch",
    "erased",
    "idempotency-key",
    "lost",
    "message-id",
    "offset",
    "publisher",
    "redelivered",
    "reset",
    "subscription",
    "timestamp",
];

/// Whether a header of this name is the broker's own on a MESSAGE.
pub(super) fn is_own_header(name: &str) -> bool {
    OWN_HEADERS.contains(&name)
}

/// Which of a message's tails a reader gets: all readers with the same one share its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TailKind {
    /// The reader's version.
    pub version: Version,
    /// How its subscription writes destinations.
    pub dialect: Dialect,
}

impl TailKind {
    /// How many kinds there are.
    pub const COUNT: usize = Version::ALL.len() * Dialect::ALL.len();

    /// A number below [`COUNT`](Self::COUNT), another one for each kind.
    #[must_use]
    pub const fn index(self) -> usize {
        self.version as usize * Dialect::ALL.len() + self.dialect as usize
    }
}

/// What is written before a message's shared tail, for one subscription.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MessageHead<'a> {
    /// The `subscription` header: its id. None in 1.0 where the client gave none.
    pub subscription: Option<&'a str>,
    /// The `message-id` header, unique on the connection.
    pub message_id: &'a str,
    /// Whether an `ack` header with the same value follows: 1.2, where messages are acknowledged.
    pub is_acked: bool,
    /// The `redelivered` header, on work queues.
    pub redelivered: Option<bool>,
    /// The `lost` header: this many messages before this one will not come.
    pub lost: Option<u64>,
    /// The `reset` header: the log was made anew before this message.
    pub reset: bool,
}

/// Appends a whole frame. A `content-length` is added where there is a body, and must not be among the headers.
pub fn encode_frame(
    version: Version,
    command: Command,
    headers: &[(&str, &str)],
    body: &[u8],
    out: &mut BytesMut,
) {
    let escapes = Escapes::of(version, command);
    put_line(command.as_str(), out);
    for (name, value) in headers {
        put_header(escapes, name, value, out);
    }
    if !body.is_empty() {
        put_number("content-length", body.len() as u64, out);
    }
    out.put_u8(b'\n');
    out.put_slice(body);
    out.put_u8(0);
}

/// Appends the ERROR frame of a refusal.
pub fn encode_refusal(version: Version, refusal: &Refusal, out: &mut BytesMut) {
    let mut headers = vec![("message", refusal.message), ("content-type", "text/plain")];
    if let Some(receipt) = &refusal.receipt {
        headers.push(("receipt-id", receipt));
    }
    if refusal.message == super::VERSION_MISMATCH {
        headers.push(("version", Version::SUPPORTED));
    }
    encode_frame(version, Command::Error, &headers, refusal.detail.as_bytes(), out);
}

/// Appends the first part of a MESSAGE: a few bytes for one subscription. What [`encode_message_tail`] wrote for the same version
/// follows.
pub fn encode_message_head(version: Version, head: &MessageHead<'_>, out: &mut BytesMut) {
    let escapes = Escapes::of(version, Command::Message);
    put_line(Command::Message.as_str(), out);
    if let Some(subscription) = head.subscription {
        put_header(escapes, "subscription", subscription, out);
    }
    put_header(escapes, "message-id", head.message_id, out);
    if head.is_acked {
        put_header(escapes, "ack", head.message_id, out);
    }
    if let Some(redelivered) = head.redelivered {
        put_header(escapes, "redelivered", if redelivered { "true" } else { "false" }, out);
    }
    if let Some(lost) = head.lost {
        put_number("lost", lost, out);
    }
    if head.reset {
        put_header(escapes, "reset", "true", out);
    }
}

/// Appends the rest of a MESSAGE: destination, headers and body, the same bytes for every reader of this kind.
pub fn encode_message_tail(kind: TailKind, delivery: &Delivery, out: &mut BytesMut) {
    let escapes = Escapes::of(kind.version, Command::Message);
    let message = &delivery.message;
    out.reserve(message.size_bytes() + delivery.topic.as_str().len() + 128);
    put_header(escapes, "destination", &destination::render(&delivery.topic, kind.dialect), out);
    if !message.content_type.is_empty() {
        put_header(escapes, "content-type", &message.content_type, out);
    }
    if let Some(position) = delivery.position {
        put_number("epoch", position.epoch.0, out);
        put_number("offset", position.offset.0, out);
    }
    put_number("timestamp", delivery.time.0, out);
    for (name, value) in [("publisher", &delivery.publisher), ("idempotency-key", &message.id)] {
        if !value.is_empty() {
            put_header(escapes, name, value, out);
        }
    }
    if delivery.erased {
        put_header(escapes, "erased", "true", out);
    }
    for (name, value) in &message.headers {
        if !is_own_header(name) {
            put_header(escapes, name, value, out);
        }
    }
    if !message.payload.is_empty() {
        put_number("content-length", message.payload.len() as u64, out);
    }
    out.put_u8(b'\n');
    out.put_slice(&message.payload);
    out.put_u8(0);
}

/// How a version says the characters that have a meaning in headers.
#[derive(Debug, Clone, Copy)]
enum Escapes {
    /// It cannot: a blank stands in their place, so that no value becomes a header of its own. A colon may stand in a value.
    None,
    /// All but CR, for which a blank stands.
    V11,
    /// All.
    V12,
}

impl Escapes {
    const fn of(version: Version, command: Command) -> Self {
        match version {
            Version::V11 if command.is_escaped() => Self::V11,
            Version::V12 if command.is_escaped() => Self::V12,
            Version::V10 | Version::V11 | Version::V12 => Self::None,
        }
    }
}

fn put_line(text: &str, out: &mut BytesMut) {
    out.put_slice(text.as_bytes());
    out.put_u8(b'\n');
}

fn put_number(name: &str, value: u64, out: &mut BytesMut) {
    put_line(&format!("{name}:{value}"), out);
}

fn put_header(escapes: Escapes, name: &str, value: &str, out: &mut BytesMut) {
    let colon: &[u8] = if matches!(escapes, Escapes::None) { b" " } else { b"\\c" };
    put_escaped(escapes, name, colon, out);
    out.put_u8(b':');
    let colon: &[u8] = if matches!(escapes, Escapes::None) { b":" } else { b"\\c" };
    put_escaped(escapes, value, colon, out);
    out.put_u8(b'\n');
}

fn put_escaped(escapes: Escapes, text: &str, colon: &[u8], out: &mut BytesMut) {
    let is_plain = |byte: u8| !matches!(byte, b'\\' | b':' | b'\n' | b'\r' | 0);
    if text.bytes().all(is_plain) {
        return out.put_slice(text.as_bytes());
    }
    for byte in text.bytes() {
        match (escapes, byte) {
            (_, b':') => out.put_slice(colon),
            (Escapes::V11 | Escapes::V12, b'\\') => out.put_slice(b"\\\\"),
            (Escapes::V11 | Escapes::V12, b'\n') => out.put_slice(b"\\n"),
            (Escapes::V12, b'\r') => out.put_slice(b"\\r"),
            (_, b'\n' | b'\r' | 0) => out.put_u8(b' '),
            _ => out.put_u8(byte),
        }
    }
}
