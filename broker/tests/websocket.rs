//! The server's WebSocket wire against a client that others wrote, and against what no client would send.

use std::io::{self, Cursor, ErrorKind, Read, Write};

use bongsu::websocket::decoder::{Decoder, Incoming, Violation};
use bongsu::websocket::deflate::{self, Agreed, Window};
use bongsu::websocket::frame::{self, Kind};
use bongsu_protocol::reason::{CloseReason, Goodbye};
use bytes::Bytes;
use proptest::prelude::*;
use proptest::sample::Index;
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::{Message, Role, WebSocket};

/// What the decoders here take, in bytes.
const MESSAGE_BYTES_MAX: usize = 5000;

/// A client's socket: what it wrote, and what it will read.
#[derive(Default)]
struct Wire {
    written: Vec<u8>,
    to_read: Cursor<Vec<u8>>,
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.to_read.read(buffer)? {
            0 => Err(ErrorKind::WouldBlock.into()),
            length => Ok(length),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.written.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn agreed() -> Agreed {
    deflate::negotiate("permessage-deflate").expect("a plain offer is accepted")
}

/// A step in what a client sends.
#[derive(Debug, Clone)]
enum Step {
    /// A message in fragments, of which each is followed by a ping if it says so.
    Message {
        kind: Kind,
        body: Vec<u8>,
        is_compressed: bool,
        fragments: Vec<(Index, bool)>,
    },
    Control(Control, Vec<u8>),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let text = "[a봉\u{10ffff}]{0,40}".prop_map(|text| (Kind::Text, text.into_bytes()));
    let small = prop::collection::vec(any::<u8>(), 0..200).prop_map(|body| (Kind::Binary, body));
    let large = (prop::collection::vec(any::<u8>(), 1..9), 0..MESSAGE_BYTES_MAX)
        .prop_map(|(seed, length)| (Kind::Binary, seed.into_iter().cycle().take(length).collect()));
    let message = (
        prop_oneof![2 => text, 2 => small, 1 => large],
        any::<bool>(),
        prop::collection::vec((any::<Index>(), any::<bool>()), 0..4),
    )
        .prop_map(|((kind, body), is_compressed, fragments)| Step::Message {
            kind,
            body,
            is_compressed,
            fragments,
        });
    let payload = prop::collection::vec(any::<u8>(), 0..126);
    let control = prop_oneof![Just(Control::Ping), Just(Control::Pong)];
    let control = (control, payload).prop_map(|(opcode, payload)| Step::Control(opcode, payload));
    prop::collection::vec(prop_oneof![3 => message, 1 => control], 0..6)
}

/// A frame as tungstenite's client would write it.
fn put_frame(bytes: &mut Vec<u8>, opcode: OpCode, is_final: bool, rsv1: bool, payload: &[u8]) {
    let mask = [0x12, 0x34, bytes.len() as u8, 0xff];
    let header = FrameHeader { is_final, rsv1, opcode, mask: Some(mask), ..FrameHeader::default() };
    header.format(payload.len() as u64, bytes).expect("a vector takes every write");
    bytes.extend(payload.iter().enumerate().map(|(i, byte)| byte ^ mask[i % 4]));
}

/// What the steps look like on the wire, and what should come of them.
fn encode(steps: &[Step]) -> (Vec<u8>, Vec<Incoming>) {
    let (mut bytes, mut expected) = (Vec::new(), Vec::new());
    for step in steps {
        match step {
            Step::Control(opcode, payload) => {
                put_frame(&mut bytes, OpCode::Control(*opcode), true, false, payload);
                let payload = Bytes::copy_from_slice(payload);
                expected.push(if *opcode == Control::Ping {
                    Incoming::Ping(payload)
                } else {
                    Incoming::Pong(payload)
                });
            }
            Step::Message { kind, body, is_compressed, fragments } => {
                let compressed =
                    is_compressed.then(|| deflate::compress(*kind, body, Window::Bits12)).flatten();
                // Without the server's header it is what a client would have compressed too.
                let payload = match &compressed {
                    Some(frame) => &frame[if frame[1] < 126 { 2 } else { 4 }..],
                    None => body,
                };
                let mut cuts: Vec<_> =
                    fragments.iter().map(|(at, ping)| (at.index(payload.len() + 1), *ping)).collect();
                cuts.sort_unstable();
                let data = if *kind == Kind::Text { Data::Text } else { Data::Binary };
                let mut begin = 0;
                for (i, (end, ping)) in cuts.iter().chain([&(payload.len(), false)]).enumerate() {
                    let opcode = OpCode::Data(if i == 0 { data } else { Data::Continue });
                    let rsv1 = i == 0 && compressed.is_some();
                    put_frame(&mut bytes, opcode, i == cuts.len(), rsv1, &payload[begin..*end]);
                    begin = *end;
                    if *ping {
                        put_frame(&mut bytes, OpCode::Control(Control::Ping), true, false, b"between");
                        expected.push(Incoming::Ping("between".into()));
                    }
                }
                let body = Bytes::copy_from_slice(body);
                expected.push(if *kind == Kind::Text {
                    Incoming::Text(body)
                } else {
                    Incoming::Binary(body)
                });
            }
        }
    }
    (bytes, expected)
}

/// Decodes bytes that are read in pieces, each as long as the next of `pieces`, around and around.
fn decode(bytes: &[u8], pieces: &[usize]) -> (Vec<Incoming>, Option<Violation>, Decoder) {
    let mut decoder = Decoder::new(MESSAGE_BYTES_MAX, Some(agreed()));
    let mut bytes = bytes.to_vec();
    let mut rest = &mut bytes[..];
    let mut incoming = Vec::new();
    for piece in pieces.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let length = (*piece).clamp(1, rest.len());
        let (mut input, after) = rest.split_at_mut(length);
        rest = after;
        loop {
            match decoder.poll(&mut input) {
                Ok(Some(next)) => incoming.push(next),
                Ok(None) => break,
                Err(violation) => return (incoming, Some(violation), decoder),
            }
        }
        assert!(input.is_empty(), "None means that everything was taken");
    }
    (incoming, None, decoder)
}

/// The fuzz target: whatever the bytes are and however they arrive, the decoder does not panic, says the same, keeps no
/// more than its limit, and nothing once it is done.
fn check_anything(bytes: &[u8], pieces: &[usize]) {
    let (whole, whole_violation, _) = decode(bytes, &[usize::MAX]);
    let (incoming, violation, decoder) = decode(bytes, pieces);
    assert_eq!(incoming, whole);
    // A frame that breaks two rules may be refused for either, depending on which shows first.
    assert_eq!(violation.is_some(), whole_violation.is_some(), "{violation:?} {whole_violation:?}");
    let bytes_max = 2 * (MESSAGE_BYTES_MAX + MESSAGE_BYTES_MAX / 16 + 64) + 8192;
    assert!(decoder.buffered_bytes() <= bytes_max, "{}", decoder.buffered_bytes());
    if violation.is_some() || matches!(incoming.last(), Some(Incoming::Close { .. })) {
        assert_eq!(decoder.buffered_bytes(), 0);
    }
}

fn pieces() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop_oneof![1..4_usize, 1..40_usize, 1..3000_usize], 1..6)
}

