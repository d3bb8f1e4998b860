//! Frames in words. Tokens are never among them.

use std::fmt::Display;

use bongsu_protocol::codec;
use bongsu_protocol::command::Command;
use bongsu_protocol::event::{Event, Reply};
use bongsu_protocol::reason::{Error, ErrorCode};
use bongsu_protocol::session::Outgoing;
use bongsu_protocol::stomp;
use bytes::{Bytes, BytesMut};

use super::{Frame, What};
use crate::dialog::{Dialog, Heard, Said};
use crate::limits::{TRACE_PAYLOAD_BYTES_MAX, TRACE_TOPICS_MAX};

/// What a message of the client says.
pub(super) fn heard(dialog: &Dialog, heard: &Heard) -> Vec<What> {
    let (Heard::Text(body) | Heard::Binary(body)) = heard;
    match dialog {
        Dialog::Native { format, .. } => match codec::decode_requests(*format, body) {
            Ok(requests) => {
                let n_requests = requests.len().max(1) as u64;
                let bytes = body.len() as u64 / n_requests;
                let describe = |request| match request {
                    Ok(codec_request) => What::In(request_frame(&codec_request, bytes)),
                    Err(_) => What::In(Frame { kind: "malformed".to_owned(), bytes, ..Frame::default() }),
                };
                requests
                    .into_iter()
                    .map(|request| request.map(|request| request.command))
                    .map(describe)
                    .collect()
            }
            Err(_) => vec![What::In(frame("malformed", body.len()))],
        },
        Dialog::Stomp(_) => vec![What::In(stomp_frame(body, body.len()))],
        Dialog::Echo { .. } => vec![What::In(frame("text", body.len()))],
    }
}

/// What is said to the client, and what that means.
pub(super) fn said(said: &Said) -> Vec<What> {
    match said {
        Said::Native(format, Outgoing::Event(event)) => {
            let mut body = BytesMut::new();
            codec::encode_event(*format, event, &mut body);
            event_of(event, body.len())
        }
        Said::Native(_, Outgoing::Delivery(delivery)) => {
            let message = &delivery.delivery;
            let mut frame = of_topics("message", delivery.bytes(), [&message.topic]);
            frame.payload = Some(beginning(&message.message.payload));
            vec![What::Out(frame)]
        }
        Said::Stomp(stomp::conversation::Outgoing::Frame(bytes)) => {
            let frame = stomp_frame(bytes, bytes.len());
            let refused = (frame.kind == "ERROR").then(|| {
                What::Refused(
                    frame.clone(),
                    Error::new(ErrorCode::BadRequest, stomp_header(bytes, "message")),
                )
            });
            std::iter::once(What::Out(frame)).chain(refused).collect()
        }
        Said::Stomp(stomp::conversation::Outgoing::Message { head, delivery, .. }) => {
            let message = &delivery.delivery;
            let mut frame = of_topics("MESSAGE", head.len() + delivery.bytes(), [&message.topic]);
            frame.payload = Some(beginning(&message.message.payload));
            vec![What::Out(frame)]
        }
        Said::Echo(bytes) => vec![What::Out(frame("text", bytes.len()))],
    }
}

fn request_frame(command: &Command, bytes: u64) -> Frame {
    let n_bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    match command {
        Command::Authenticate(_) => frame("authenticate", n_bytes),
        Command::Subscribe(wanted) => {
            of_topics("subscribe", n_bytes, wanted.iter().map(|subscription| &subscription.filter))
        }
        Command::Unsubscribe(filters) => of_topics("unsubscribe", n_bytes, filters),
        Command::Publish(messages) => {
            let mut frame = of_topics("publish", n_bytes, messages.iter().map(|message| &message.topic));
            frame.payload = messages.first().map(|message| beginning(&message.message.payload));
            frame
        }
        Command::History(query) => of_topics("history", n_bytes, [&query.topic]),
        Command::Enter { topic, .. } => of_topics("enter", n_bytes, [topic]),
        Command::Leave { topic } => of_topics("leave", n_bytes, [topic]),
        Command::Members { topic } => of_topics("members", n_bytes, [topic]),
        Command::Ping => frame("ping", n_bytes),
    }
}

