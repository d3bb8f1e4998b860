//! What nodes say to each other on the bus.
//!
//! ```text
//! frame     = version(1 byte) origin(8) kind(1) body
//! messages  = slow_reader(1) number(8) *frame  complete WebSocket frames of `bongsu.v1.proto`, one per message, ready to be sent on
//! heads     = *( length(2) topic epoch(8) offset(8) )
//! shapes    = asks(1) time(8) *( length(1) shape )
//! ```
//!
//! Numbers are big-endian. A frame that does not decode is counted and ignored: nodes of a newer version may send some.

use bongsu_protocol::message::Time;
use bongsu_protocol::position::Position;
use bongsu_protocol::session::SlowReader;
use bongsu_protocol::topic::Topic;
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use crate::delivery::{Shared, SharedDelivery};
use crate::heard::Shape;
use crate::hub::Fanout;
use crate::limits::{BUS_FRAME_BYTES, SHAPES_MAX};

const VERSION: u8 = 1;
const MESSAGES: u8 = 1;
const HEADS: u8 = 2;
const SHAPES: u8 = 3;

/// Bytes before a body.
const HEADER_BYTES: usize = 10;

/// Which process sent a frame: a random number that it gave itself at its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Origin(pub(super) u64);

/// What a node says.
#[derive(Debug)]
pub(super) enum Announcement {
    /// These messages were published, all on one topic.
    Messages {
        /// Grows with each such frame of the process.
        number: u64,
        /// At least one.
        messages: Vec<Fanout>,
    },
    /// There are messages at these positions.
    Heads(Vec<(Topic, Position)>),
    /// Patterns of these shapes are heard.
    Shapes {
        /// It knows nobody else's yet.
        asks: bool,
        /// Its clock.
        time: Time,
        /// All of them.
        shapes: Vec<Shape>,
    },
}

/// Frames with messages of one topic, in order, each of bounded size. `last` is the number of the last frame.
pub(super) fn encode_messages(origin: Origin, last: &mut u64, run: &[Fanout]) -> Vec<Bytes> {
    let mut frames = Vec::new();
    let mut frame = BytesMut::new();
    for message in run {
        let part = message.shared.binary_frame();
        if !frame.is_empty() && frame.len() + part.len() > BUS_FRAME_BYTES {
            frames.push(frame.split().freeze());
        }
        if frame.is_empty() {
            begin(&mut frame, origin, MESSAGES, 9 + part.len());
            frame.put_u8(match message.slow_reader {
                SlowReader::DropOldest => 0,
                SlowReader::Conflate => 1,
                SlowReader::Disconnect => 2,
            });
            *last += 1;
            frame.put_u64(*last);
        }
        frame.extend_from_slice(&part);
    }
    if !frame.is_empty() {
        frames.push(frame.freeze());
    }
    frames
}

/// A frame with one head.
pub(super) fn encode_head(origin: Origin, topic: &Topic, head: Position) -> Bytes {
    let mut frame = BytesMut::new();
    begin(&mut frame, origin, HEADS, topic.as_str().len() + 18);
    // A topic has at most 255 bytes.
    frame.put_u16(u16::try_from(topic.as_str().len()).unwrap_or(u16::MAX));
    frame.extend_from_slice(topic.as_str().as_bytes());
    frame.put_u64(head.epoch.0);
    frame.put_u64(head.offset.0);
    frame.freeze()
}

/// A frame with this node's shapes.
pub(super) fn encode_shapes(origin: Origin, asks: bool, time: Time, shapes: &[Shape]) -> Bytes {
    let mut frame = BytesMut::new();
    begin(&mut frame, origin, SHAPES, 9);
    frame.put_u8(u8::from(asks));
    frame.put_u64(time.0);
    for shape in shapes.iter().take(SHAPES_MAX) {
        // A shape has at most 32 letters.
        frame.put_u8(u8::try_from(shape.as_str().len()).unwrap_or(u8::MAX));
        frame.extend_from_slice(shape.as_str().as_bytes());
    }
    frame.freeze()
}

fn begin(frame: &mut BytesMut, origin: Origin, kind: u8, body_bytes: usize) {
    frame.reserve(HEADER_BYTES + body_bytes);
    frame.put_u8(VERSION);
    frame.put_u64(origin.0);
    frame.put_u8(kind);
}

/// Who sent a frame; `None` if it is of no version that this node knows.
pub(super) fn origin_of(frame: &Bytes) -> Option<Origin> {
    let mut header = frame.get(..HEADER_BYTES)?;
    (header.get_u8() == VERSION).then(|| Origin(header.get_u64()))
}

/// Reads a frame; `None` if it makes no sense.
pub(super) fn decode(mut frame: Bytes) -> Option<Announcement> {
    origin_of(&frame)?;
    let kind = frame[HEADER_BYTES - 1];
    frame.advance(HEADER_BYTES);
    match kind {
        MESSAGES => decode_messages(frame),
        HEADS => decode_heads(frame),
        SHAPES => decode_shapes(frame),
        _ => None,
    }
}

