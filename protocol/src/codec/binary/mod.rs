//! The binary format: protobuf, as in `proto/bongsu.v1.proto`.

mod delivery;
mod wire;

use bytes::{Bytes, BytesMut};
use prost::Message as _;
use prost::encoding::{WireType, encode_key};

use self::wire::{Fields, Value};
use super::{Malformed, Refused, bad_request, event, pb, request, shared, unsupported};
use crate::command::{Request, RequestId};
use crate::event::Event;
use crate::limits::{INTEGER_MAX, REQUESTS_PER_FRAME_MAX};

pub(super) use self::delivery::encode_delivery;

/// `ClientFrame.requests` and `ServerFrame.events`: the one field of a frame.
const FRAME_ELEMENT: u32 = 1;

/// `Request.id`.
const REQUEST_ID: u32 = 1;

/// The fields of `Request.command`.
const COMMANDS: std::ops::RangeInclusive<u32> = 2..=10;

const NO_COMMAND: &str = "the request has no command, or none that this broker knows";

pub(super) fn decode_requests(frame: &Bytes) -> Result<Vec<Result<Request, Refused>>, Malformed> {
    let mut requests = Vec::new();
    for field in Fields::new(frame) {
        let (FRAME_ELEMENT, Value::Bytes(element)) = field? else { continue };
        if requests.len() == REQUESTS_PER_FRAME_MAX {
            return Err(Malformed::Structure(format!(
                "a frame has at most {REQUESTS_PER_FRAME_MAX} requests"
            )));
        }
        requests.push(decode_request(frame, element)?);
    }
    if requests.is_empty() {
        return Err(Malformed::Structure("a frame has at least one request".to_owned()));
    }
    Ok(requests)
}

fn decode_request(frame: &Bytes, element: &[u8]) -> Result<Result<Request, Refused>, Malformed> {
    let mut id = 0;
    let mut n_commands = 0;
    for field in Fields::new(element) {
        match field? {
            (REQUEST_ID, Value::Varint(value)) => id = value,
            (number, _) if COMMANDS.contains(&number) => n_commands += 1,
            _ => {}
        }
    }
    if !(1..=INTEGER_MAX).contains(&id) {
        return Err(Malformed::Structure(format!("a request has an id from 1 to {INTEGER_MAX}")));
    }
    let id = RequestId(id);
    let refused = |error| Ok(Err(Refused { id, error }));
    match n_commands {
        0 => return refused(unsupported(NO_COMMAND)),
        1 => {}
        _ => return refused(bad_request("a request has one command")),
    }
    if let Err(text) = wire::REQUEST.check(element)? {
        return refused(bad_request(text));
    }
    let tree = pb::Request::decode(frame.slice_ref(element)).map_err(undecodable)?;
    let Some(mut command) = tree.command else { return refused(unsupported(NO_COMMAND)) };
    match &mut command {
        pb::request::Command::Publish(publish) => {
            for message in &mut publish.messages {
                message.payload = shared(frame, &message.payload);
            }
        }
        pb::request::Command::Enter(enter) => enter.info = shared(frame, &enter.info),
        _ => {}
    }
    Ok(request::command(command)
        .map(|command| Request { id, command })
        .map_err(|error| Refused { id, error }))
}

pub(super) fn encode_requests(requests: &[Request], frame: &mut BytesMut) {
    for Request { id, command } in requests {
        let tree = pb::Request { id: id.0, command: Some(request::command_tree(command)) };
        encode_element(&tree, frame);
    }
}

pub(super) fn decode_events(frame: &Bytes) -> Result<Vec<Event>, Malformed> {
    let mut events = Vec::new();
    for field in Fields::new(frame) {
        let (FRAME_ELEMENT, Value::Bytes(element)) = field? else { continue };
        wire::EVENT.check(element)?.map_err(Malformed::Structure)?;
        let tree = pb::Event::decode(frame.slice_ref(element)).map_err(undecodable)?;
        if let Some(known) = tree.event {
            events.extend(event::event(known)?);
        }
    }
    Ok(events)
}

pub(super) fn encode_events(events: &[Event], frame: &mut BytesMut) {
    for event in events {
        encode_event(event, frame);
    }
}

pub(super) fn encode_event(event: &Event, frame: &mut BytesMut) {
    match event {
        Event::Delivery(delivery) => encode_delivery(delivery, frame),
        other => encode_element(&pb::Event { event: Some(event::event_tree(other)) }, frame),
    }
}

/// Appends one element of a frame. Frames of this format are joined by joining their bytes.
fn encode_element(tree: &impl prost::Message, frame: &mut BytesMut) {
    frame.reserve(tree.encoded_len() + 11); // a key of 1 byte, a length of at most 10
    encode_key(FRAME_ELEMENT, WireType::LengthDelimited, frame);
    tree.encode_length_delimited(frame).expect("a BytesMut grows as needed");
}

// By value for `map_err`.
#[allow(clippy::needless_pass_by_value)]
fn undecodable(error: prost::DecodeError) -> Malformed {
    Malformed::Payload(error.to_string())
}
