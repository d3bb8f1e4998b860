//! The client's side of the wire, as cheap as it gets: the load must not be what is measured.

use anyhow::{Context as _, ensure};
use bongsu_protocol::codec::{self, Format};
use bongsu_protocol::command::{Command, Request, RequestId, Start, Subscription};
use bongsu_protocol::message::{Message, NewMessage};
use bongsu_protocol::topic::{Topic, TopicFilter};
use bytes::{Bytes, BytesMut};

/// The opcodes of data frames (RFC 6455, 5.2); the bench speaks the binary format, without fragments.
const BINARY: u8 = 2;

/// Whether the client offers permessage-deflate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    /// It does not.
    Plain,
    /// It does, as browsers do.
    Deflate,
}

/// The request that opens a WebSocket.
pub(crate) fn handshake(compression: Compression) -> Vec<u8> {
    let extensions = match compression {
        Compression::Plain => "",
        Compression::Deflate => "sec-websocket-extensions: permessage-deflate; client_max_window_bits\r\n",
    };
    format!(
        "GET /v1/ws HTTP/1.1\r\nhost: bench\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\
         sec-websocket-protocol: {}\r\n{extensions}\r\n",
        Format::Binary.sub_protocol()
    )
    .into_bytes()
}

/// Bytes of an answer to [`handshake`] up to its empty line; `None` if it is not complete.
///
/// # Errors
/// The answer is a refusal, or not about what was offered.
pub(crate) fn handshake_answer(input: &[u8], compression: Compression) -> anyhow::Result<Option<usize>> {
    let Some(end) = input.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&input[..end]).context("the answer's header is not text")?;
    ensure!(head.starts_with("HTTP/1.1 101 "), "the broker refused a connection: {head}");
    let is_compressed = head.to_ascii_lowercase().contains("permessage-deflate");
    ensure!(
        is_compressed == (compression == Compression::Deflate),
        "permessage-deflate was not agreed on: {head}"
    );
    Ok(Some(end + 4))
}

/// A frame with one request, masked as a client must (RFC 6455, 5.3). The key is zero, so that masking changes nothing.
pub(crate) fn request(id: u64, command: Command) -> Vec<u8> {
    let mut body = BytesMut::new();
    codec::encode_requests(Format::Binary, &[Request { id: RequestId(id), command }], &mut body);
    let mut frame = vec![0x80 | BINARY];
    match u16::try_from(body.len()) {
        Ok(n_bytes @ 0..=125) => frame.push(0x80 | n_bytes.to_be_bytes()[1]),
        Ok(n_bytes) => {
            frame.push(0x80 | 126);
            frame.extend(n_bytes.to_be_bytes());
        }
        Err(_) => {
            frame.push(0x80 | 127);
            frame.extend((body.len() as u64).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend_from_slice(&body);
    frame
}

/// A frame that subscribes to one topic.
pub(crate) fn subscribe(id: u64, topic: &str, from: Start) -> anyhow::Result<Vec<u8>> {
    let subscription = Subscription { filter: TopicFilter::parse(topic)?, from, seen: Vec::new() };
    Ok(request(id, Command::Subscribe(vec![subscription])))
}

/// A frame that publishes one message.
pub(crate) fn publish(id: u64, topic: &Topic, payload: impl Into<Bytes>) -> Vec<u8> {
    let message = NewMessage { topic: topic.clone(), message: Message::new(payload), expect: None };
    request(id, Command::Publish(vec![message]))
}

/// A payload of `n_bytes` whose last eight are a number.
pub(crate) fn numbered_payload(n_bytes: usize, number: u64) -> Vec<u8> {
    let mut payload = vec![b'x'; n_bytes.saturating_sub(8)];
    payload.extend(number.to_be_bytes());
    payload
}

/// A data frame from the broker.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame<'a> {
    /// Its content; compressed where that was agreed on.
    pub(crate) body: &'a [u8],
    /// Bytes of the whole frame.
    pub(crate) size_bytes: usize,
}

impl Frame<'_> {
    /// The number that [`numbered_payload`] put at a delivery's end, where the binary format has the payload.
    pub(crate) fn number(&self) -> Option<u64> {
        self.body.last_chunk().copied().map(u64::from_be_bytes)
    }
}

/// Cuts what a socket gives into frames.
#[derive(Debug, Default)]
pub(crate) struct Scanner {
    /// A frame that has not come whole.
    rest: Vec<u8>,
}

impl Scanner {
    /// Takes bytes, and hands on each data frame that is complete.
    ///
    /// # Errors
    /// The broker sent a close frame.
    pub(crate) fn scan(&mut self, input: &[u8], mut take: impl FnMut(Frame<'_>)) -> anyhow::Result<()> {
        if self.rest.is_empty() {
            let n_taken = cut(input, &mut take)?;
            self.rest.extend_from_slice(&input[n_taken..]);
            return Ok(());
        }
        self.rest.extend_from_slice(input);
        let n_taken = cut(&self.rest, &mut take)?;
        self.rest.drain(..n_taken);
        if self.rest.is_empty() {
            self.rest = Vec::new();
        }
        Ok(())
    }
}

/// Hands on the frames at the beginning; answers how many bytes they have.
fn cut(input: &[u8], take: &mut impl FnMut(Frame<'_>)) -> anyhow::Result<usize> {
    let mut n_taken = 0;
    loop {
        let rest = &input[n_taken..];
        let (head, body) = match *rest {
            [_, n_bytes @ 0..=125, ..] => (2, usize::from(n_bytes)),
            [_, 126, high, low, ..] => (4, usize::from(u16::from_be_bytes([high, low]))),
            [_, 127, a, b, c, d, e, f, g, h, ..] => {
                (10, usize::try_from(u64::from_be_bytes([a, b, c, d, e, f, g, h]))?)
            }
            _ => return Ok(n_taken),
        };
        let Some(content) = rest.get(head..head + body) else { return Ok(n_taken) };
        match rest[0] & 0x0f {
            BINARY => take(Frame { body: content, size_bytes: head + body }),
            8 => anyhow::bail!("the broker closed a connection: {}", String::from_utf8_lossy(content)),
            _ => {}
        }
        n_taken += head + body;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scanned(pieces: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut scanner = Scanner::default();
        let mut bodies = Vec::new();
        for piece in pieces {
            scanner.scan(piece, |frame| bodies.push(frame.body.to_vec())).unwrap();
        }
        bodies
    }

    #[test]
    fn frames_are_found_however_the_bytes_are_split() {
        let mut bytes = vec![0x82, 3, 1, 2, 3, 0x89, 1, 9, 0x82, 126, 0, 200];
        bytes.extend([7; 200]);
        bytes.extend([0x82, 0]);
        let expected = [vec![1, 2, 3], vec![7; 200], vec![]];
        for split in 0..bytes.len() {
            let (one, other) = bytes.split_at(split);
            assert_eq!(scanned(&[one, other]), expected, "split at {split}");
        }
    }

    #[test]
    fn a_close_frame_is_an_error() {
        assert!(Scanner::default().scan(&[0x88, 2, 3, 232], |_| {}).is_err());
    }
}