fn decode_messages(mut body: Bytes) -> Option<Announcement> {
    let slow_reader = match body.try_get_u8().ok()? {
        0 => SlowReader::DropOldest,
        1 => SlowReader::Conflate,
        2 => SlowReader::Disconnect,
        _ => return None,
    };
    let number = body.try_get_u64().ok()?;
    let mut messages: Vec<Fanout> = Vec::new();
    while !body.is_empty() {
        let shared: SharedDelivery = Shared::take_binary_frame(&mut body)?;
        if messages.first().is_some_and(|first| first.shared.delivery.topic != shared.delivery.topic) {
            return None;
        }
        messages.push(Fanout { shared, slow_reader });
    }
    (!messages.is_empty()).then_some(Announcement::Messages { number, messages })
}

fn decode_heads(mut body: Bytes) -> Option<Announcement> {
    let mut heads = Vec::new();
    while !body.is_empty() {
        let length = usize::from(body.try_get_u16().ok()?);
        if body.len() < length {
            return None;
        }
        let topic = Topic::parse(std::str::from_utf8(&body.split_to(length)).ok()?).ok()?;
        let (epoch, offset) = (body.try_get_u64().ok()?, body.try_get_u64().ok()?);
        heads.push((topic, Position::new(epoch, offset)));
    }
    Some(Announcement::Heads(heads))
}

fn decode_shapes(mut body: Bytes) -> Option<Announcement> {
    let (asks, time) = (body.try_get_u8().ok()? != 0, Time(body.try_get_u64().ok()?));
    let mut shapes = Vec::new();
    while !body.is_empty() && shapes.len() < SHAPES_MAX {
        let length = usize::from(body.try_get_u8().ok()?);
        if body.len() < length {
            return None;
        }
        shapes.push(Shape::parse(std::str::from_utf8(&body.split_to(length)).ok()?)?);
    }
    Some(Announcement::Shapes { asks, time, shapes })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bongsu_protocol::message::{Delivery, Message};
    use bongsu_protocol::topic::TopicFilter;
    use proptest::prelude::*;

    use super::*;

    fn fanout(offset: u64, payload: Vec<u8>) -> Fanout {
        let delivery = Delivery {
            topic: Topic::parse("a/b").unwrap(),
            position: Some(Position::new(7, offset)),
            time: Time(1),
            publisher: "p".to_owned(),
            message: Message::new(payload),
            erased: false,
        };
        Fanout { shared: Shared::new(Arc::new(delivery)), slow_reader: SlowReader::Conflate }
    }

    #[test]
    fn messages_come_out_as_they_went_in_and_large_ones_are_spread() {
        let run: Vec<_> = (1..=5).map(|offset| fanout(offset, vec![1; 30_000])).collect();
        let frames = encode_messages(Origin(9), &mut 6, &run);
        assert_eq!(frames.len(), 3, "two of 30,000 bytes fit into one frame");
        let mut seen = Vec::new();
        for (frame, expected) in frames.into_iter().zip(7..) {
            assert_eq!(origin_of(&frame), Some(Origin(9)));
            let Some(Announcement::Messages { number, messages }) = decode(frame) else { panic!() };
            assert_eq!(number, expected);
            seen.extend(messages);
        }
        assert_eq!(seen.len(), run.len());
        for (seen, sent) in seen.iter().zip(&run) {
            assert_eq!(seen.shared.delivery, sent.shared.delivery);
            assert_eq!(seen.slow_reader, SlowReader::Conflate);
            assert_eq!(seen.shared.binary_frame(), sent.shared.binary_frame());
        }
    }

    #[test]
    fn heads_and_shapes_come_out_as_they_went_in() {
        let (topic, head) = (Topic::parse("a/b").unwrap(), Position::new(3, 4));
        let decoded = decode(encode_head(Origin(1), &topic, head));
        let Some(Announcement::Heads(heads)) = decoded else { panic!() };
        assert_eq!(heads, [(topic, head)]);
        let shapes = ["a/#", "+/b"].map(|text| Shape::of(&TopicFilter::parse(text).unwrap()).unwrap());
        let decoded = decode(encode_shapes(Origin(1), true, Time(5), &shapes));
        let Some(Announcement::Shapes { asks: true, time: Time(5), shapes: seen }) = decoded else {
            panic!()
        };
        assert_eq!(seen, shapes);
    }

    proptest! {
        #[test]
        fn garbage_is_refused_without_a_panic(mut frame in prop::collection::vec(any::<u8>(), 0..200), kind in 0_u8..5) {
            if frame.len() > HEADER_BYTES {
                frame[0] = VERSION;
                frame[HEADER_BYTES - 1] = kind;
            }
            let _ = decode(frame.into());
        }

        #[test]
        fn damaged_frames_are_refused_without_a_panic(place in 0_usize..300, byte in any::<u8>()) {
            let mut frame = encode_messages(Origin(9), &mut 0, &[fanout(1, vec![0; 200]), fanout(2, vec![1; 10])])[0].to_vec();
            let place = place % frame.len();
            frame[place] = byte;
            let _ = decode(frame.into());
        }
    }
}
