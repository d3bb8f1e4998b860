//! A WebSocket client that sends whatever it is told to, also what no library would.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use super::PATIENCE;

/// How a connection ended.
#[derive(Debug, PartialEq, Eq)]
pub struct End {
    pub code: u16,
    pub text: String,
    /// What the goodbye before the close frame said, where there was one.
    pub goodbye: Option<Value>,
}

/// A connection whose handshake succeeded, or that never made one.
pub struct Raw {
    pub stream: TcpStream,
    read: Vec<u8>,
}

/// The bytes of a client's frame: the header's first byte as given, masked, and its length in the shortest form.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = header(first, payload.len() as u64);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

pub const TEXT: u8 = 0x81;
pub const PING: u8 = 0x89;

const MASK: [u8; 4] = *b"mask";

/// The header alone, whatever length it claims.
pub fn header(first: u8, length: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let header = FrameHeader { mask: Some(MASK), ..FrameHeader::default() };
    header.format(length, &mut bytes).expect("a vector takes it");
    bytes[0] = first;
    bytes
}

impl Raw {
    /// A socket, and nothing said on it.
    pub async fn silent(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("the broker takes connections");
        Self { stream, read: Vec::new() }
    }

    /// Makes the handshake, with further header lines, and takes the welcome.
    pub async fn connect(address: SocketAddr, lines: &str) -> Self {
        let mut raw = Self::silent(address).await;
        raw.send(handshake(lines).as_bytes()).await;
        let end = loop {
            if let Some(end) = raw.read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break end + 4;
            }
            assert!(raw.receive().await, "the handshake is answered");
        };
        let answer: Vec<u8> = raw.read.drain(..end).collect();
        assert!(answer.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&answer));
        raw.event().await.expect("a welcome");
        raw
    }

    /// Sends; a broker that closed in the meantime does not read all of it.
    pub async fn send(&mut self, bytes: &[u8]) -> bool {
        tokio::time::timeout(PATIENCE, self.stream.write_all(bytes)).await.expect("the broker reads").is_ok()
    }

    /// Goes away without a word; what the broker wrote last is not taken.
    pub fn reset(self) {
        socket2::SockRef::from(&self.stream)
            .set_linger(Some(std::time::Duration::ZERO))
            .expect("a socket takes it");
    }

    /// The next text, as JSON, or null for a binary message; `Err` is the end. Pings are not answered.
    pub async fn event(&mut self) -> Result<Value, End> {
        loop {
            let (header, payload) = self.frame().await.expect("the broker says why it closes");
            match header.opcode {
                OpCode::Data(Data::Text) => {
                    let payload = if header.rsv1 { inflate(payload) } else { payload };
                    return Ok(serde_json::from_slice(&payload).expect("events are JSON"));
                }
                OpCode::Data(_) => return Ok(Value::Null),
                OpCode::Control(Control::Close) => {
                    let (code, text) = payload.split_first_chunk().expect("with a code");
                    let text = String::from_utf8(text.to_vec()).expect("and a text");
                    return Err(End { code: u16::from_be_bytes(*code), text, goodbye: None });
                }
                _ => {}
            }
        }
    }

    /// Reads to the end, and says what it was.
    pub async fn end(&mut self) -> End {
        let mut goodbye = None;
        loop {
            match self.event().await {
                Ok(event) => goodbye = event.get("goodbye").cloned().or(goodbye),
                Err(end) => return End { goodbye, ..end },
            }
        }
    }

    /// Waits until the broker closes the socket, whatever it says before; what it said.
    pub async fn hung_up(mut self) -> Vec<u8> {
        while self.receive().await {}
        self.read
    }

    async fn frame(&mut self) -> Option<(FrameHeader, Vec<u8>)> {
        loop {
            let mut cursor = std::io::Cursor::new(&self.read[..]);
            if let Some((header, length)) =
                FrameHeader::parse(&mut cursor).expect("the broker's frames are right")
            {
                let begin = usize::try_from(cursor.position()).expect("a header is short");
                let end = begin + usize::try_from(length).expect("it fits memory");
                if self.read.len() >= end {
                    let payload = self.read[begin..end].to_vec();
                    self.read.drain(..end);
                    return Some((header, payload));
                }
            }
            if !self.receive().await {
                return None;
            }
        }
    }

    async fn receive(&mut self) -> bool {
        let read = tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.read)).await;
        read.expect("something comes in time").is_ok_and(|n_read| n_read > 0)
    }
}

/// A message as it was before permessage-deflate.
fn inflate(mut compressed: Vec<u8>) -> Vec<u8> {
    use std::io::Read as _;
    compressed.extend([0, 0, 0xff, 0xff]);
    let mut message = Vec::new();
    // Such a message is not marked as the last one: the decoder misses what would follow.
    let _ = flate2::read::DeflateDecoder::new(&compressed[..]).read_to_end(&mut message);
    message
}

/// A handshake with further header lines, each with its line end.
pub fn handshake(lines: &str) -> String {
    format!(
        "GET /v1/ws HTTP/1.1\r\nhost: broker\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n{lines}\r\n"
    )
}
