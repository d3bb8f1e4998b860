//! One frame for every event, reply, error code and close reason.

use std::sync::Arc;

use bongsu_protocol::command::RequestId;
use bongsu_protocol::event::{
    Event, Lost, LostRange, Member, Page, Published, Reply, Subscribed, TokenExpiring, Welcome,
};
use bongsu_protocol::message::{Delivery, Message, Time};
use bongsu_protocol::position::{Epoch, Offset, Position};
use bongsu_protocol::reason::{CloseReason, Error, ErrorCode, Goodbye};
use bongsu_protocol::topic::{Topic, TopicFilter};
use bytes::Bytes;

const NOON: Time = Time(1_735_732_800_000);

pub(crate) fn cases() -> Vec<(String, Vec<Event>)> {
    let mut cases = vec![
        ("welcome".to_owned(), vec![welcome("ada")]),
        ("welcome, anonymous".to_owned(), vec![welcome("")]),
    ];
    for (name, result) in replies() {
        cases.push((format!("reply: {name}"), vec![reply(Ok(result))]));
    }
    for error in errors() {
        cases.push((format!("error: {}", error.code), vec![reply(Err(error))]));
    }
    for (name, delivery) in deliveries() {
        cases.push((format!("delivery: {name}"), vec![Event::Delivery(Arc::new(delivery))]));
    }
    for (name, event) in others() {
        cases.push((name.to_owned(), vec![event]));
    }
    for reason in CloseReason::ALL {
        let goodbye = Goodbye::new(reason, "what happened, for people");
        cases.push((format!("goodbye: {reason}"), vec![Event::Goodbye(goodbye)]));
    }
    let later = Goodbye { retry_after_ms: Some(2500), ..Goodbye::new(CloseReason::GoingAway, "") };
    cases.push(("goodbye with a time to wait".to_owned(), vec![Event::Goodbye(later)]));
    let several = deliveries().into_iter().take(2).map(|(_, delivery)| Event::Delivery(Arc::new(delivery)));
    cases.push(("several events in one frame".to_owned(), several.chain([Event::Heartbeat]).collect()));
    cases
}

fn welcome(subject: &str) -> Event {
    Event::Welcome(Welcome {
        session: "n1-8f14e45f".to_owned(),
        node: "n1".to_owned(),
        subject: subject.to_owned(),
        time: NOON,
        heartbeat_ms: 25_000,
        frame_bytes_max: 2_097_152,
    })
}

fn reply(result: Result<Reply, Error>) -> Event {
    Event::Reply { id: RequestId(7), result }
}

