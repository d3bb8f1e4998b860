//! What a frame of tiny things costs: decoding allocates at most a small multiple of the frame, whatever is in it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

use bongsu_protocol::codec::{self, Format};
use bongsu_protocol::limits::{FRAME_BYTES_MAX, INTEGER_MAX, SEEN_MAX};
use bytes::{BufMut as _, Bytes, BytesMut};

/// Bytes of a frame here: large enough for every list to reach its limit, small enough to be read quickly.
const FRAME_BYTES: usize = FRAME_BYTES_MAX / 8;

/// Peak bytes of the heap for each byte of a frame from a client. The worst is a list of positions without topic in binary:
/// 4 bytes there are 48 in the tree, and while a list grows, it is held once more.
const REQUEST_BYTES_PER_BYTE: u64 = 24;

/// The same of a frame from the broker, of which a client need fear less.
const EVENT_BYTES_PER_BYTE: u64 = 48;

/// Repeats a part until the frame is full.
fn filled(before: &str, part: &str, between: &str, after: &str) -> Bytes {
    let n_parts = (FRAME_BYTES - before.len() - after.len()) / (part.len() + between.len());
    let parts = vec![part; n_parts].join(between);
    Bytes::from([before, &parts, after].concat())
}

/// Repeats a binary part until the frame is full, inside messages of these fields, outermost
/// first. What stands in the second message comes first there.
fn nested(fields: &[u8], second: &[u8], part: &[u8]) -> Bytes {
    let mut inner = BytesMut::from(&part.repeat((FRAME_BYTES - 64) / part.len())[..]);
    for (depth, field) in fields.iter().enumerate().rev() {
        if depth == 0 {
            inner = BytesMut::from(&[second, &inner].concat()[..]);
        }
        let mut outer = BytesMut::new();
        outer.put_u8(field << 3 | 2);
        prost::encoding::encode_varint(inner.len() as u64, &mut outer);
        outer.put_slice(&inner);
        inner = outer;
    }
    inner.freeze()
}

/// A request of these fields, with an id.
fn request(fields: &[u8], part: &[u8]) -> Bytes {
    nested(&[&[1], fields].concat(), &[0x08, 0x01], part)
}

/// An event of these fields.
fn event(fields: &[u8], part: &[u8]) -> Bytes {
    nested(&[&[1], fields].concat(), &[], part)
}

fn peak(frame: &Bytes, decode: impl FnOnce(&Bytes)) -> u64 {
    allocation_counter::measure(|| decode(frame)).bytes_max / frame.len() as u64
}

