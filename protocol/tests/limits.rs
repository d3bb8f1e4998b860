//! Each limit holds in both formats: what is at the limit is taken, what is one past it is refused, and how.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

use bongsu_protocol::codec::{self, Format, Malformed};
use bongsu_protocol::command::{
    Command, HistoryQuery, HistoryRange, Request, RequestId, Start, Subscription, Token,
};
use bongsu_protocol::limits::*;
use bongsu_protocol::message::{Message, NewMessage, Time};
use bongsu_protocol::position::{Offset, Position};
use bongsu_protocol::reason::ErrorCode;
use bongsu_protocol::topic::{Topic, TopicFilter};
use bytes::{Bytes, BytesMut};

fn decode(format: Format, commands: Vec<Command>) -> Result<Vec<Result<Command, ErrorCode>>, Malformed> {
    let numbered = commands.into_iter().zip(1..);
    let requests: Vec<_> = numbered.map(|(command, id)| Request { id: RequestId(id), command }).collect();
    let mut frame = BytesMut::new();
    codec::encode_requests(format, &requests, &mut frame);
    let decoded = codec::decode_requests(format, &frame.freeze())?;
    let outcome = |one: Result<Request, codec::Refused>| match one {
        Ok(request) => Ok(request.command),
        Err(refused) => Err(refused.error.code),
    };
    Ok(decoded.into_iter().map(outcome).collect())
}

/// Checks that `at(n_max)` is taken as it is, and `at(n_max + 1)` refused.
fn check(limit: usize, at: impl Fn(usize) -> Command, code: ErrorCode) {
    for format in Format::ALL {
        let fine = at(limit);
        assert_eq!(decode(format, vec![fine.clone()]).unwrap(), [Ok(fine)], "{limit} in {format:?}");
        assert_eq!(decode(format, vec![at(limit + 1)]).unwrap(), [Err(code)], "past {limit} in {format:?}");
    }
}

fn topic() -> Topic {
    Topic::parse("a").unwrap()
}

fn publish(message: Message) -> Command {
    Command::Publish(vec![NewMessage { topic: topic(), message, expect: None }])
}

fn subscribe(from: Start) -> Command {
    Command::Subscribe(vec![Subscription { filter: topic().into(), from, seen: vec![] }])
}

#[test]
fn messages_hold_their_limits() {
    let bytes = |n| Bytes::from(vec![0; n]);
    check(PAYLOAD_BYTES_MAX, |n| publish(Message::new(bytes(n))), ErrorCode::TooLarge);
    let text = |n| "x".repeat(n);
    let content_type = |n| publish(Message { content_type: text(n), ..Message::default() });
    check(CONTENT_TYPE_BYTES_MAX, content_type, ErrorCode::BadRequest);
    check(
        MESSAGE_ID_BYTES_MAX,
        |n| publish(Message { id: text(n), ..Message::default() }),
        ErrorCode::BadRequest,
    );
    let many = |n: usize| (0..n).map(|idx| (idx.to_string(), String::new())).collect();
    check(
        HEADERS_MAX,
        |n| publish(Message { headers: many(n), ..Message::default() }),
        ErrorCode::BadRequest,
    );
    let long = |n| vec![("n".to_owned(), text(n - 1))];
    check(
        HEADER_BYTES_MAX,
        |n| publish(Message { headers: long(n), ..Message::default() }),
        ErrorCode::BadRequest,
    );
}

#[test]
fn requests_hold_their_limits() {
    let message = || NewMessage { topic: topic(), message: Message::default(), expect: None };
    let messages = |n| Command::Publish(vec![message(); n]);
    check(MESSAGES_PER_PUBLISH_MAX, messages, ErrorCode::BadRequest);
    let subscription = || Subscription { filter: topic().into(), from: Start::Latest, seen: vec![] };
    let subscriptions = |n| Command::Subscribe(vec![subscription(); n]);
    check(FILTERS_PER_REQUEST_MAX, subscriptions, ErrorCode::BadRequest);
    let filters = |n| Command::Unsubscribe(vec![topic().into(); n]);
    check(FILTERS_PER_REQUEST_MAX, filters, ErrorCode::BadRequest);
    let seen = |n| vec![(topic(), Position::new(1, 1)); n];
    check(
        SEEN_MAX,
        |n| Command::Subscribe(vec![Subscription { seen: seen(n), ..subscription() }]),
        ErrorCode::BadRequest,
    );
    check(TOKEN_BYTES_MAX, |n| Command::Authenticate(Token("x".repeat(n))), ErrorCode::BadRequest);
    let info = |n| Bytes::from(format!("\"{}\"", "x".repeat(n - 2)));
    check(INFO_BYTES_MAX, |n| Command::Enter { topic: topic(), info: info(n) }, ErrorCode::TooLarge);
}

#[test]
fn lists_have_at_least_one_element() {
    for format in Format::ALL {
        for empty in [Command::Subscribe(vec![]), Command::Unsubscribe(vec![]), Command::Publish(vec![])] {
            assert_eq!(decode(format, vec![empty]).unwrap(), [Err(ErrorCode::BadRequest)], "{format:?}");
        }
        assert!(matches!(decode(format, vec![]), Err(Malformed::Structure(_))), "{format:?}");
    }
}

