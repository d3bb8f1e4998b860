//! Arbitrary requests and events that hold every limit.

use std::sync::Arc;

use bongsu_protocol::command::{
    Command, HistoryQuery, HistoryRange, Request, RequestId, Start, Subscription, Token,
};
use bongsu_protocol::event::{
    Event, Lost, LostRange, Member, Page, PresenceChange, Published, Reply, Subscribed, TokenExpiring,
    Welcome,
};
use bongsu_protocol::limits::INTEGER_MAX;
use bongsu_protocol::message::{Delivery, Message, NewMessage, Time};
use bongsu_protocol::position::{Epoch, Offset, Position};
use bongsu_protocol::reason::{CloseReason, Error, ErrorCode, Goodbye};
use bongsu_protocol::topic::{Topic, TopicFilter};
use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

pub(crate) fn request() -> impl Strategy<Value = Request> {
    (1..=INTEGER_MAX, command()).prop_map(|(id, command)| Request { id: RequestId(id), command })
}

fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        1 => ".{0,40}".prop_map(|token| Command::Authenticate(Token(token))),
        1 => vec(subscription(), 1..4).prop_map(Command::Subscribe),
        1 => vec(filter(), 1..4).prop_map(Command::Unsubscribe),
        4 => vec(new_message(), 1..4).prop_map(Command::Publish),
        1 => (topic(), history_range(), 1..=1024_u32)
            .prop_map(|(topic, range, limit)| Command::History(HistoryQuery { topic, range, limit })),
        1 => (topic(), json_or_nothing()).prop_map(|(topic, info)| Command::Enter { topic, info }),
        1 => topic().prop_map(|topic| Command::Leave { topic }),
        1 => topic().prop_map(|topic| Command::Members { topic }),
        1 => Just(Command::Ping),
    ]
}

fn subscription() -> impl Strategy<Value = Subscription> {
    let single = (topic(), start(), option::of(position())).prop_map(|(topic, from, seen)| Subscription {
        seen: seen.map(|position| (topic.clone(), position)).into_iter().collect(),
        filter: topic.into(),
        from,
    });
    let from = start().prop_filter("positions are of single topics", |from| !matches!(from, Start::After(_)));
    let pattern = (filter(), from, vec((topic(), position()), 0..4)).prop_map(|(filter, from, mut seen)| {
        seen.retain(|(topic, _)| filter.matches(topic));
        Subscription { filter, from, seen }
    });
    prop_oneof![single, pattern]
}

fn start() -> impl Strategy<Value = Start> {
    prop_oneof![
        Just(Start::Latest),
        Just(Start::Earliest),
        integer().prop_map(Start::Last),
        position().prop_map(Start::After),
        time().prop_map(Start::Time),
    ]
}

fn history_range() -> impl Strategy<Value = HistoryRange> {
    // Before offset 0 there is nothing: on the wire it stands for "from the newest".
    let before = position().prop_filter("a place with something before it", |position| position.offset.0 > 0);
    prop_oneof![start().prop_map(HistoryRange::Forward), option::of(before).prop_map(HistoryRange::Backward)]
}

fn new_message() -> impl Strategy<Value = NewMessage> {
    (topic(), message(), option::of(integer().prop_map(Offset)))
        .prop_map(|(topic, message, expect)| NewMessage { topic, message, expect })
}

fn message() -> impl Strategy<Value = Message> {
    const TYPES: [&str; 9] = [
        "",
        "application/json",
        "APPLICATION/JSON; charset=utf-8",
        "a/b+json",
        "text/plain; charset=utf-8",
        "text/html",
        "image/png",
        "+json",
        "text",
    ];
    let content_type = prop_oneof![select(&TYPES[..]).prop_map(str::to_owned), "[ -~]{0,20}"];
    (payload(), content_type, headers(), "[^\\p{Cc}]{0,20}")
        .prop_map(|(payload, content_type, headers, id)| Message { payload, content_type, headers, id })
}

fn payload() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        vec(any::<u8>(), 0..100).prop_map(Bytes::from),
        ".{0,40}".prop_map(Bytes::from),
        json_or_nothing(),
        // JSON with blanks around it.
        json_or_nothing().prop_map(|json| Bytes::from([b" \n", &json[..], b"\r\t"].concat())),
    ]
}

/// JSON values in many ways of writing them, and no bytes at all.
fn json_or_nothing() -> impl Strategy<Value = Bytes> {
    let scalar = prop_oneof![
        Just("null".to_owned()),
        Just("1.0e+2".to_owned()),
        Just(r#""\ud834\udd1e \" \\ \/""#.to_owned()),
        ".{0,20}".prop_map(|text| serde_json::to_string(&text).unwrap()),
        any::<i64>().prop_map(|number| number.to_string()),
    ];
    let value = scalar.prop_recursive(4, 20, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(|list| format!("[ {}\n]", list.join(" ,"))),
            vec(inner, 0..4).prop_map(|list| {
                let entries: Vec<_> = list.iter().map(|value| format!("\"twice\": {value}")).collect();
                format!("{{{}}}", entries.join(","))
            }),
        ]
    });
    prop_oneof![1 => Just(Bytes::new()), 9 => value.prop_map(Bytes::from)]
}

fn headers() -> impl Strategy<Value = Vec<(String, String)>> {
    vec(("[^\\p{Cc}]{1,8}", "[^\\p{Cc}]{0,20}"), 0..4).prop_map(|mut headers: Vec<(String, String)>| {
        let mut names = std::collections::HashSet::new();
        headers.retain(|(name, _)| names.insert(name.clone()));
        headers
    })
}

