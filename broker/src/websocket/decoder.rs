//! Takes messages out of what a client sends.
//!
//! ```text
//!         a whole message            header, part of a frame, not the last fragment
//!        +------------+      +------------------------------------------------------+
//!        v            |      |                                                      v
//!      Idle ----------+------+                                                   Partial
//!        |  ^                                                                       |
//!        |  +------------------------ the message's last byte ----------------------+
//!        |                                                                          |
//!        +-----> Done <------------ a close frame, or a violation ------------------+
//! ```
//!
//! Between messages the decoder holds nothing. Only what is incomplete is kept, in memory that is given back with the
//! message's last byte, and that grows with the bytes that came, not with the length that a header claims.

use std::fmt;
use std::io::Cursor;

use bongsu_protocol::reason::{CloseReason, Goodbye};
use bytes::Bytes;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};

use super::deflate::{self, Agreed};
use super::frame::{CONTROL_BYTES_MAX, Kind};
use super::{mask, utf8};

/// Bytes of the longest header (RFC 6455, 5.2): 2, 8 of an extended length, 4 of the mask.
const HEADER_BYTES_MAX: usize = 14;

/// The least memory that an incomplete message asks for at once, unless its frame is shorter.
const GROWTH_BYTES_MIN: usize = 4 << 10;

/// What a client sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// A whole text message, decompressed. Is valid UTF-8.
    Text(Bytes),
    /// A whole binary message, decompressed.
    Binary(Bytes),
    /// Asks for a [`pong`](super::frame::pong) with the same payload.
    Ping(Bytes),
    /// Answers a ping, or shows life unasked.
    Pong(Bytes),
    /// The client closes; nothing comes after. Answer with [`close_echo`](super::frame::close_echo), unless a close frame
    /// was already sent, and close the socket.
    Close {
        /// The code, which is one that may be sent; none if the client gave none.
        code: Option<u16>,
        /// What the client says about it.
        reason: String,
    },
}

/// The client broke a rule. Send the [`goodbye`](Self::goodbye) and close the socket: nothing further can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {text}")]
pub struct Violation {
    /// What the close frame says: [`ProtocolError`](CloseReason::ProtocolError),
    /// [`InvalidPayload`](CloseReason::InvalidPayload) or [`TooLarge`](CloseReason::TooLarge).
    pub reason: CloseReason,
    /// Which rule, for people.
    pub text: &'static str,
}

impl Violation {
    /// The goodbye to send.
    #[must_use]
    pub fn goodbye(&self) -> Goodbye {
        Goodbye::new(self.reason, self.text)
    }
}

const fn protocol_error(text: &'static str) -> Violation {
    Violation { reason: CloseReason::ProtocolError, text }
}

const NOT_UTF8: Violation = Violation { reason: CloseReason::InvalidPayload, text: "text is not UTF-8" };
const TOO_LARGE: Violation =
    Violation { reason: CloseReason::TooLarge, text: "message is longer than this endpoint takes" };

/// The reading half of one connection's wire.
///
/// ```
/// use bongsu::websocket::decoder::{Decoder, Incoming};
///
/// let mut decoder = Decoder::new(1024, None);
/// let mut read = *b"\x81\x82\0\0\0\0hi\x89\x80";
/// let mut input = &mut read[..];
/// while let Some(incoming) = decoder.poll(&mut input).unwrap() {
///     assert_eq!(incoming, Incoming::Text("hi".into()));
/// }
/// assert!(input.is_empty()); // The begun ping is kept until the rest comes.
/// ```
pub struct Decoder {
    /// Bytes of a message; of the decompressed one where it is compressed.
    message_bytes_max: usize,
    /// Whether compressed messages were agreed on.
    inflate: bool,
    state: State,
}

enum State {
    Idle,
    Partial(Box<Partial>),
    Done,
}

impl Decoder {
    /// A decoder that takes messages of up to `message_bytes_max` bytes, compressed ones only where `deflate` was agreed
    /// on in the handshake.
    #[must_use]
    pub const fn new(message_bytes_max: usize, deflate: Option<Agreed>) -> Self {
        Self { message_bytes_max, inflate: deflate.is_some(), state: State::Idle }
    }

