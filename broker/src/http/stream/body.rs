//! Messages as the bodies that HTTP clients get, made once for all who ask for the same.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bongsu_protocol::limits::JSON_DEPTH_MAX;
use bongsu_protocol::message::Message;
use bongsu_protocol::position::Position;
use bongsu_protocol::topic::Topic;
use bytes::{Bytes, BytesMut};
use serde_json::value::RawValue;
use tokio::sync::OnceCell;

use super::record::{JSON, normal_type};
use crate::delivery::SharedDelivery;
use crate::http::problem::Problem;
use crate::limits::STREAM_CHUNKS_MAX;

/// How the messages of a stream stand beside each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Mode {
    /// As the elements of an array.
    Json,
    /// One after another, as text.
    Text,
    /// One after another, as bytes.
    Bytes,
}

/// Whether a body stands by itself or within an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Dress {
    /// The body of an answer.
    Plain,
    /// The `data` event of an event source.
    Event,
}

/// A part of a stream.
#[derive(Debug, Clone)]
pub(super) struct Chunk {
    /// Its messages.
    pub body: Bytes,
    /// The place of its last message, from which to read on.
    pub next: Position,
    /// Whether it has no message.
    pub is_empty: bool,
    /// How many of its messages were erased.
    pub n_erased: usize,
}

impl Mode {
    /// How streams of a media type are read.
    pub(super) fn of(content_type: &str) -> Self {
        match normal_type(content_type).as_str() {
            JSON => Self::Json,
            text if text.starts_with("text/") => Self::Text,
            _ => Self::Bytes,
        }
    }

    /// The body of these messages.
    pub(super) fn body(self, messages: &[SharedDelivery], dress: Dress) -> Bytes {
        let body = self.plain(messages);
        match dress {
            Dress::Plain => body,
            Dress::Event if messages.is_empty() => Bytes::new(),
            Dress::Event if self == Self::Bytes => event("data", STANDARD.encode(&body).as_bytes()),
            // What a browser makes of bytes that are no UTF-8.
            Dress::Event => event("data", String::from_utf8_lossy(&body).as_bytes()),
        }
    }

    fn plain(self, messages: &[SharedDelivery]) -> Bytes {
        let size = messages.iter().map(|message| message.bytes() + 1).sum::<usize>() + 2;
        let mut body = BytesMut::with_capacity(size);
        if self == Self::Json {
            body.extend_from_slice(b"[");
            for (n_before, message) in messages.iter().enumerate() {
                if n_before > 0 {
                    body.extend_from_slice(b",");
                }
                push_json(&mut body, &message.delivery.message);
            }
            body.extend_from_slice(b"]");
        } else {
            for message in messages {
                body.extend_from_slice(&message.delivery.message.payload);
            }
        }
        body.freeze()
    }
}

/// A message as an element of a JSON array: itself, or text as a string, or bytes as base64 in one.
fn push_json(body: &mut BytesMut, message: &Message) {
    let content_type = normal_type(&message.content_type);
    let is_json = content_type == JSON || content_type.ends_with("+json");
    if is_json && is_shallow_json(&message.payload) {
        return body.extend_from_slice(&message.payload);
    }
    let text = std::str::from_utf8(&message.payload).ok().filter(|_| content_type.starts_with("text/"));
    let string = text
        .map_or_else(|| serde_json::Value::from(STANDARD.encode(&message.payload)), serde_json::Value::from);
    body.extend_from_slice(string.to_string().as_bytes());
}

/// Whether bytes are JSON that every parser can hold.
fn is_shallow_json(payload: &[u8]) -> bool {
    serde_json::from_slice::<&RawValue>(payload).is_ok() && depth(payload) <= JSON_DEPTH_MAX
}

/// How deep arrays and objects nest in something that is JSON.
fn depth(json: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_string, mut is_escaped) = (0_usize, 0, false, false);
    for byte in json {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if in_string => is_escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_string => depth -= 1,
            _ => {}
        }
    }
    deepest
}

/// The messages of an append's body: the elements of an array, one value, or the bytes in pieces of at most `bytes_max`.
///
/// # Errors
/// 400 for what is no JSON, 413 for an element that is too large.
pub(super) fn split(mode: Mode, body: &Bytes, bytes_max: usize) -> Result<Vec<Bytes>, Problem> {
    if mode != Mode::Json {
        return Ok(pieces(body, bytes_max));
    }
    let no_json = |error: serde_json::Error| Problem::bad_request(format!("this is no JSON: {error}"));
    let whole: &RawValue = serde_json::from_slice(body).map_err(no_json)?;
    if depth(body) > JSON_DEPTH_MAX + 1 {
        return Err(Problem::bad_request(format!("JSON nests at most {JSON_DEPTH_MAX} deep")));
    }
    let values = if whole.get().starts_with('[') {
        serde_json::from_str::<Vec<&RawValue>>(whole.get()).map_err(no_json)?
    } else {
        vec![whole]
    };
    let messages = values.into_iter().map(|value| {
        if value.get().len() > bytes_max {
            return Err(Problem::too_large(format!("a message of this topic has at most {bytes_max} bytes")));
        }
        Ok(body.slice_ref(value.get().as_bytes()))
    });
    messages.collect()
}

