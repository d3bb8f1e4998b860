//! Complete frames to send: a header and a body in one shareable buffer.
//!
//! A server's frames carry no mask (RFC 6455, 5.1), so the same bytes serve every connection. A message is always one
//! frame: it is whole before it is sent, so that fragments would buy nothing.

use bongsu_protocol::limits::CLOSE_REASON_BYTES_MAX;
use bongsu_protocol::reason::Goodbye;
use bytes::Bytes;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// RFC 6455, 5.5: a control frame carries at most 125 bytes, so that it fits any buffer and needs no fragments.
pub const CONTROL_BYTES_MAX: usize = 125;

/// Bytes of the longest header without a mask (RFC 6455, 5.2): 2, and 8 of an extended length.
const HEADER_BYTES_MAX: usize = 10;

/// What a message is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Text; the body must be UTF-8.
    Text,
    /// Bytes.
    Binary,
}

impl Kind {
    const fn opcode(self) -> OpCode {
        match self {
            Self::Text => OpCode::Data(Data::Text),
            Self::Binary => OpCode::Data(Data::Binary),
        }
    }
}

/// A frame whose body is written in place, so that it is not copied behind its header afterwards.
///
/// ```
/// use bongsu::websocket::frame::{Builder, Kind};
///
/// let mut builder = Builder::new(2);
/// builder.body().extend_from_slice(b"hi");
/// assert_eq!(builder.finish(Kind::Text).as_ref(), b"\x81\x02hi");
/// ```
#[derive(Debug)]
pub struct Builder {
    /// Room for the longest header, then the body.
    bytes: Vec<u8>,
}

impl Builder {
    /// A frame with room for `body_bytes`; a longer body makes it grow.
    #[must_use]
    pub fn new(body_bytes: usize) -> Self {
        let mut bytes = Vec::with_capacity(HEADER_BYTES_MAX + body_bytes);
        bytes.resize(HEADER_BYTES_MAX, 0);
        Self { bytes }
    }

    /// Where to append the body. It begins with some bytes that belong to the header: only append.
    pub const fn body(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// The body so far.
    #[must_use]
    pub fn body_written(&self) -> &[u8] {
        &self.bytes[HEADER_BYTES_MAX..]
    }

    /// The complete frame of an uncompressed message.
    #[must_use]
    pub fn finish(self, kind: Kind) -> Bytes {
        self.finish_with(kind, false, 0)
    }

    /// The complete frame of a message whose body is compressed (RFC 7692, 6: RSV1 is set).
    pub(crate) fn finish_compressed(self, kind: Kind) -> Bytes {
        self.finish_with(kind, true, 0)
    }

    /// The header of a message that goes on behind what is here for so many bytes, and what is here.
    fn finish_before(self, kind: Kind, rest_bytes: usize) -> Bytes {
        self.finish_with(kind, false, rest_bytes)
    }

    fn finish_with(mut self, kind: Kind, rsv1: bool, rest_bytes: usize) -> Bytes {
        let header = FrameHeader { opcode: kind.opcode(), rsv1, ..FrameHeader::default() };
        let body_bytes = (self.bytes.len() - HEADER_BYTES_MAX + rest_bytes) as u64;
        // The header goes right before the body; what is left of its room is cut off in front.
        let begin = HEADER_BYTES_MAX - header.len(body_bytes);
        header
            .format(body_bytes, &mut &mut self.bytes[begin..HEADER_BYTES_MAX])
            .expect("the slice is as long as the header");
        Bytes::from(self.bytes).slice(begin..)
    }
}

/// The beginning of an uncompressed message: the header for all of it, and its first part. Exactly `rest_bytes` follow.
#[must_use]
pub fn begin_message(kind: Kind, first: &[u8], rest_bytes: usize) -> Bytes {
    let mut builder = Builder::new(first.len());
    builder.body().extend_from_slice(first);
    builder.finish_before(kind, rest_bytes)
}

/// The complete frame of an uncompressed message.
#[must_use]
pub fn message(kind: Kind, body: &[u8]) -> Bytes {
    let mut builder = Builder::new(body.len());
    builder.body().extend_from_slice(body);
    builder.finish(kind)
}

/// Takes one uncompressed binary message, as [`message`] makes it, from the front: the complete frame and its body. `None` if
/// there is no such frame.
#[must_use]
pub fn take_binary(bytes: &mut Bytes) -> Option<(Bytes, Bytes)> {
    /// FIN and the opcode of a binary message; nothing else is set.
    const FIRST: u8 = 0x82;
    if *bytes.first()? != FIRST {
        return None;
    }
    // RFC 6455, 5.2: 126 and 127 announce a length of 2 and 8 bytes. A mask, the highest bit, makes it none of these.
    let (header_bytes, body_bytes) = match *bytes.get(1)? {
        short @ 0..=125 => (2, u64::from(short)),
        126 => (4, u64::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))),
        127 => (10, u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)),
        _ => return None,
    };
    let frame_bytes = usize::try_from(body_bytes).ok()?.checked_add(header_bytes)?;
    if bytes.len() < frame_bytes {
        return None;
    }
    let frame = bytes.split_to(frame_bytes);
    let body = frame.slice(header_bytes..);
    Some((frame, body))
}