fn replies() -> Vec<(&'static str, Reply)> {
    let subscribed = |name: &str, positions| Subscribed { filter: filter(name), since: NOON, positions };
    let forbidden = || Error::new(ErrorCode::Forbidden, "your token does not allow it");
    let members = vec![
        Member {
            session: "n1-1".to_owned(),
            subject: "ada".to_owned(),
            info: Bytes::from(r#"{"name":"Ada"}"#),
            since: Time(1),
        },
        Member { session: "n2-9".to_owned(), subject: String::new(), info: Bytes::new(), since: NOON },
    ];
    let deliveries: Vec<_> =
        deliveries().into_iter().take(2).map(|(_, delivery)| Arc::new(delivery)).collect();
    vec![
        ("authenticated", Reply::Authenticated { subject: "ada".to_owned() }),
        (
            "subscribed, and refused",
            Reply::Subscribed(vec![
                Ok(subscribed("chat/room/42", vec![(topic("chat/room/42"), Position::new(3, 41))])),
                Ok(subscribed("live/#", vec![])),
                Err(forbidden()),
            ]),
        ),
        ("unsubscribed", Reply::Unsubscribed),
        (
            "published, and refused",
            Reply::Published(vec![
                Ok(Published { position: Some(Position::new(3, 42)), duplicate: false }),
                Ok(Published { position: Some(Position::new(3, 7)), duplicate: true }),
                Ok(Published { position: None, duplicate: false }),
                Err(Error {
                    head: Some(Position::new(3, 42)),
                    ..Error::new(ErrorCode::Conflict, "the newest offset is 42")
                }),
            ]),
        ),
        (
            "history",
            Reply::History(Page {
                messages: deliveries,
                first: Position::new(3, 1),
                head: Position::new(3, 42),
                more: true,
            }),
        ),
        (
            "history of a log without messages",
            Reply::History(Page {
                messages: vec![],
                first: Position::new(0, 1),
                head: Position::new(0, 0),
                more: false,
            }),
        ),
        ("entered", Reply::Entered),
        ("left", Reply::Left),
        ("members", Reply::Members { members, total: 2 }),
        ("members, none", Reply::Members { members: vec![], total: 0 }),
        ("pong", Reply::Pong { time: NOON }),
    ]
}

/// One for each code, with the advice that goes with it.
fn errors() -> Vec<Error> {
    let error = |code: ErrorCode| {
        let error = Error::new(code, "what happened and what to do, for people");
        match code {
            ErrorCode::Conflict => Error { head: Some(Position::new(3, 42)), ..error },
            code if code.is_retryable() => error.retry_after(1500),
            _ => error,
        }
    };
    ErrorCode::ALL.into_iter().map(error).collect()
}

/// One for each form of a payload.
fn deliveries() -> Vec<(&'static str, Delivery)> {
    let delivery = |content_type: &str, payload: &'static [u8]| Delivery {
        topic: topic("chat/room/42"),
        position: Some(Position::new(3, 42)),
        time: NOON,
        publisher: "ada".to_owned(),
        message: Message {
            payload: Bytes::from_static(payload),
            content_type: content_type.to_owned(),
            ..Message::default()
        },
        erased: false,
    };
    let mut full = delivery("application/json", br#"{"hello": "world", "n": 1.0}"#);
    full.message.headers =
        vec![("trace-id".to_owned(), "4bf92f3577b34da6".to_owned()), ("a".to_owned(), String::new())];
    full.message.id = "01JGFJJZ00".to_owned();
    let live = Delivery {
        position: None,
        publisher: String::new(),
        ..delivery("text/plain; charset=utf-8", "봉수 \"1\"\n".as_bytes())
    };
    let mut erased = Delivery { erased: true, ..delivery("", b"") };
    erased.message.id = "01JGFJJZ00".to_owned();
    vec![
        ("JSON with everything", full),
        ("text on a live topic, from an anonymous publisher", live),
        ("bytes", delivery("", &[0, 1, 2, 250, 251])),
        ("bytes of a type", delivery("image/png", &[0x89, b'P', b'N', b'G'])),
        ("JSON of another type", delivery("application/cloudevents+json; charset=utf-8", b"[1,2]")),
        ("what only claims to be JSON", delivery("application/json", b"{")),
        ("what only claims to be text", delivery("text/plain", b"\xff")),
        ("nothing", delivery("", b"")),
        ("erased", erased),
    ]
}

fn others() -> Vec<(&'static str, Event)> {
    let range = LostRange { epoch: Epoch(3), from: Offset(42), until: Offset(99) };
    let revoked = Error::new(ErrorCode::Forbidden, "your new token does not allow it");
    vec![
        (
            "lost from a log",
            Event::Lost(Lost { topic: topic("chat/room/42"), range: Some(range), count: 58 }),
        ),
        ("lost from a live topic", Event::Lost(Lost { topic: topic("prices/eur"), range: None, count: 12 })),
        ("reset", Event::Reset { topic: topic("chat/room/42"), epoch: Epoch(4) }),
        ("unsubscribed", Event::Unsubscribed { filter: filter("chat/#"), error: revoked }),
        ("heartbeat", Event::Heartbeat),
        ("token expiring", Event::TokenExpiring(TokenExpiring { expires_at: NOON, in_ms: 60_000 })),
    ]
}

fn topic(name: &str) -> Topic {
    Topic::parse(name).unwrap()
}

fn filter(text: &str) -> TopicFilter {
    TopicFilter::parse(text).unwrap()
}