#[test]
fn frames_hold_their_limit() {
    for format in Format::ALL {
        let fine = decode(format, vec![Command::Ping; REQUESTS_PER_FRAME_MAX]).unwrap();
        assert_eq!(fine.len(), REQUESTS_PER_FRAME_MAX);
        let past = decode(format, vec![Command::Ping; REQUESTS_PER_FRAME_MAX + 1]);
        assert!(matches!(past, Err(Malformed::Structure(_))), "{format:?}");
    }
}

#[test]
fn integers_stay_within_what_every_peer_can_hold() {
    let max = usize::try_from(INTEGER_MAX).unwrap();
    let offset = |n: usize| Position::new(1, n as u64);
    let epoch = |n: usize| Position::new(n as u64, 1);
    let code = ErrorCode::BadRequest;
    check(max, |n| subscribe(Start::Last(n as u64)), code);
    check(max, |n| subscribe(Start::Time(Time(n as u64))), code);
    check(max, |n| subscribe(Start::After(offset(n))), code);
    check(max, |n| subscribe(Start::After(epoch(n))), code);
    let seen = |position| {
        Command::Subscribe(vec![Subscription {
            filter: topic().into(),
            from: Start::Latest,
            seen: vec![(topic(), position)],
        }])
    };
    check(max, |n| seen(offset(n)), code);
    let before = |position| {
        let range = HistoryRange::Backward(Some(position));
        Command::History(HistoryQuery { topic: topic(), range, limit: 1 })
    };
    check(max, |n| before(epoch(n)), code);
    let expecting = |n| {
        let expect = Some(Offset(n as u64));
        Command::Publish(vec![NewMessage { topic: topic(), message: Message::default(), expect }])
    };
    check(max, expecting, code);
}

#[test]
fn presence_needs_room_for_its_own_topic() {
    let name = |n| Topic::parse(&"x".repeat(n)).unwrap();
    let enter = |topic| Command::Enter { topic, info: Bytes::new() };
    check(TOPIC_BYTES_MAX - "$presence/".len(), |n| enter(name(n)), ErrorCode::BadRequest);
    let deep = |n| Topic::parse(&vec!["x"; n].join("/")).unwrap();
    check(TOPIC_LEVELS_MAX - 1, |n| enter(deep(n)), ErrorCode::BadRequest);
}

#[test]
fn a_page_has_a_default_and_a_largest_size() {
    let history = |limit| {
        let range = HistoryRange::Backward(None);
        Command::History(HistoryQuery { topic: topic(), range, limit })
    };
    for format in Format::ALL {
        for (asked, taken) in
            [(0, PAGE_MESSAGES_DEFAULT), (1, 1), (1024, PAGE_MESSAGES_MAX), (u32::MAX, PAGE_MESSAGES_MAX)]
        {
            let expected = history(u32::try_from(taken).unwrap());
            assert_eq!(
                decode(format, vec![history(asked)]).unwrap(),
                [Ok(expected)],
                "{asked} in {format:?}"
            );
        }
    }
}

#[test]
fn json_is_not_deeper_than_any_peer_can_read() {
    let nested = |n| Bytes::from("[".repeat(n) + "\"]{[\\\"[\"" + &"]".repeat(n));
    let publish = |depth| {
        let message = Message { content_type: "application/json".to_owned(), ..Message::new(nested(depth)) };
        publish(message)
    };
    // A publisher that says it in JSON is refused.
    for (depth, expected) in [(JSON_DEPTH_MAX, None), (JSON_DEPTH_MAX + 1, Some(ErrorCode::BadRequest))] {
        let json = String::from_utf8(nested(depth).to_vec()).unwrap();
        for request in [
            format!(r#"{{"id":1,"publish":{{"messages":[{{"topic":"a","data":{json}}}]}}}}"#),
            format!(r#"{{"id":1,"enter":{{"topic":"a","info":{json}}}}}"#),
        ] {
            let decoded = codec::decode_requests(Format::Json, &Bytes::from(request)).unwrap();
            assert_eq!(decoded[0].as_ref().err().map(|refused| refused.error.code), expected);
        }
    }
    // What comes as bytes is taken, and readers of JSON see base64.
    for (depth, form) in [(JSON_DEPTH_MAX, "\"data\":"), (JSON_DEPTH_MAX + 1, "\"bytes\":")] {
        assert_eq!(decode(Format::Binary, vec![publish(depth)]).unwrap(), [Ok(publish(depth))]);
        let Command::Publish(list) = publish(depth) else { unreachable!("made as one") };
        let mut frame = BytesMut::new();
        let delivery = bongsu_protocol::message::Delivery {
            topic: topic(),
            position: None,
            time: Time(1),
            publisher: String::new(),
            message: list[0].message.clone(),
            erased: false,
        };
        codec::encode_delivery(Format::Json, &delivery, &mut frame);
        assert!(std::str::from_utf8(&frame).unwrap().contains(form), "{depth}");
    }
}

#[test]
fn a_filter_of_the_broker_may_be_read_but_not_written() {
    let filter = TopicFilter::parse("$presence/a").unwrap();
    let read = Command::Subscribe(vec![Subscription { filter, from: Start::Latest, seen: vec![] }]);
    let topic = Topic::parse("$presence/a").unwrap();
    let write = Command::Publish(vec![NewMessage { topic, message: Message::default(), expect: None }]);
    for format in Format::ALL {
        let outcome = decode(format, vec![read.clone(), write.clone()]).unwrap();
        assert_eq!(outcome, [Ok(read.clone()), Err(ErrorCode::BadRequest)]);
    }
}