fn event_of(event: &Event, n_bytes: usize) -> Vec<What> {
    let out = |kind| vec![What::Out(frame(kind, n_bytes))];
    match event {
        Event::Welcome(_) => out("welcome"),
        Event::Heartbeat => out("heartbeat"),
        Event::TokenExpiring(_) => out("token_expiring"),
        Event::Goodbye(_) => out("goodbye"),
        Event::Delivery(delivery) => {
            let mut frame = of_topics("message", n_bytes, [&delivery.topic]);
            frame.payload = Some(beginning(&delivery.message.payload));
            vec![What::Out(frame)]
        }
        Event::Reset { topic, .. } => vec![What::Out(of_topics("reset", n_bytes, [topic]))],
        Event::Lost(lost) => vec![What::Lost(of_topics("lost", n_bytes, [&lost.topic]), lost.count)],
        Event::Unsubscribed { filter, error } => {
            vec![What::Refused(of_topics("unsubscribed", n_bytes, [filter]), error.clone())]
        }
        Event::Reply { result: Err(error), .. } => {
            vec![What::Refused(frame("reply", n_bytes), error.clone())]
        }
        Event::Reply { result: Ok(reply), .. } => {
            let mut what = out("reply");
            what.extend(decisions(reply));
            what
        }
    }
}

/// What a reply says of what was allowed.
fn decisions(reply: &Reply) -> Vec<What> {
    match reply {
        Reply::Subscribed(results) => results
            .iter()
            .map(|result| match result {
                Ok(subscribed) => What::Authorized(of_topics("subscribe", 0, [&subscribed.filter])),
                Err(error) => What::Refused(frame("subscribe", 0), error.clone()),
            })
            .collect(),
        Reply::Published(results) => results
            .iter()
            .map(|result| match result {
                Ok(_) => What::Authorized(frame("publish", 0)),
                Err(error) => What::Refused(frame("publish", 0), error.clone()),
            })
            .collect(),
        Reply::Authenticated { .. } => vec![What::Authorized(frame("authenticate", 0))],
        Reply::History(_) => vec![What::Authorized(frame("history", 0))],
        Reply::Entered => vec![What::Authorized(frame("enter", 0))],
        Reply::Members { .. } => vec![What::Authorized(frame("members", 0))],
        Reply::Unsubscribed | Reply::Left | Reply::Pong { .. } => Vec::new(),
    }
}

fn frame(kind: &str, n_bytes: usize) -> Frame {
    Frame { kind: kind.to_owned(), bytes: n_bytes as u64, ..Frame::default() }
}

fn of_topics<T: Display>(kind: &str, n_bytes: usize, topics: impl IntoIterator<Item = T>) -> Frame {
    let topics = topics.into_iter().take(TRACE_TOPICS_MAX).map(|topic| topic.to_string());
    Frame { topics: topics.collect(), ..frame(kind, n_bytes) }
}

fn beginning(payload: &Bytes) -> Bytes {
    // A copy: a slice would keep all of it.
    Bytes::copy_from_slice(&payload[..payload.len().min(TRACE_PAYLOAD_BYTES_MAX)])
}

/// The command of a STOMP frame and its destination. What a client sends may begin within one, or with end of lines.
fn stomp_frame(body: &[u8], n_bytes: usize) -> Frame {
    let head = String::from_utf8_lossy(&body[..body.len().min(TRACE_PAYLOAD_BYTES_MAX)]);
    let command = head.trim_start().lines().next().unwrap_or_default();
    let is_command = !command.is_empty() && command.bytes().all(|byte| byte.is_ascii_uppercase());
    let kind = if is_command {
        command
    } else if head.trim().is_empty() {
        "heartbeat"
    } else {
        "bytes"
    };
    let destination = stomp_header(body, "destination");
    let topics = if destination.is_empty() { Vec::new() } else { vec![destination] };
    Frame { topics, ..frame(kind, n_bytes) }
}

fn stomp_header(body: &[u8], name: &str) -> String {
    let head = String::from_utf8_lossy(&body[..body.len().min(TRACE_PAYLOAD_BYTES_MAX)]);
    let mut lines = head.trim_start().lines().take_while(|line| !line.is_empty());
    let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.unwrap_or_default().to_owned()
}
