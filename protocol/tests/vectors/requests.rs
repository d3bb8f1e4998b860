//! One frame for every command, and for every way to start reading.

use bongsu_protocol::command::{
    Command, HistoryQuery, HistoryRange, Request, RequestId, Start, Subscription, Token,
};
use bongsu_protocol::message::{Message, NewMessage, Time};
use bongsu_protocol::position::{Offset, Position};
use bongsu_protocol::topic::{Topic, TopicFilter};
use bytes::Bytes;

pub(crate) fn cases() -> Vec<(&'static str, Vec<Request>)> {
    let mut cases = Vec::new();
    let mut one = |name, command| cases.push((name, vec![Request { id: RequestId(1), command }]));
    one("authenticate", Command::Authenticate(Token("eyJhbGciOiJIUzI1NiJ9.e30.c2ln".to_owned())));

    for (name, from) in [
        ("subscribe from latest", Start::Latest),
        ("subscribe from earliest", Start::Earliest),
        ("subscribe from the last 10", Start::Last(10)),
        ("subscribe after a position", Start::After(Position::new(3, 41))),
        ("subscribe from a time", Start::Time(Time(1_735_689_600_000))),
    ] {
        one(
            name,
            Command::Subscribe(vec![Subscription { filter: filter("chat/room/42"), from, seen: vec![] }]),
        );
    }
    one(
        "subscribe to a pattern and resume",
        Command::Subscribe(vec![
            Subscription {
                filter: filter("chat/+/#"),
                from: Start::Time(Time(1_735_689_600_000)),
                seen: vec![
                    (topic("chat/room/42"), Position::new(3, 41)),
                    (topic("chat/봉수"), Position::new(9_007_199_254_740_991, 0)),
                ],
            },
            Subscription { filter: filter("$presence/chat/room/42"), from: Start::Latest, seen: vec![] },
        ]),
    );
    one("unsubscribe", Command::Unsubscribe(vec![filter("chat/room/42"), filter("#")]));

    for (name, message) in messages() {
        one(name, Command::Publish(vec![NewMessage { topic: topic("chat/room/42"), message, expect: None }]));
    }
    let expecting =
        |offset| NewMessage { topic: topic("a"), message: Message::new("x"), expect: Some(Offset(offset)) };
    one("publish only to an empty log", Command::Publish(vec![expecting(0)]));
    one("publish several", Command::Publish(vec![expecting(7), expecting(9_007_199_254_740_991)]));

    for (name, range) in [
        ("history from the oldest", HistoryRange::Forward(Start::Earliest)),
        ("history after a position", HistoryRange::Forward(Start::After(Position::new(3, 41)))),
        ("history from a time", HistoryRange::Forward(Start::Time(Time(1)))),
        ("history from the last 5", HistoryRange::Forward(Start::Last(5))),
        ("history back from the newest", HistoryRange::Backward(None)),
        ("history back from a position", HistoryRange::Backward(Some(Position::new(3, 41)))),
    ] {
        one(name, Command::History(HistoryQuery { topic: topic("chat/room/42"), range, limit: 50 }));
    }
    let info = Bytes::from(r#"{"name":"Ada","typing":false}"#);
    one("enter", Command::Enter { topic: topic("chat/room/42"), info });
    one("enter without info", Command::Enter { topic: topic("chat/room/42"), info: Bytes::new() });
    one("leave", Command::Leave { topic: topic("chat/room/42") });
    one("members", Command::Members { topic: topic("chat/room/42") });
    one("ping", Command::Ping);

    let numbered = |(id, command)| Request { id: RequestId(id), command };
    let several = [
        (7, Command::Ping),
        (8, Command::Members { topic: topic("a") }),
        (9_007_199_254_740_991, Command::Ping),
    ];
    cases.push(("several requests in one frame", several.into_iter().map(numbered).collect()));
    cases
}

/// One message for each form of a payload.
fn messages() -> Vec<(&'static str, Message)> {
    let typed = |content_type: &str, payload: &'static [u8]| Message {
        payload: Bytes::from_static(payload),
        content_type: content_type.to_owned(),
        ..Message::default()
    };
    let everything = Message {
        headers: vec![
            ("trace-id".to_owned(), "4bf92f3577b34da6".to_owned()),
            ("b".to_owned(), String::new()),
            ("a".to_owned(), "\"quoted\" \\ ü".to_owned()),
        ],
        id: "01JGFJJZ00".to_owned(),
        ..typed("application/json", br#"{"hello":"world"}"#)
    };
    vec![
        ("publish JSON with headers and an id", everything),
        // Spaces and digits are the publisher's: nothing in between reads the value.
        (
            "publish JSON byte for byte",
            typed("application/json", br#"[ 1.0, 1e2 ,12345678901234567890,"\u00e9"]"#),
        ),
        ("publish JSON null", typed("application/json", b"null")),
        ("publish JSON of another type", typed("application/cloudevents+json; charset=utf-8", b"{}")),
        // In JSON, blanks around a value are lost; so it is sent as bytes.
        ("publish JSON with a line end", typed("application/json", b"{}\n")),
        ("publish what only claims to be JSON", typed("application/json", b"{")),
        ("publish text", typed("text/plain; charset=utf-8", "Grüße\n\"봉수\"".as_bytes())),
        ("publish text of another type", typed("text/csv", b"a,b\n1,2\n")),
        ("publish what only claims to be text", typed("text/plain", b"\xff")),
        ("publish bytes", typed("", &[0, 1, 2, 250, 251])),
        ("publish bytes of a type", typed("image/png", &[0x89, b'P', b'N', b'G'])),
        ("publish nothing", typed("", b"")),
    ]
}

fn topic(name: &str) -> Topic {
    Topic::parse(name).unwrap()
}

fn filter(text: &str) -> TopicFilter {
    TopicFilter::parse(text).unwrap()
}
