//! A client's end of a WebSocket, after the handshake: as little of RFC 6455 as the checker needs.

use std::io;

use bongsu_protocol::codec::{self, Format};
use bongsu_protocol::command::Request;
use bongsu_protocol::event::Event;
use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// Both directions of a connection to a node.
#[derive(Debug)]
pub(crate) struct Wire {
    io: DuplexStream,
    format: Format,
    read: BytesMut,
}

/// What a node sent.
#[derive(Debug)]
pub(crate) enum Incoming {
    Events(Vec<Event>),
    /// It closed, or is gone.
    Gone,
    /// It broke the rules.
    Broken(String),
}

impl Wire {
    pub(crate) fn new(io: DuplexStream, format: Format) -> Self {
        Self { io, format, read: BytesMut::new() }
    }

    /// Sends requests in one frame.
    pub(crate) async fn send(&mut self, requests: &[Request]) -> io::Result<()> {
        let mut body = BytesMut::new();
        codec::encode_requests(self.format, requests, &mut body);
        let opcode = match self.format {
            Format::Json => TEXT,
            Format::Binary => BINARY,
        };
        self.write(opcode, &body).await
    }

    /// The next frame with events. May be dropped while it waits.
    pub(crate) async fn next(&mut self) -> Incoming {
        loop {
            match self.take_frame() {
                Ok(Some((TEXT | BINARY, body))) => {
                    return match codec::decode_events(self.format, &body) {
                        Ok(events) => Incoming::Events(events),
                        Err(error) => Incoming::Broken(error.to_string()),
                    };
                }
                Ok(Some((PING, body))) => {
                    if self.write(PONG, &body).await.is_err() {
                        return Incoming::Gone;
                    }
                }
                Ok(Some((CLOSE, body))) => {
                    let _ = self.write(CLOSE, &body).await;
                    return Incoming::Gone;
                }
                Ok(Some((opcode, _))) => return Incoming::Broken(format!("a frame of kind {opcode}")),
                Ok(None) => match self.io.read_buf(&mut self.read).await {
                    Ok(0) | Err(_) => return Incoming::Gone,
                    Ok(_) => {}
                },
                Err(text) => return Incoming::Broken(text),
            }
        }
    }

    /// Says goodbye as RFC 6455 wants it, without waiting for the answer.
    pub(crate) async fn close(&mut self) {
        let _ = self.write(CLOSE, &1000_u16.to_be_bytes()).await;
    }

    async fn write(&mut self, opcode: u8, body: &[u8]) -> io::Result<()> {
        let mut frame = vec![0x80 | opcode];
        // The shortest form of the length (RFC 6455, 5.2), beside the mask's bit.
        match (u8::try_from(body.len()), u16::try_from(body.len())) {
            (Ok(length @ 0..126), _) => frame.push(0x80 | length),
            (_, Ok(length)) => {
                frame.push(0x80 | 126);
                frame.extend_from_slice(&length.to_be_bytes());
            }
            _ => {
                frame.push(0x80 | 127);
                frame.extend_from_slice(&(body.len() as u64).to_be_bytes());
            }
        }
        // A mask of zeros changes nothing.
        frame.extend_from_slice(&[0; 4]);
        frame.extend_from_slice(body);
        self.io.write_all(&frame).await
    }

    /// Takes a whole frame out of what was read, if there is one.
    fn take_frame(&mut self) -> Result<Option<(u8, Bytes)>, String> {
        let [first, second, ..] = self.read[..] else { return Ok(None) };
        if first & 0xf0 != 0x80 || second & 0x80 != 0 {
            return Err(format!("a frame that begins with {first:#x} {second:#x}"));
        }
        let extended = match second {
            127 => 8,
            126 => 2,
            _ => 0,
        };
        let Some(digits) = self.read.get(2..2 + extended) else { return Ok(None) };
        let length = match extended {
            0 => usize::from(second),
            _ => digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)),
        };
        if self.read.len() < 2 + extended + length {
            return Ok(None);
        }
        self.read.advance(2 + extended);
        Ok(Some((first & 0x0f, self.read.split_to(length).freeze())))
    }
}
