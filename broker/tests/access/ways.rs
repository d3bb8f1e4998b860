//! How each way in does what somebody wants, and what came of it.

use bongsu_protocol::command::{Command, HistoryQuery, HistoryRange, Start};
use bongsu_protocol::event::Reply;
use bongsu_protocol::message::{Message, NewMessage};
use bongsu_protocol::reason::{Error, ErrorCode};
use bongsu_protocol::stomp;
use bongsu_protocol::topic::Topic;
use bytes::Bytes;
use serde_json::json;

use crate::native::Native;
use crate::oracle::{Action, ROOM};
use crate::support::http::Exchange;
use crate::support::stomp::{Came, Stomp};
use crate::world::World;

/// A way in that is no session of the native protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    StompTcp,
    StompWebSocket,
    EventStream,
    JsonLines,
    Poll,
    CatchUp,
    LongPoll,
    StreamEvents,
    Publish,
    Append,
}

impl Way {
    pub(crate) const ALL: [Self; 10] = [
        Self::StompTcp,
        Self::StompWebSocket,
        Self::EventStream,
        Self::JsonLines,
        Self::Poll,
        Self::CatchUp,
        Self::LongPoll,
        Self::StreamEvents,
        Self::Publish,
        Self::Append,
    ];
}

/// What stands in the messages that are published to see who gets them.
pub(crate) const MARK: &str = "for whoever may read";

pub(crate) fn topic(name: &str) -> Topic {
    Topic::parse(name).unwrap()
}

pub(crate) fn message(name: &str, text: &str) -> NewMessage {
    let payload = Bytes::from(json!(text).to_string());
    let message = Message { payload, content_type: "application/json".to_owned(), ..Message::default() };
    NewMessage { topic: topic(name), message, expect: None }
}

fn is_let_in<T>(action: Action, result: Result<T, Error>) -> bool {
    match result {
        Ok(_) => true,
        Err(error) => match error.code {
            ErrorCode::Forbidden | ErrorCode::Unauthenticated => false,
            // Let in, and nothing was there.
            ErrorCode::NotFound => true,
            // No message of a client has such a topic, whoever it is.
            ErrorCode::BadRequest if action == Action::PublishReserved => false,
            _ => panic!("neither allowed nor denied: {error}"),
        },
    }
}

/// Whether a session may; and if it reads then, that it gets what is published, and nothing if it may not.
pub(crate) async fn by_native(world: &World, native: &mut Native, action: Action) -> bool {
    let room = || topic(ROOM);
    let start = match action {
        Action::Earliest | Action::EarliestUnder => Start::Earliest,
        _ => Start::Latest,
    };
    let command = match action {
        Action::History | Action::WatchHistory => {
            let range = HistoryRange::Forward(Start::Earliest);
            Command::History(HistoryQuery { topic: topic(action.filter()), range, limit: 10 })
        }
        Action::Publish | Action::PublishReserved => {
            Command::Publish(vec![message(action.filter(), "from a client")])
        }
        Action::Enter => Command::Enter { topic: room(), info: Bytes::new() },
        Action::Members => Command::Members { topic: room() },
        _ => return reads(world, native, action, start).await,
    };
    match native.ask(command).await {
        Ok(Reply::Published(mut results)) => is_let_in(action, results.remove(0)),
        result => {
            if action == Action::Enter && result.is_ok() {
                native.ask(Command::Leave { topic: room() }).await.unwrap();
            }
            is_let_in(action, result)
        }
    }
}

async fn reads(world: &World, native: &mut Native, action: Action, start: Start) -> bool {
    drop(native.deliveries().await);
    let is_allowed = is_let_in(action, native.subscribe(action.filter(), start).await);
    let tells_messages = !matches!(
        action,
        Action::Sys | Action::Watch | Action::WatchUnder | Action::WatchAll | Action::WatchHistory
    );
    if tells_messages {
        world.publish(ROOM, &json!(MARK));
        if is_allowed {
            // What is kept comes first.
            let is_mark = |delivery: &bongsu_protocol::message::Delivery| {
                delivery.message.payload == format!("\"{MARK}\"")
            };
            while !is_mark(&native.delivery().await.unwrap()) {}
        } else {
            let came = native.deliveries().await;
            assert!(came.is_empty(), "denied, and still delivered: {came:?}");
        }
    }
    let filters = vec![bongsu_protocol::topic::TopicFilter::parse(action.filter()).unwrap()];
    native.ask(Command::Unsubscribe(filters)).await.unwrap();
    is_allowed
}

/// Whether a token may; `None` where this way in has no such thing.
pub(crate) async fn by_other(world: &World, way: Way, token: &str, action: Action) -> Option<bool> {
    match way {
        Way::StompTcp | Way::StompWebSocket => by_stomp(world, way, token, action).await,
        _ => by_http(world, way, token, action),
    }
}