    /// Takes the next message out of `input`, which is what the socket gave, and shortens `input` by what it took.
    ///
    /// Call it until it returns `None`: then `input` is empty, and what was incomplete is kept here. A caller that stops
    /// earlier must keep the rest of `input` and begin with it the next time. The bytes taken are unmasked in place.
    ///
    /// # Errors
    ///
    /// [`Violation`] if the client broke a rule: say goodbye and close. Later calls take all input and return `None`.
    pub fn poll(&mut self, input: &mut &mut [u8]) -> Result<Option<Incoming>, Violation> {
        let result = self.poll_open(input);
        if matches!(result, Err(_) | Ok(Some(Incoming::Close { .. }))) {
            self.state = State::Done;
        }
        if matches!(self.state, State::Done) {
            *input = &mut [];
        }
        result
    }

    /// Bytes of the incomplete message that are kept; 0 between messages.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        match &self.state {
            State::Idle | State::Done => 0,
            State::Partial(partial) => partial.buffered_bytes(),
        }
    }

    fn poll_open(&mut self, input: &mut &mut [u8]) -> Result<Option<Incoming>, Violation> {
        let rules = Rules { message_bytes_max: self.message_bytes_max, inflate: self.inflate };
        loop {
            match &mut self.state {
                State::Done => return Ok(None),
                State::Idle if input.is_empty() => return Ok(None),
                State::Idle => {
                    if let Some(incoming) = rules.take_whole(input)? {
                        return Ok(Some(incoming));
                    }
                    self.state = State::Partial(Box::default());
                }
                State::Partial(partial) => {
                    let incoming = partial.poll(rules, input)?;
                    if partial.is_empty() {
                        self.state = State::Idle;
                    }
                    if incoming.is_some() || input.is_empty() {
                        return Ok(incoming);
                    }
                }
            }
        }
    }
}

impl fmt::Debug for Decoder {
    /// Shows sizes only: what clients send does not belong into logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder")
            .field("message_bytes_max", &self.message_bytes_max)
            .field("inflate", &self.inflate)
            .field("buffered_bytes", &self.buffered_bytes())
            .finish()
    }
}

/// What a header said and the rules allowed.
#[derive(Debug, Clone, Copy)]
struct Frame {
    opcode: OpCode,
    is_final: bool,
    is_compressed: bool,
    mask: [u8; 4],
    length: usize,
}

/// What was agreed on for this connection.
#[derive(Clone, Copy)]
struct Rules {
    message_bytes_max: usize,
    inflate: bool,
}

impl Rules {
    /// Takes a frame that is a message by itself and all there; leaves `input` as it is if there is none.
    fn take_whole(self, input: &mut &mut [u8]) -> Result<Option<Incoming>, Violation> {
        let Some((header_bytes, frame)) = self.parse(input, None)? else { return Ok(None) };
        if !frame.is_final || input.len() - header_bytes < frame.length {
            return Ok(None);
        }
        let (_header, rest) = std::mem::take(input).split_at_mut(header_bytes);
        let (payload, rest) = rest.split_at_mut(frame.length);
        *input = rest;
        mask::apply(frame.mask, 0, payload);
        let OpCode::Data(data) = frame.opcode else { return control(frame.opcode, payload).map(Some) };
        let kind = if data == Data::Text { Kind::Text } else { Kind::Binary };
        let body = if frame.is_compressed { self.inflate(payload)? } else { Bytes::copy_from_slice(payload) };
        if kind == Kind::Text && std::str::from_utf8(&body).is_err() {
            return Err(NOT_UTF8);
        }
        Ok(Some(data_message(kind, body)))
    }

    /// Reads a header, if it is all there, and judges it; `message` is the fragmented message that it stands in.
    fn parse(self, bytes: &[u8], message: Option<&Message>) -> Result<Option<(usize, Frame)>, Violation> {
        let mut cursor = Cursor::new(bytes);
        let parsed = FrameHeader::parse(&mut cursor).map_err(|_| protocol_error("unknown opcode"))?;
        let Some((header, length)) = parsed else { return Ok(None) };
        let header_bytes = usize::try_from(cursor.position()).expect("a header has at most 14 bytes");
        if header.len(length) != header_bytes {
            return Err(protocol_error("length is not in its shortest form"));
        }
        Ok(Some((header_bytes, self.judge(&header, length, message)?)))
    }