#[test]
fn a_frame_of_tiny_parts_costs_the_broker_little() {
    let position = r#"{"topic":"a","position":{"epoch":1,"offset":1}}"#;
    let seen =
        |part| filled(r#"{"id":1,"subscribe":{"subscriptions":[{"filter":"a","seen":["#, part, ",", "]}]}}");
    let json = [
        filled("[", r#"{"id":1,"ping":{}}"#, ",", "]"),
        filled("[", "{}", ",", "]"),
        filled("[", "1", ",", "]"),
        filled("", "[", "", ""),
        filled("{", r#""a":1"#, ",", "}"),
        filled(r#"{"id":1,"#, r#""a":1"#, ",", "}"),
        filled(r#"{"id":1,"subscribe":{"subscriptions":["#, r#"{"filter":"a"}"#, ",", "]}}"),
        filled(r#"{"id":1,"unsubscribe":{"filters":["#, r#""""#, ",", "]}}"),
        filled(r#"{"id":1,"publish":{"messages":["#, r#"{"topic":"a","data":1}"#, ",", "]}}"),
        filled(
            r#"{"id":1,"publish":{"messages":[{"topic":"a","data":1,"headers":{"#,
            r#""":"""#,
            ",",
            "}}]}}",
        ),
        filled(r#"{"id":1,"enter":{"topic":"a","info":"#, "[", "", "}}"),
        filled(r#"{"id":1,"publish":{"messages":[{"topic":"a","text":""#, r"\n", "", r#""}]}}"#),
        seen(position),
        seen("{}"),
    ];
    let binary = [
        Bytes::from([0x0a, 0x00].repeat(FRAME_BYTES / 2)),
        Bytes::from([0x0a, 0x04, 0x08, 0x01, 0x52, 0x00].repeat(FRAME_BYTES / 6)),
        request(&[3], &[0x0a, 0x00]),
        request(&[3, 1], &[0x1a, 0x00]),
        request(&[3, 1], &[0x1a, 0x09, 0x0a, 0x01, b'a', 0x12, 0x04, 8, 1, 16, 1]),
        request(&[4], &[0x0a, 0x00]),
        request(&[5], &[0x0a, 0x00]),
        request(&[5, 1], &[0x22, 0x00]),
        request(&[], &[0x08, 0x01, 0x2a, 0x02, 0x0a, 0x00]),
        request(&[15], &[0x0a, 0x00]),
    ];
    let json = json.into_iter().map(|frame| (Format::Json, frame));
    for (format, frame) in json.chain(binary.into_iter().map(|frame| (Format::Binary, frame))) {
        let times = peak(&frame, |frame| drop(codec::decode_requests(format, frame)));
        let begin = String::from_utf8_lossy(&frame[..frame.len().min(40)]);
        println!("{times} times the frame: {format:?} {begin:?}");
        assert!(times <= REQUEST_BYTES_PER_BYTE, "{times} times the frame: {format:?} {begin:?}");
    }
}

#[test]
fn positions_of_many_subscriptions_cost_the_broker_little() {
    let whole = [0x1a, 0x09, 0x0a, 0x01, b'a', 0x12, 0x04, 8, 1, 16, 1];
    let without_topic = [0x1a, 0x02, 0x0a, 0x00];
    let empty = [0x1a, 0x00];
    for (position, is_fine) in [(&whole[..], true), (&without_topic, false), (&empty, false)] {
        // Two thirds of what one subscription may name, in as many subscriptions as the frame holds.
        let subscription = [b"\x0a\x01a", &position.repeat(SEEN_MAX * 2 / 3)[..]].concat();
        let mut one = BytesMut::from(&[0x0a][..]);
        prost::encoding::encode_varint(subscription.len() as u64, &mut one);
        one.put_slice(&subscription);
        let frame = request(&[3], &one);
        let decoded = codec::decode_requests(Format::Binary, &frame).unwrap();
        assert_eq!(decoded[0].is_ok(), is_fine);
        let times = peak(&frame, |frame| drop(codec::decode_requests(Format::Binary, frame)));
        println!("{times} times the frame: {position:?}");
        assert!(times <= REQUEST_BYTES_PER_BYTE, "{times} times the frame: {position:?}");
    }
}

#[test]
fn a_frame_of_tiny_parts_costs_a_client_little() {
    let page = r#"{"reply":{"id":1,"history":{"messages":["#;
    let json = [
        filled("[", r#"{"heartbeat":{}}"#, ",", "]"),
        filled("[", "{}", ",", "]"),
        filled("{", r#""a":1"#, ",", "}"),
        filled(page, r#"{"topic":"a"}"#, ",", "]}}}"),
        filled(r#"{"reply":{"id":1,"members":{"members":["#, "{}", ",", "]}}}"),
        filled(
            r#"{"reply":{"id":1,"subscribed":{"results":[{"subscribed":{"positions":["#,
            "{}",
            ",",
            "]}}]}}}",
        ),
        filled(r#"{"reply":{"id":1,"published":{"results":["#, r#"{"published":{}}"#, ",", "]}}}"),
    ];
    let binary = [
        Bytes::from([0x0a, 0x02, 0x3a, 0x00].repeat(FRAME_BYTES / 4)),
        Bytes::from([0x0a, 0x00].repeat(FRAME_BYTES / 2)),
        event(&[2, 4], &[0x0a, 0x00]),
        event(&[2, 4, 1, 1], &[0x1a, 0x00]),
        event(&[2, 6], &[0x0a, 0x00]),
        event(&[2, 7], &[0x0a, 0x00]),
        event(&[2, 10], &[0x0a, 0x00]),
        event(&[3], &[0x3a, 0x00]),
    ];
    let json = json.into_iter().map(|frame| (Format::Json, frame));
    for (format, frame) in json.chain(binary.into_iter().map(|frame| (Format::Binary, frame))) {
        let times = peak(&frame, |frame| drop(codec::decode_events(format, frame)));
        let begin = String::from_utf8_lossy(&frame[..frame.len().min(40)]);
        println!("{times} times the frame: {format:?} {begin:?}");
        assert!(times <= EVENT_BYTES_PER_BYTE, "{times} times the frame: {format:?} {begin:?}");
    }
}

#[test]
fn a_large_payload_is_not_copied_on_its_way_in() {
    let bytes = vec![b'x'; 1 << 20];
    let text = std::str::from_utf8(&bytes).unwrap();
    let json =
        format!(r#"{{"id":{INTEGER_MAX},"publish":{{"messages":[{{"topic":"a","text":"{text}"}}]}}}}"#);
    let requests: Vec<_> = codec::decode_requests(Format::Json, &Bytes::from(json.clone()))
        .unwrap()
        .into_iter()
        .map(Result::unwrap)
        .collect();
    let mut binary = BytesMut::new();
    codec::encode_requests(Format::Binary, &requests, &mut binary);
    for (format, frame) in [(Format::Json, Bytes::from(json)), (Format::Binary, binary.freeze())] {
        let bytes = allocation_counter::measure(|| drop(codec::decode_requests(format, &frame))).bytes_total;
        assert!(bytes < 4096, "{bytes} bytes in {format:?}");
    }
}