async fn by_stomp(world: &World, way: Way, token: &str, action: Action) -> Option<bool> {
    let command = match action {
        Action::Publish => "SEND\ndestination:/topic/m.ada.room\nreceipt:r\n\nhi^",
        Action::PublishReserved => "SEND\ndestination:/topic/$sys.sessions.n\nreceipt:r\n\nhi^",
        Action::Latest => "SUBSCRIBE\nid:s\ndestination:/topic/m.ada.room\nreceipt:r\n\n^",
        Action::LatestUnder => "SUBSCRIBE\nid:s\ndestination:/topic/m.ada.#\nreceipt:r\n\n^",
        Action::LatestOfAll => "SUBSCRIBE\nid:s\ndestination:/topic/#\nreceipt:r\n\n^",
        Action::Earliest => "SUBSCRIBE\nid:s\ndestination:/topic/m.ada.room\noffset:first\nreceipt:r\n\n^",
        Action::EarliestUnder => "SUBSCRIBE\nid:s\ndestination:/topic/m.ada.#\noffset:first\nreceipt:r\n\n^",
        Action::Watch => "SUBSCRIBE\nid:s\ndestination:/topic/$presence.m.ada.room\nreceipt:r\n\n^",
        Action::WatchUnder => "SUBSCRIBE\nid:s\ndestination:/topic/$presence.m.ada.#\nreceipt:r\n\n^",
        Action::WatchAll => "SUBSCRIBE\nid:s\ndestination:/topic/$presence.#\nreceipt:r\n\n^",
        Action::Sys => "SUBSCRIBE\nid:s\ndestination:/topic/$sys.#\nreceipt:r\n\n^",
        Action::History | Action::Enter | Action::Members | Action::WatchHistory => return None,
    };
    let mut stomp = match way {
        Way::StompTcp => Stomp::silent(world.stomp).await,
        _ => Stomp::web_socket(world.address, "/stomp", "").await.0,
    };
    stomp.log_in("1.2", &format!("passcode:{token}\n")).await;
    stomp.say(command).await;
    loop {
        match stomp.hear().await {
            Came::Frame(frame) if frame.command == stomp::Command::Receipt => return Some(true),
            Came::Frame(frame) if frame.command == stomp::Command::Message => {}
            Came::Frame(frame) => {
                let message = frame.header("message").unwrap_or_default();
                let is_refused = message == "access_refused" || action == Action::PublishReserved;
                assert!(is_refused, "{action:?}: {frame:?}");
                return Some(false);
            }
            Came::End(code) => panic!("the end without a word: {code:?}"),
        }
    }
}

fn by_http(world: &World, way: Way, token: &str, action: Action) -> Option<bool> {
    let bearer = format!("Bearer {token}");
    let ask = |method, path: &str, headers: &[(&str, &str)], body: &str| {
        let mut all = vec![("authorization", bearer.as_str()), ("content-type", "application/json")];
        all.extend_from_slice(headers);
        Exchange::begin(world.address, method, path, &all, body)
    };
    let filter = action.filter().replace('#', "%23").replace('$', "%24");
    let stream = format!("/v1/stream/{filter}");
    let one = matches!(action, Action::Latest | Action::Earliest | Action::History);
    let mut answer = match (way, action) {
        (Way::Publish, Action::Publish | Action::PublishReserved) => {
            let body = json!({ "topic": action.filter(), "data": "from a client" }).to_string();
            ask("POST", "/v1/publish", &[], &body)
        }
        (Way::Append, Action::Publish | Action::PublishReserved) => ask("POST", &stream, &[], "[1]"),
        (Way::EventStream | Way::JsonLines, _) => {
            let from = match action {
                Action::Earliest | Action::EarliestUnder => "earliest",
                Action::WatchHistory => "earliest",
                Action::History
                | Action::Publish
                | Action::PublishReserved
                | Action::Enter
                | Action::Members => return None,
                _ => "latest",
            };
            let accept = if way == Way::EventStream { "text/event-stream" } else { "application/x-ndjson" };
            ask("GET", &format!("/v1/events?topic={filter}&from={from}"), &[("accept", accept)], "")
        }
        (Way::Poll, Action::History | Action::Earliest) => {
            let wait_ms = u64::from(action == Action::Earliest);
            let body = json!({ "topics": { action.filter(): "earliest" }, "wait_ms": wait_ms }).to_string();
            ask("POST", "/v1/poll", &[], &body)
        }
        (Way::CatchUp, Action::Latest) => ask("GET", &format!("{stream}?offset=now"), &[], ""),
        (Way::CatchUp, Action::History) => ask("GET", &format!("{stream}?offset=-1"), &[], ""),
        (Way::LongPoll | Way::StreamEvents, _) if one && action != Action::History => {
            let live = if way == Way::LongPoll { "long-poll" } else { "sse" };
            let offset = if action == Action::Latest { "now" } else { "-1" };
            ask("GET", &format!("{stream}?offset={offset}&live={live}&timeout=0"), &[], "")
        }
        _ => return None,
    };
    let is_allowed = match answer.status {
        200..=299 | 404 => true,
        401 | 403 => false,
        400 if action == Action::PublishReserved => false,
        other => panic!("{way:?}, {action:?}: neither allowed nor denied: {other}, {:?}", answer.line()),
    };
    let reads_on = matches!(way, Way::EventStream | Way::JsonLines | Way::StreamEvents);
    let is_of_room =
        one || matches!(action, Action::LatestUnder | Action::EarliestUnder | Action::LatestOfAll);
    if is_allowed && reads_on && is_of_room {
        world.publish(ROOM, &json!(MARK));
        while !answer.line().expect("what was published comes").contains(MARK) {}
    }
    Some(is_allowed)
}