    fn judge(self, header: &FrameHeader, length: u64, message: Option<&Message>) -> Result<Frame, Violation> {
        let Some(mask) = header.mask else { return Err(protocol_error("frame is not masked")) };
        // RFC 7692, 6: the first frame of a message says whether it is compressed, and only that.
        let may_compress = self.inflate && matches!(header.opcode, OpCode::Data(Data::Text | Data::Binary));
        if header.rsv2 || header.rsv3 || (header.rsv1 && !may_compress) {
            return Err(protocol_error("reserved bit without a meaning"));
        }
        match header.opcode {
            OpCode::Control(_) if !header.is_final => return Err(protocol_error("fragmented control frame")),
            OpCode::Control(_) if length > CONTROL_BYTES_MAX as u64 => {
                return Err(protocol_error("control frame longer than 125 bytes"));
            }
            OpCode::Data(Data::Continue) if message.is_none() => {
                return Err(protocol_error("continuation of nothing"));
            }
            OpCode::Data(Data::Text | Data::Binary) if message.is_some() => {
                return Err(protocol_error("message within a fragmented message"));
            }
            OpCode::Control(_) | OpCode::Data(_) => {}
        }
        let is_compressed = message.map_or(header.rsv1, |message| message.is_compressed);
        let room = if is_compressed {
            deflate::compressed_bytes_max(self.message_bytes_max)
        } else {
            self.message_bytes_max
        };
        let taken = message.map_or(0, |message| message.body.len());
        let length = usize::try_from(length).map_err(|_| TOO_LARGE)?;
        if matches!(header.opcode, OpCode::Data(_)) && length > room.saturating_sub(taken) {
            return Err(TOO_LARGE);
        }
        Ok(Frame { opcode: header.opcode, is_final: header.is_final, is_compressed, mask, length })
    }

    fn inflate(self, compressed: &[u8]) -> Result<Bytes, Violation> {
        match deflate::inflate(compressed, self.message_bytes_max) {
            Ok(body) => Ok(body.into()),
            Err(deflate::InflateError::TooLarge) => Err(TOO_LARGE),
            Err(deflate::InflateError::Corrupt) => {
                Err(Violation { reason: CloseReason::InvalidPayload, text: "compressed message is corrupt" })
            }
        }
    }
}

/// What came of a frame or message whose rest is still to come.
#[derive(Default)]
struct Partial {
    /// The begin of a header; `header_len` bytes count.
    header: [u8; HEADER_BYTES_MAX],
    header_len: u8,
    /// The frame whose payload comes next, and how much of it came.
    frame: Option<(Frame, usize)>,
    /// What came of a control frame's payload, at most 125 bytes. Apart from the message, between whose fragments it may
    /// stand.
    control: Vec<u8>,
    /// The message whose last frame did not come yet.
    message: Option<Message>,
}

/// A message of which not every byte is there.
struct Message {
    kind: Kind,
    is_compressed: bool,
    /// What came, still compressed where it is.
    body: Vec<u8>,
    /// Judges text while it comes, so that a long text that is none ends early. Compressed text is judged at its end.
    utf8: utf8::Validator,
}

impl Partial {
    fn is_empty(&self) -> bool {
        self.header_len == 0 && self.frame.is_none() && self.message.is_none()
    }

    fn buffered_bytes(&self) -> usize {
        let message_bytes = self.message.as_ref().map_or(0, |message| message.body.capacity());
        usize::from(self.header_len) + self.control.capacity() + message_bytes
    }

    /// Takes one frame, or what there is of it; `None` with input left means that a fragment ended.
    fn poll(&mut self, rules: Rules, input: &mut &mut [u8]) -> Result<Option<Incoming>, Violation> {
        let Some((frame, taken)) = self.poll_header(rules, input)? else { return Ok(None) };
        let length = input.len().min(frame.length - taken);
        let (payload, rest) = std::mem::take(input).split_at_mut(length);
        *input = rest;
        mask::apply(frame.mask, taken, payload);
        let taken = taken + length;
        let is_complete = taken == frame.length;
        self.frame = if is_complete { None } else { Some((frame, taken)) };

        if matches!(frame.opcode, OpCode::Control(_)) {
            self.control.extend_from_slice(payload);
            if !is_complete {
                return Ok(None);
            }
            return control(frame.opcode, &std::mem::take(&mut self.control)).map(Some);
        }
        let message = self.message.as_mut().expect("a data frame's header begins or continues a message");
        message.handle(payload, frame.length - taken, frame.is_final)?;
        if !(is_complete && frame.is_final) {
            return Ok(None);
        }
        let message = self.message.take().expect("it was there one statement ago");
        message.finish(rules).map(Some)
    }