fn pieces(body: &Bytes, bytes_max: usize) -> Vec<Bytes> {
    let starts = (0..body.len()).step_by(bytes_max.max(1));
    starts.map(|start| body.slice(start..body.len().min(start + bytes_max.max(1)))).collect()
}

/// An event of an event source: its data line by line, since a line's end within it would end the line.
pub(super) fn event(name: &str, data: &[u8]) -> Bytes {
    let mut event = BytesMut::with_capacity(data.len() + 64);
    event.extend_from_slice(b"event: ");
    event.extend_from_slice(name.as_bytes());
    event.extend_from_slice(b"\n");
    let mut rest = data;
    loop {
        let end = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n')).unwrap_or(rest.len());
        // Without the space, a space that begins a line would be taken for it (WHATWG HTML, 9.2.6).
        event.extend_from_slice(if rest[..end].first() == Some(&b' ') { b"data: " } else { b"data:" });
        event.extend_from_slice(&rest[..end]);
        event.extend_from_slice(b"\n");
        if end == rest.len() {
            break;
        }
        let is_pair = rest[end..].starts_with(b"\r\n");
        rest = &rest[end + if is_pair { 2 } else { 1 }..];
    }
    event.extend_from_slice(b"\n");
    event.freeze()
}

/// What a chunk is made of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct ChunkKey {
    pub topic: Topic,
    pub incarnation: u64,
    /// After this place, and up to that one.
    pub from: Position,
    pub tail: Position,
    pub is_from_start: bool,
    pub mode: Mode,
    pub dress: Dress,
}

/// Chunks that were asked for lately. Who asks for one that is being made waits for it.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    state: Mutex<ChunksState>,
}

#[derive(Debug, Default)]
struct ChunksState {
    chunks: HashMap<ChunkKey, Arc<OnceCell<Chunk>>>,
    /// Oldest first.
    order: VecDeque<ChunkKey>,
}

impl Chunks {
    /// The chunk, made by `make` if nobody made it yet.
    pub(super) async fn get<F>(&self, key: ChunkKey, make: impl FnOnce() -> F) -> Result<Chunk, Problem>
    where
        F: Future<Output = Result<Chunk, Problem>>,
    {
        let cell = self.cell(key);
        cell.get_or_try_init(make).await.cloned()
    }

    /// Forgets all. One that is being made is for those who wait for it already.
    pub(super) fn clear(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        *state = ChunksState::default();
    }

    fn cell(&self, key: ChunkKey) -> Arc<OnceCell<Chunk>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cell) = state.chunks.get(&key) {
            return Arc::clone(cell);
        }
        let cell = Arc::default();
        state.chunks.insert(key.clone(), Arc::clone(&cell));
        state.order.push_back(key);
        if state.order.len() > STREAM_CHUNKS_MAX
            && let Some(oldest) = state.order.pop_front()
        {
            state.chunks.remove(&oldest);
        }
        cell
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(json: &str) -> Result<Vec<String>, u16> {
        let split = split(Mode::Json, &Bytes::copy_from_slice(json.as_bytes()), 20);
        let text = |part: Bytes| String::from_utf8(part.to_vec()).expect("JSON is text");
        split.map(|parts| parts.into_iter().map(text).collect()).map_err(|problem| problem.status().as_u16())
    }

    #[test]
    fn one_level_of_an_array_is_taken_apart() {
        assert_eq!(parts(r#" {"a": 1} "#), Ok(vec![r#"{"a": 1}"#.to_owned()]));
        assert_eq!(parts("[[1,2], [3]]"), Ok(vec!["[1,2]".to_owned(), "[3]".to_owned()]));
        assert_eq!(parts("[[[1]]]"), Ok(vec!["[[1]]".to_owned()]));
        assert_eq!(parts("[]"), Ok(vec![]));
        assert_eq!(parts("\"[]\""), Ok(vec!["\"[]\"".to_owned()]));
        assert_eq!(parts("{"), Err(400));
        assert_eq!(parts("1 2"), Err(400));
        assert_eq!(parts("\"12345678901234567890\""), Err(413));
        let deep = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(parts(&deep(JSON_DEPTH_MAX + 2)), Err(400));
        assert_eq!(parts(&deep(100_000)), Err(400));
    }

    #[test]
    fn no_line_of_an_event_comes_from_its_data() {
        let lines = |data: &str| String::from_utf8(event("data", data.as_bytes()).to_vec()).expect("text");
        assert_eq!(lines("a"), "event: data\ndata:a\n\n");
        assert_eq!(lines(" a\r\nid: 1\rb\n"), "event: data\ndata:  a\ndata:id: 1\ndata:b\ndata:\n\n");
        assert_eq!(lines(""), "event: data\ndata:\n\n");
    }

    #[test]
    fn bodies_are_cut_into_messages_and_put_together_again() {
        let body = Bytes::from_static(b"abcdefg");
        assert_eq!(pieces(&body, 3), ["abc", "def", "g"]);
        assert_eq!(pieces(&body, 7), ["abcdefg"]);
        assert!(pieces(&Bytes::new(), 3).is_empty());
    }
}
