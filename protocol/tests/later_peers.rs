//! Version 1 may grow: what a client of today makes of a broker of tomorrow, and the reverse.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

use bongsu_protocol::codec::{self, Format};
use bongsu_protocol::command::{Command, RequestId};
use bongsu_protocol::event::Event;
use bongsu_protocol::reason::{CloseReason, ErrorCode, Reconnect};
use bytes::Bytes;

fn events(frame: &str) -> Vec<Event> {
    codec::decode_events(Format::Json, &Bytes::copy_from_slice(frame.as_bytes())).unwrap()
}

#[test]
fn a_client_skips_events_replies_and_fields_that_it_does_not_know() {
    let json = r#"[{"sunrise":{"at":1}}, {"heartbeat":{"mood":["calm",{}]}}, {"reply":{"id":1,"teleported":{}}},
        {"later":1,"reset":{"topic":"a","epoch":2,"why":null}}]"#;
    let [Event::Heartbeat, Event::Reset { topic, .. }] = &events(json)[..] else {
        panic!("two events are known")
    };
    assert_eq!(topic.as_str(), "a");

    // Event 100; a heartbeat with field 15; a reply with result 100; field 9 of the frame itself.
    let binary = b"\x0a\x03\xa2\x06\x00\x0a\x04\x3a\x02\x78\x01\x0a\x07\x12\x05\x08\x01\xa2\x06\x00\x48\x01";
    let decoded = codec::decode_events(Format::Binary, &Bytes::from_static(binary)).unwrap();
    assert_eq!(decoded, [Event::Heartbeat]);
}

#[test]
fn a_client_takes_an_unknown_error_for_one_that_may_pass() {
    let frame = r#"{"reply":{"id":1,"error":{"code":"tired","text":"later"}}}"#;
    let [Event::Reply { id: RequestId(1), result: Err(error) }] = &events(frame)[..] else {
        panic!("a reply")
    };
    assert_eq!(error.code, ErrorCode::Internal);
    assert_eq!(error.text, "later");
}

#[test]
fn a_client_follows_the_advice_of_a_goodbye_whose_reason_it_does_not_know() {
    for (advice, expected) in [
        ("never", Reconnect::Never),
        ("now", Reconnect::Now),
        ("backoff", Reconnect::Backoff),
        ("perhaps", Reconnect::Backoff),
    ] {
        let frame = format!(r#"{{"goodbye":{{"reason":"eclipse","text":"dark","reconnect":"{advice}"}}}}"#);
        let [Event::Goodbye(goodbye)] = &events(&frame)[..] else { panic!("a goodbye") };
        assert_eq!(goodbye.reason.reconnect(), expected, "{advice}");
        assert_eq!(goodbye.text, "eclipse: dark");
        assert_ne!(goodbye.reason, CloseReason::Normal, "{advice}");
    }
}

#[test]
fn a_broker_skips_unknown_fields_in_binary_and_refuses_them_in_json() {
    let binary = b"\x0a\x08\x08\x01\x52\x02\x78\x01\x78\x01";
    let decoded = codec::decode_requests(Format::Binary, &Bytes::from_static(binary)).unwrap();
    assert_eq!(decoded[0].as_ref().unwrap().command, Command::Ping);
    let json = br#"{"id":1,"ping":{"mood":1}}"#;
    let decoded = codec::decode_requests(Format::Json, &Bytes::from_static(json)).unwrap();
    assert_eq!(decoded[0].as_ref().unwrap_err().error.code, ErrorCode::BadRequest);
}