proptest! {
    #[test]
    fn every_split_of_the_stream_gives_the_same_messages(steps in steps(), pieces in pieces()) {
        let (bytes, expected) = encode(&steps);
        let (incoming, violation, decoder) = decode(&bytes, &pieces);
        prop_assert_eq!(violation, None);
        prop_assert_eq!(incoming, expected);
        prop_assert_eq!(decoder.buffered_bytes(), 0);
    }

    #[test]
    fn arbitrary_bytes_neither_panic_nor_depend_on_the_split(
        bytes in prop::collection::vec(any::<u8>(), 0..400), pieces in pieces(),
    ) {
        check_anything(&bytes, &pieces);
    }

    #[test]
    fn damaged_streams_neither_panic_nor_depend_on_the_split(
        steps in steps(),
        damages in prop::collection::vec((any::<Index>(), any::<u8>()), 1..4),
        pieces in pieces(),
    ) {
        let (mut bytes, _) = encode(&steps);
        for (at, value) in damages {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
        }
        check_anything(&bytes, &pieces);
    }

    #[test]
    fn what_tungstenites_client_writes_is_read(
        messages in prop::collection::vec(prop_oneof![
            ".{0,300}".prop_map(Message::text),
            prop::collection::vec(any::<u8>(), 0..3000).prop_map(Message::binary),
            prop::collection::vec(any::<u8>(), 0..126).prop_map(|payload| Message::Ping(payload.into())),
            prop::collection::vec(any::<u8>(), 0..126).prop_map(|payload| Message::Pong(payload.into())),
        ], 0..6),
        pieces in pieces(),
    ) {
        let mut client = WebSocket::from_raw_socket(Wire::default(), Role::Client, None);
        for message in &messages {
            client.send(message.clone()).unwrap();
        }
        let (incoming, violation, _) = decode(&client.get_ref().written, &pieces);
        prop_assert_eq!(violation, None);
        let expected: Vec<_> = messages.into_iter().map(|message| match message {
            Message::Text(text) => Incoming::Text(text.into()),
            Message::Binary(body) => Incoming::Binary(body),
            Message::Ping(payload) => Incoming::Ping(payload),
            Message::Pong(payload) => Incoming::Pong(payload),
            Message::Close(_) | Message::Frame(_) => unreachable!("not among the messages above"),
        }).collect();
        prop_assert_eq!(incoming, expected);
    }

    #[test]
    fn what_is_written_tungstenites_client_reads(
        text in ".{0,300}", body in prop::collection::vec(any::<u8>(), 0..70_000),
    ) {
        let goodbye = Goodbye::new(CloseReason::GoingAway, text.clone());
        let pong = Bytes::copy_from_slice(&body[..body.len().min(125)]);
        let written = [
            frame::message(Kind::Text, text.as_bytes()),
            frame::ping(),
            frame::message(Kind::Binary, &body),
            frame::pong(&pong),
            frame::close(&goodbye),
        ].concat();
        let wire = Wire { to_read: Cursor::new(written), ..Wire::default() };
        let mut client = WebSocket::from_raw_socket(wire, Role::Client, None);
        prop_assert_eq!(client.read().unwrap(), Message::text(text));
        prop_assert_eq!(client.read().unwrap(), Message::Ping(Bytes::new()));
        prop_assert_eq!(client.read().unwrap(), Message::binary(body));
        prop_assert_eq!(client.read().unwrap(), Message::Pong(pong));
        let Message::Close(Some(close)) = client.read().unwrap() else { panic!("a close frame") };
        prop_assert_eq!(u16::from(close.code), 1001);
        prop_assert_eq!(close.reason.as_str(), goodbye.close_text());
    }
}