    /// The frame to read on, with what was taken of it; `None` once the input is used up without a whole header.
    fn poll_header(
        &mut self,
        rules: Rules,
        input: &mut &mut [u8],
    ) -> Result<Option<(Frame, usize)>, Violation> {
        if self.frame.is_some() {
            return Ok(self.frame);
        }
        let kept = usize::from(self.header_len);
        let added = input.len().min(HEADER_BYTES_MAX - kept);
        self.header[kept..kept + added].copy_from_slice(&input[..added]);
        let parsed = rules.parse(&self.header[..kept + added], self.message.as_ref())?;
        // 14 bytes are always a whole header, so that an incomplete one took all of the input.
        let used = parsed.map_or(added, |(header_bytes, _)| header_bytes - kept);
        *input = &mut std::mem::take(input)[used..];
        let Some((_, frame)) = parsed else {
            self.header_len = u8::try_from(kept + added).expect("a header has at most 14 bytes");
            return Ok(None);
        };
        self.header_len = 0;
        match frame.opcode {
            OpCode::Data(Data::Text) => self.message = Some(Message::new(Kind::Text, frame.is_compressed)),
            OpCode::Data(Data::Binary) => {
                self.message = Some(Message::new(Kind::Binary, frame.is_compressed))
            }
            OpCode::Data(_) | OpCode::Control(_) => {}
        }
        self.frame = Some((frame, 0));
        Ok(self.frame)
    }
}

impl Message {
    fn new(kind: Kind, is_compressed: bool) -> Self {
        Self { kind, is_compressed, body: Vec::new(), utf8: utf8::Validator::default() }
    }

    /// Takes the next part of a frame, of which `announced` bytes remain.
    fn handle(&mut self, part: &[u8], announced: usize, is_final: bool) -> Result<(), Violation> {
        if self.kind == Kind::Text && !self.is_compressed {
            self.utf8.handle(part).map_err(|utf8::Invalid| NOT_UTF8)?;
        }
        if self.body.capacity() - self.body.len() < part.len() {
            // At most as much again as there is: a header that claims a gigabyte costs its sender one.
            let ahead = announced.min(self.body.len().max(GROWTH_BYTES_MIN));
            if is_final && ahead == announced {
                self.body.reserve_exact(part.len() + ahead);
            } else {
                // More growth may follow: double, or a message in fragments of one byte would be copied at each.
                self.body.reserve(part.len() + ahead);
            }
        }
        self.body.extend_from_slice(part);
        Ok(())
    }

    fn finish(self, rules: Rules) -> Result<Incoming, Violation> {
        let is_valid = self.utf8.finish().is_ok();
        let (is_valid, body) = if self.is_compressed {
            let body = rules.inflate(&self.body)?;
            (self.kind == Kind::Binary || std::str::from_utf8(&body).is_ok(), body)
        } else {
            (is_valid, Bytes::from(self.body))
        };
        if is_valid { Ok(data_message(self.kind, body)) } else { Err(NOT_UTF8) }
    }
}

const fn data_message(kind: Kind, body: Bytes) -> Incoming {
    match kind {
        Kind::Text => Incoming::Text(body),
        Kind::Binary => Incoming::Binary(body),
    }
}

fn control(opcode: OpCode, payload: &[u8]) -> Result<Incoming, Violation> {
    match opcode {
        OpCode::Control(Control::Ping) => Ok(Incoming::Ping(Bytes::copy_from_slice(payload))),
        OpCode::Control(Control::Pong) => Ok(Incoming::Pong(Bytes::copy_from_slice(payload))),
        _ => close(payload),
    }
}

fn close(payload: &[u8]) -> Result<Incoming, Violation> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return match payload {
            [] => Ok(Incoming::Close { code: None, reason: String::new() }),
            _ => Err(protocol_error("close frame with half a code")),
        };
    };
    let code = u16::from_be_bytes(*code);
    if !CloseCode::from(code).is_allowed() {
        return Err(protocol_error("close code that may not be sent"));
    }
    let reason = std::str::from_utf8(reason).map_err(|_| NOT_UTF8)?;
    Ok(Incoming::Close { code: Some(code), reason: reason.to_owned() })
}

#[cfg(test)]
mod tests;
