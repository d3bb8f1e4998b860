//! Deliveries, straight from the noun to bytes: this runs for every message, and the tree would copy every text.

use bytes::{BufMut as _, BytesMut};
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};

use super::FRAME_ELEMENT;
use crate::message::Delivery;
use crate::position::Position;

/// `Event.delivery`.
const EVENT_DELIVERY: u32 = 3;

/// The fields of `Delivery`, of `Header` and of `Position`; a test compares every byte with what prost writes.
mod field {
    pub(super) const TOPIC: u32 = 1;
    pub(super) const POSITION: u32 = 2;
    pub(super) const TIME: u32 = 3;
    pub(super) const PUBLISHER: u32 = 4;
    pub(super) const PAYLOAD: u32 = 5;
    pub(super) const CONTENT_TYPE: u32 = 6;
    pub(super) const HEADERS: u32 = 7;
    pub(super) const ID: u32 = 8;
    pub(super) const ERASED: u32 = 9;
    pub(super) const HEADER_NAME: u32 = 1;
    pub(super) const HEADER_VALUE: u32 = 2;
    pub(super) const EPOCH: u32 = 1;
    pub(super) const OFFSET: u32 = 2;
}

pub(in crate::codec) fn encode_delivery(delivery: &Delivery, frame: &mut BytesMut) {
    let delivery_bytes = delivery_len(delivery);
    let event_bytes = nested_len(delivery_bytes);
    frame.reserve(nested_len(event_bytes));
    begin_nested(FRAME_ELEMENT, event_bytes, frame);
    begin_nested(EVENT_DELIVERY, delivery_bytes, frame);

    let Delivery { topic, position, time, publisher, message, erased } = delivery;
    put_bytes(field::TOPIC, topic.as_str().as_bytes(), frame);
    if let Some(position) = position {
        begin_nested(field::POSITION, position_len(*position), frame);
        put_number(field::EPOCH, position.epoch.0, frame);
        put_number(field::OFFSET, position.offset.0, frame);
    }
    put_number(field::TIME, time.0, frame);
    put_bytes(field::PUBLISHER, publisher.as_bytes(), frame);
    put_bytes(field::PAYLOAD, &message.payload, frame);
    put_bytes(field::CONTENT_TYPE, message.content_type.as_bytes(), frame);
    for (name, value) in &message.headers {
        begin_nested(field::HEADERS, header_len(name, value), frame);
        put_bytes(field::HEADER_NAME, name.as_bytes(), frame);
        put_bytes(field::HEADER_VALUE, value.as_bytes(), frame);
    }
    put_bytes(field::ID, message.id.as_bytes(), frame);
    put_number(field::ERASED, u64::from(*erased), frame);
}

fn delivery_len(delivery: &Delivery) -> usize {
    let Delivery { topic, position, time, publisher, message, erased } = delivery;
    let headers = message.headers.iter().map(|(name, value)| nested_len(header_len(name, value)));
    bytes_len(topic.as_str().len())
        + position.map_or(0, |position| nested_len(position_len(position)))
        + number_len(time.0)
        + bytes_len(publisher.len())
        + bytes_len(message.payload.len())
        + bytes_len(message.content_type.len())
        + headers.sum::<usize>()
        + bytes_len(message.id.len())
        + number_len(u64::from(*erased))
}

const fn position_len(position: Position) -> usize {
    number_len(position.epoch.0) + number_len(position.offset.0)
}

const fn header_len(name: &str, value: &str) -> usize {
    bytes_len(name.len()) + bytes_len(value.len())
}

/// Bytes of a message field. Every field number here is below 16, so that a key has one byte.
const fn nested_len(n_bytes: usize) -> usize {
    1 + encoded_len_varint(n_bytes as u64) + n_bytes
}

/// Bytes of a text or bytes field: none if it is empty, which proto3 does not write.
const fn bytes_len(n_bytes: usize) -> usize {
    if n_bytes == 0 { 0 } else { nested_len(n_bytes) }
}

/// Bytes of a number field: none if it is 0.
const fn number_len(number: u64) -> usize {
    if number == 0 { 0 } else { 1 + encoded_len_varint(number) }
}

fn begin_nested(number: u32, n_bytes: usize, frame: &mut BytesMut) {
    encode_key(number, WireType::LengthDelimited, frame);
    encode_varint(n_bytes as u64, frame);
}

fn put_bytes(number: u32, bytes: &[u8], frame: &mut BytesMut) {
    if !bytes.is_empty() {
        begin_nested(number, bytes.len(), frame);
        frame.put_slice(bytes);
    }
}

fn put_number(number: u32, value: u64, frame: &mut BytesMut) {
    if value != 0 {
        encode_key(number, WireType::Varint, frame);
        encode_varint(value, frame);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;
    use crate::codec::{event, pb};
    use crate::message::{Message, Time};
    use crate::topic::Topic;

    proptest! {
        #[test]
        fn a_delivery_is_written_as_prost_writes_it(
            position in proptest::option::of((0..1_u64 << 53, 0..1_u64 << 53)),
            time in prop_oneof![Just(0), 0..1_u64 << 53],
            publisher in ".{0,300}",
            payload in proptest::collection::vec(any::<u8>(), 0..300),
            content_type in ".{0,8}",
            headers in proptest::collection::vec((".{0,4}", ".{0,200}"), 0..4),
            id in ".{0,4}",
            erased in any::<bool>(),
        ) {
            let delivery = Delivery {
                topic: Topic::parse("a/b").unwrap(),
                position: position.map(|(epoch, offset)| Position::new(epoch, offset)),
                time: Time(time),
                publisher,
                message: Message { payload: Bytes::from(payload), content_type, headers, id },
                erased,
            };
            let mut written = BytesMut::new();
            encode_delivery(&delivery, &mut written);
            let tree = pb::event::Event::Delivery(event::delivery_tree(&delivery));
            let expected = pb::ServerFrame { events: vec![pb::Event { event: Some(tree) }] };
            prop_assert_eq!(written.to_vec(), expected.encode_to_vec());
        }
    }
}
