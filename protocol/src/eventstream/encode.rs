//! Messages and events as the lines of a stream.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, BytesMut};

use crate::codec::{self, Format};
use crate::event::Event;
use crate::limits::EVENT_STREAM_PADDING_BYTES_MAX;
use crate::message::Delivery;

use super::bookmark::Bookmark;

/// A comment, which no reader sees: to be sent every 15 to 25 s where nothing else is.
pub const HEARTBEAT: &[u8] = b":\n\n";

/// How a message looks in a stream. All readers with the same shape share its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shape {
    /// A server-sent event whose data is the payload: for streams of one topic. A payload that is not UTF-8 is base64, in an event of
    /// the type `base64`.
    Payload,
    /// A server-sent event whose data is the delivery as the native protocol's JSON says it, topic and position included.
    Envelope,
    /// The same JSON as one line (`application/x-ndjson`).
    Lines,
    /// The same JSON as one text of a sequence (`application/json-seq`, RFC 7464).
    Sequence,
}

impl Shape {
    /// Every shape.
    pub const ALL: [Self; 4] = [Self::Payload, Self::Envelope, Self::Lines, Self::Sequence];

    /// The media type of the stream.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Payload | Self::Envelope => "text/event-stream",
            Self::Lines => "application/x-ndjson",
            Self::Sequence => "application/json-seq",
        }
    }
}

/// Appends what a stream of server-sent events begins with: the pause before reconnecting in milliseconds, and a comment of so many
/// bytes for proxies that hold back the beginning of an answer, at most [`EVENT_STREAM_PADDING_BYTES_MAX`].
pub fn encode_prelude(retry_ms: u64, padding_bytes: usize, out: &mut BytesMut) {
    if padding_bytes > 0 {
        out.put_u8(b':');
        out.put_bytes(b' ', padding_bytes.min(EVENT_STREAM_PADDING_BYTES_MAX));
        out.put_u8(b'\n');
    }
    encode_retry(retry_ms, out);
}

/// Appends how long an `EventSource` waits before it connects again: at the end of a stream, another time for each reader spreads them.
pub fn encode_retry(retry_ms: u64, out: &mut BytesMut) {
    out.put_slice(format!("retry: {retry_ms}\n\n").as_bytes());
}

/// Appends the line with a reader's own bookmark, before what [`encode_message_line`] or [`encode_event`] wrote. With an empty line
/// behind it, it moves the bookmark without any event. Streams of JSON carry positions in their messages, and no such line.
pub fn encode_bookmark(shape: Shape, bookmark: &Bookmark, out: &mut BytesMut) {
    match shape {
        Shape::Payload | Shape::Envelope => out.put_slice(format!("id: {bookmark}\n").as_bytes()),
        Shape::Lines | Shape::Sequence => {}
    }
}

/// Appends a message as every reader of a stream of this one topic gets it: with its position as the bookmark.
pub fn encode_message(shape: Shape, delivery: &Delivery, out: &mut BytesMut) {
    if let Some(position) = delivery.position {
        encode_bookmark(shape, &Bookmark::At(position), out);
    }
    encode_message_line(shape, delivery, out);
}

/// Appends a message without a bookmark: what readers of several topics share, behind a line of their own.
pub fn encode_message_line(shape: Shape, delivery: &Delivery, out: &mut BytesMut) {
    match shape {
        Shape::Payload => {
            let payload = &delivery.message.payload;
            match std::str::from_utf8(payload) {
                Ok(text) => put_event("", text.as_bytes(), out),
                Err(_) => put_event("base64", STANDARD.encode(payload).as_bytes(), out),
            }
        }
        Shape::Envelope | Shape::Lines | Shape::Sequence => {
            let mut json = BytesMut::new();
            codec::encode_delivery(Format::Json, delivery, &mut json);
            put_json(shape, "", json, out);
        }
    }
}

/// Appends something else that a reader must know: a gap, a log that was made anew, the end of a subscription, a goodbye. Events that
/// answer requests say nothing here.
pub fn encode_event(shape: Shape, event: &Event, out: &mut BytesMut) {
    let name = match event {
        Event::Delivery(delivery) => return encode_message_line(shape, delivery, out),
        Event::Heartbeat if matches!(shape, Shape::Payload | Shape::Envelope) => {
            return out.put_slice(HEARTBEAT);
        }
        Event::Heartbeat => "",
        Event::Lost(_) => "gap",
        Event::TokenExpiring(_) => "token",
        Event::Reset { .. } => "reset",
        Event::Unsubscribed { .. } => "unsubscribed",
        Event::Goodbye(goodbye) => {
            if let (Shape::Payload | Shape::Envelope, Some(pause)) = (shape, goodbye.retry_after_ms) {
                out.put_slice(format!("retry: {pause}\n").as_bytes());
            }
            "goodbye"
        }
        Event::Welcome(_) | Event::Reply { .. } => return,
    };
    let mut json = BytesMut::new();
    codec::encode_event(Format::Json, event, &mut json);
    put_json(shape, name, json, out);
}

fn put_json(shape: Shape, name: &str, mut json: BytesMut, out: &mut BytesMut) {
    match shape {
        Shape::Payload | Shape::Envelope => put_event(name, &json, out),
        Shape::Lines | Shape::Sequence => {
            // A payload of JSON keeps its bytes. In JSON, line ends are blanks between tokens and nothing else.
            for byte in json.iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')) {
                *byte = b' ';
            }
            if shape == Shape::Sequence {
                out.put_u8(0x1e);
            }
            out.put_slice(&json);
            out.put_u8(b'\n');
        }
    }
}

/// One event; without a name it is a `message`. Each line of the data is a line of its own, so that no payload becomes a field.
fn put_event(name: &str, data: &[u8], out: &mut BytesMut) {
    out.reserve(data.len() + name.len() + 32);
    if !name.is_empty() {
        out.put_slice(b"event: ");
        out.put_slice(name.as_bytes());
        out.put_u8(b'\n');
    }
    let mut rest = data;
    loop {
        let end = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
        out.put_slice(b"data: ");
        out.put_slice(&rest[..end.unwrap_or(rest.len())]);
        out.put_u8(b'\n');
        let Some(end) = end else { break };
        let end_bytes = if rest[end..].starts_with(b"\r\n") { 2 } else { 1 };
        rest = &rest[end + end_bytes..];
    }
    out.put_u8(b'\n');
}