pub(crate) fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        1 => welcome(),
        6 => (integer(), result(reply()))
            .prop_map(|(id, result)| Event::Reply { id: RequestId(id), result }),
        4 => delivery().prop_map(|delivery| Event::Delivery(Arc::new(delivery))),
        1 => lost(),
        1 => (topic(), integer()).prop_map(|(topic, epoch)| Event::Reset { topic, epoch: Epoch(epoch) }),
        1 => (filter(), error()).prop_map(|(filter, error)| Event::Unsubscribed { filter, error }),
        1 => Just(Event::Heartbeat),
        1 => (time(), integer())
            .prop_map(|(expires_at, in_ms)| Event::TokenExpiring(TokenExpiring { expires_at, in_ms })),
        1 => goodbye(),
    ]
}

fn welcome() -> impl Strategy<Value = Event> {
    let names = (".{0,10}", ".{0,10}", ".{0,10}");
    (names, time(), integer(), integer()).prop_map(
        |((session, node, subject), time, heartbeat_ms, frame_bytes_max)| {
            Event::Welcome(Welcome { session, node, subject, time, heartbeat_ms, frame_bytes_max })
        },
    )
}

fn reply() -> impl Strategy<Value = Reply> {
    let published = (option::of(position()), any::<bool>())
        .prop_map(|(position, duplicate)| Published { position, duplicate });
    let subscribed = (filter(), time(), vec((topic(), position()), 0..3))
        .prop_map(|(filter, since, positions)| Subscribed { filter, since, positions });
    let page = (vec(delivery().prop_map(Arc::new), 0..3), position(), position(), any::<bool>())
        .prop_map(|(messages, first, head, more)| Page { messages, first, head, more });
    prop_oneof![
        ".{0,10}".prop_map(|subject| Reply::Authenticated { subject }),
        vec(result(subscribed), 0..3).prop_map(Reply::Subscribed),
        Just(Reply::Unsubscribed),
        vec(result(published), 0..3).prop_map(Reply::Published),
        page.prop_map(Reply::History),
        Just(Reply::Entered),
        Just(Reply::Left),
        (vec(member(), 0..3), integer()).prop_map(|(members, total)| Reply::Members { members, total }),
        time().prop_map(|time| Reply::Pong { time }),
    ]
}

fn member() -> impl Strategy<Value = Member> {
    (".{0,10}", ".{0,10}", json_or_nothing(), time()).prop_map(|(session, subject, info, since)| Member {
        session,
        subject,
        info,
        since,
    })
}

pub(crate) fn presence_change() -> impl Strategy<Value = PresenceChange> {
    let leave = ".{0,10}".prop_map(|session| PresenceChange::Leave { session });
    prop_oneof![member().prop_map(PresenceChange::Join), leave]
}

pub(crate) fn delivery() -> impl Strategy<Value = Delivery> {
    (topic(), option::of(position()), time(), ".{0,10}", message(), any::<bool>()).prop_map(
        |(topic, position, time, publisher, message, erased)| {
            // Of an erased message, the id is left.
            let message = if erased { Message { id: message.id, ..Message::default() } } else { message };
            Delivery { topic, position, time, publisher, message, erased }
        },
    )
}

fn lost() -> impl Strategy<Value = Event> {
    let range = (integer(), 1..=INTEGER_MAX, integer()).prop_map(|(epoch, from, until)| LostRange {
        epoch: Epoch(epoch),
        from: Offset(from),
        until: Offset(until),
    });
    (topic(), option::of(range), integer())
        .prop_map(|(topic, range, count)| Event::Lost(Lost { topic, range, count }))
}

fn goodbye() -> impl Strategy<Value = Event> {
    (select(&CloseReason::ALL[..]), ".{0,20}", option::of(integer()))
        .prop_map(|(reason, text, retry_after_ms)| Event::Goodbye(Goodbye { reason, text, retry_after_ms }))
}

fn error() -> impl Strategy<Value = Error> {
    (select(&ErrorCode::ALL[..]), ".{0,20}", option::of(integer()), option::of(position()))
        .prop_map(|(code, text, retry_after_ms, head)| Error { code, text, retry_after_ms, head })
}

fn result<T: std::fmt::Debug>(fine: impl Strategy<Value = T>) -> impl Strategy<Value = Result<T, Error>> {
    prop_oneof![3 => fine.prop_map(Ok), 1 => error().prop_map(Err)]
}

/// Topics that overlap often, and some with every kind of character.
fn topic() -> impl Strategy<Value = Topic> {
    let name = prop_oneof![3 => "[ab](/[ab]){0,3}", 1 => "[^\\p{Cc}+#/$]{1,5}(/[^\\p{Cc}+#/]{1,5}){0,2}"];
    name.prop_map(|name| Topic::parse(&name).unwrap())
}

fn filter() -> impl Strategy<Value = TopicFilter> {
    let text = prop_oneof![
        "[ab+](/[ab+]){0,3}(/#)?",
        Just("#".to_owned()),
        Just("$presence/a".to_owned()),
        topic().prop_map(|topic| topic.to_string()),
    ];
    text.prop_map(|text| TopicFilter::parse(&text).unwrap())
}

fn position() -> impl Strategy<Value = Position> {
    (integer(), integer()).prop_map(|(epoch, offset)| Position::new(epoch, offset))
}

fn time() -> impl Strategy<Value = Time> {
    integer().prop_map(Time)
}

/// Numbers of every length on the wire, the ends often.
fn integer() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0),
        Just(1),
        Just(INTEGER_MAX),
        (0..=53_u32, any::<u64>()).prop_map(|(bits, number)| number & ((1_u64 << bits) - 1))
    ]
}