/// A ping without a payload, which needs no memory of its own.
#[must_use]
pub const fn ping() -> Bytes {
    Bytes::from_static(&[0x89, 0])
}

/// The answer to a ping: its own payload. Of several pings only the last needs an answer (RFC 6455, 5.5.3).
///
/// # Panics
///
/// If the payload is longer than [`CONTROL_BYTES_MAX`], which none is that the decoder gave.
#[must_use]
pub fn pong(payload: &[u8]) -> Bytes {
    control(Control::Pong, payload)
}

/// The close frame of a goodbye: its code, and its text as far as there is room.
#[must_use]
pub fn close(goodbye: &Goodbye) -> Bytes {
    close_with(goodbye.reason.websocket_code(), &goodbye.close_text())
}

/// A close frame.
///
/// # Panics
///
/// If the text is longer than [`CLOSE_REASON_BYTES_MAX`].
#[must_use]
pub fn close_with(code: u16, text: &str) -> Bytes {
    debug_assert!(text.len() <= CLOSE_REASON_BYTES_MAX);
    let mut payload = Vec::with_capacity(2 + text.len());
    payload.extend_from_slice(&code.to_be_bytes());
    payload.extend_from_slice(text.as_bytes());
    control(Control::Close, &payload)
}

/// The answer to a client's close frame: its own code (RFC 6455, 5.5.1), or none if it gave none.
#[must_use]
pub fn close_echo(code: Option<u16>) -> Bytes {
    match code {
        Some(code) => control(Control::Close, &code.to_be_bytes()),
        None => Bytes::from_static(&[0x88, 0]),
    }
}

fn control(opcode: Control, payload: &[u8]) -> Bytes {
    assert!(payload.len() <= CONTROL_BYTES_MAX, "a control frame of {} bytes", payload.len());
    let header = FrameHeader { opcode: OpCode::Control(opcode), ..FrameHeader::default() };
    let mut frame = Vec::with_capacity(2 + payload.len());
    header.format(payload.len() as u64, &mut frame).expect("a vector takes every write");
    frame.extend_from_slice(payload);
    frame.into()
}

#[cfg(test)]
mod tests {
    use bongsu_protocol::reason::CloseReason;

    use super::*;

    #[test]
    fn lengths_take_the_shortest_of_the_three_forms() {
        for (length, head) in [
            (0, &[0x82, 0][..]),
            (125, &[0x82, 125]),
            (126, &[0x82, 126, 0, 126]),
            (65_535, &[0x82, 126, 255, 255]),
            (65_536, &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let body = vec![7; length];
            let frame = message(Kind::Binary, &body);
            assert_eq!(&frame[..head.len()], head, "{length}");
            assert_eq!(&frame[head.len()..], body, "{length}");
        }
    }

    #[test]
    fn text_and_compression_show_in_the_first_byte() {
        assert_eq!(message(Kind::Text, b"hi").as_ref(), b"\x81\x02hi");
        let mut builder = Builder::new(0);
        builder.body().push(9);
        assert_eq!(builder.body_written(), [9]);
        assert_eq!(builder.finish_compressed(Kind::Binary).as_ref(), [0xc2, 1, 9]);
    }

    #[test]
    fn a_goodbye_becomes_its_code_and_as_much_text_as_fits() {
        let frame = close(&Goodbye::new(CloseReason::TooLarge, "message too large"));
        assert_eq!(frame.as_ref(), b"\x88\x1e\x03\xf1too_large: message too large");
        for reason in CloseReason::ALL {
            let frame = close(&Goodbye::new(reason, "봉".repeat(170)));
            assert!(frame.len() <= 2 + CONTROL_BYTES_MAX && frame.len() > 120);
            assert_eq!(frame[2..4], reason.websocket_code().to_be_bytes());
            std::str::from_utf8(&frame[4..]).unwrap();
        }
    }

    #[test]
    fn control_frames_are_what_the_rfc_shows() {
        assert_eq!(ping().as_ref(), [0x89, 0]);
        assert_eq!(pong(b"Hello").as_ref(), b"\x8a\x05Hello");
        assert_eq!(close_echo(Some(1000)).as_ref(), [0x88, 2, 0x03, 0xe8]);
        assert_eq!(close_echo(None).as_ref(), [0x88, 0]);
    }
}
