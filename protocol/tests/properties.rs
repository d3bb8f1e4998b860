//! What holds for every request, every event, and every heap of bytes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

mod arbitrary;

use std::sync::Arc;

use bongsu_protocol::codec::{self, Format};
use bongsu_protocol::command::Request;
use bongsu_protocol::event::{Event, Reply};
use bongsu_protocol::message::{Delivery, Message};
use bytes::{Bytes, BytesMut};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

fn requests_frame(format: Format, requests: &[Request]) -> Bytes {
    let mut frame = BytesMut::new();
    codec::encode_requests(format, requests, &mut frame);
    frame.freeze()
}

fn events_frame(format: Format, events: &[Event]) -> Bytes {
    let mut frame = BytesMut::new();
    codec::encode_events(format, events, &mut frame);
    frame.freeze()
}

fn format() -> impl Strategy<Value = Format> {
    select(&Format::ALL[..])
}

/// What a JSON reader sees: of a JSON payload, the blanks around the value are lost.
fn as_json_shows(event: &Event) -> Event {
    let trimmed = |delivery: &Arc<Delivery>| {
        let mut delivery = Delivery::clone(delivery);
        let Message { payload, content_type, .. } = &mut delivery.message;
        let essence = content_type.split(';').next().unwrap().trim().to_ascii_lowercase();
        let is_json = essence == "application/json" || essence.ends_with("+json");
        if is_json && serde_json::from_slice::<serde::de::IgnoredAny>(payload).is_ok() {
            let text = std::str::from_utf8(payload).unwrap();
            *payload = Bytes::copy_from_slice(text.trim_matches([' ', '\t', '\r', '\n']).as_bytes());
        }
        Arc::new(delivery)
    };
    match event.clone() {
        Event::Delivery(delivery) => Event::Delivery(trimmed(&delivery)),
        Event::Reply { id, result: Ok(Reply::History(mut page)) } => {
            page.messages = page.messages.iter().map(trimmed).collect();
            Event::Reply { id, result: Ok(Reply::History(page)) }
        }
        other => other,
    }
}

/// Damages a frame in a few places: what a broken peer or an attacker sends.
fn damaged(frame: Bytes) -> impl Strategy<Value = Bytes> {
    let change = (any::<prop::sample::Index>(), any::<u8>(), 0..5_u8);
    vec(change, 1..6).prop_map(move |changes| {
        let mut bytes = frame.to_vec();
        for (place, byte, kind) in changes {
            let at = place.index(bytes.len() + 1);
            match kind {
                0 => bytes.insert(at, byte),
                1 => bytes.truncate(at),
                2 => drop(bytes.splice(at..at, bytes[at / 2..at].to_vec())),
                3 if at < bytes.len() => drop(bytes.remove(at)),
                _ if at < bytes.len() => bytes[at] ^= 1 << (byte % 8),
                _ => {}
            }
        }
        Bytes::from(bytes)
    })
}

/// A frame of requests and one of events, damaged.
fn damaged_frames(format: Format) -> impl Strategy<Value = Bytes> {
    let requests = vec(arbitrary::request(), 1..3).prop_map(move |list| requests_frame(format, &list));
    let events = vec(arbitrary::event(), 1..3).prop_map(move |list| events_frame(format, &list));
    prop_oneof![requests.prop_flat_map(damaged), events.prop_flat_map(damaged)]
}

proptest! {
    #[test]
    fn requests_arrive_as_they_were_sent(
        format in format(),
        requests in vec(arbitrary::request(), 1..4),
    ) {
        let frame = requests_frame(format, &requests);
        let decoded = codec::decode_requests(format, &frame).unwrap();
        let decoded: Vec<_> = decoded.into_iter().map(Result::unwrap).collect();
        prop_assert_eq!(decoded, requests);
    }

    #[test]
    fn events_arrive_as_they_were_sent_in_binary(events in vec(arbitrary::event(), 0..4)) {
        let frame = events_frame(Format::Binary, &events);
        prop_assert_eq!(codec::decode_events(Format::Binary, &frame).unwrap(), events);
    }

    #[test]
    fn events_arrive_as_they_were_sent_in_json_but_for_blanks(events in vec(arbitrary::event(), 0..4)) {
        let frame = events_frame(Format::Json, &events);
        let expected: Vec<_> = events.iter().map(as_json_shows).collect();
        prop_assert_eq!(codec::decode_events(Format::Json, &frame).unwrap(), expected);
    }

    #[test]
    fn changes_of_presence_arrive_as_they_were_told(change in arbitrary::presence_change()) {
        let payload = codec::encode_presence(&change);
        prop_assert_eq!(codec::decode_presence(&payload).unwrap(), Some(change));
    }

    #[test]
    fn a_delivery_looks_the_same_alone_and_as_an_event(
        format in format(),
        delivery in arbitrary::delivery(),
    ) {
        let mut alone = BytesMut::from(&b"before"[..]);
        codec::encode_delivery(format, &delivery, &mut alone);
        let mut event = BytesMut::from(&b"before"[..]);
        codec::encode_event(format, &Event::Delivery(Arc::new(delivery)), &mut event);
        prop_assert_eq!(alone, event);
    }

    #[test]
    fn no_bytes_make_a_decoder_panic(
        format in format(),
        frame in prop_oneof![
            vec(any::<u8>(), 0..200).prop_map(Bytes::from),
            r#"[\[\]{}",:0-9a-z ]{0,80}"#.prop_map(Bytes::from),
        ],
    ) {
        let _ = codec::decode_requests(format, &frame);
        let _ = codec::decode_events(format, &frame);
    }

    #[test]
    fn what_survives_damage_is_valid_and_can_be_sent_on(
        (format, frame) in format().prop_flat_map(|format| (Just(format), damaged_frames(format))),
    ) {
        let _ = codec::decode_events(format, &frame);
        let Ok(requests) = codec::decode_requests(format, &frame) else { return Ok(()) };
        let fine: Vec<_> = requests.into_iter().filter_map(Result::ok).collect();
        if !fine.is_empty() {
            let again = codec::decode_requests(Format::Binary, &requests_frame(Format::Binary, &fine)).unwrap();
            let again: Vec<_> = again.into_iter().map(Result::unwrap).collect();
            prop_assert_eq!(again, fine);
        }
    }
}
