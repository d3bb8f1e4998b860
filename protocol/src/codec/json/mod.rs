//! The JSON format. Names are those of `proto/bongsu.v1.proto` in camel case; its comments tell where a form differs.
//!
//! Requests are read strictly, since what is unknown there is most often a typing error; events are read leniently,
//! since a later broker may say more.

mod event;
mod parts;
mod payload;
mod presence;
mod request;
mod write;

use bytes::{BufMut as _, Bytes, BytesMut};
use serde::Serialize;
use serde_json::error::Category;

use self::write::{Json, List};
use super::{Malformed, Refused};
use crate::command::Request;
use crate::event::Event;
use crate::message::Delivery;

pub(super) use self::event::decode_events;
pub(super) use self::presence::{decode_presence, encode_presence};

pub(super) fn decode_requests(frame: &Bytes) -> Result<Vec<Result<Request, Refused>>, Malformed> {
    let envelopes = request::envelopes(text(frame)?)?;
    envelopes.into_iter().map(|envelope| request::request(frame, envelope)).collect()
}

pub(super) fn encode_requests(requests: &[Request], frame: &mut BytesMut) {
    match requests {
        [request] => write(&Json(request), frame),
        several => write(&List(several), frame),
    }
}

pub(super) fn encode_event(event: &Event, frame: &mut BytesMut) {
    match event {
        Event::Delivery(delivery) => encode_delivery(delivery, frame),
        other => write(&Json(other), frame),
    }
}

pub(super) fn encode_events(events: &[Event], frame: &mut BytesMut) {
    match events {
        [event] => encode_event(event, frame),
        several => write(&List(several), frame),
    }
}

pub(super) fn encode_delivery(delivery: &Delivery, frame: &mut BytesMut) {
    // Most texts need no escapes, and the names and numbers of a delivery take less than 256 bytes.
    frame.reserve(
        delivery.message.size_bytes() + delivery.topic.as_str().len() + delivery.publisher.len() + 256,
    );
    write(&write::named("delivery", &Json(delivery)), frame);
}

fn write(value: &impl Serialize, frame: &mut BytesMut) {
    serde_json::to_writer(frame.writer(), value)
        .expect("a BytesMut takes every byte, and every key is a text");
}

fn text(frame: &[u8]) -> Result<&str, Malformed> {
    std::str::from_utf8(frame).map_err(|error| Malformed::Payload(error.to_string()))
}

// By value for `map_err`.
#[allow(clippy::needless_pass_by_value)]
fn malformed(error: serde_json::Error) -> Malformed {
    match error.classify() {
        Category::Data => Malformed::Structure(explain(&error)),
        Category::Syntax | Category::Eof | Category::Io => Malformed::Payload(error.to_string()),
    }
}

/// What was wrong, without the value that was there: it may be a token or part of a payload, and errors are logged.
fn explain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    // Line and column would mislead where only a part of the frame was read.
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(before, _)| before);
    match text.rsplit_once(", expected ") {
        Some((found, expected)) if found.starts_with("invalid ") => format!("expected {expected}"),
        _ => text.to_owned(),
    }
}
