//! The fuzz targets, as plain functions: `tests/fuzz.rs` runs them for a bounded time on stable Rust, and the package
//! in this folder runs them under libFuzzer.
//!
//! Each takes any bytes, panics if a promise of the crate is broken, and returns what came of the bytes in a few words. An
//! outcome that was not seen before makes an input worth mutating further.

use std::sync::Arc;
use std::time::Duration;

use bongsu_protocol::codec::{self, Format};
use bongsu_protocol::command::{Command, Request};
use bongsu_protocol::event::{Event, Published};
use bongsu_protocol::eventstream::Bookmark;
use bongsu_protocol::message::{Delivery, Message, Time};
use bongsu_protocol::position::Position;
use bongsu_protocol::session::{self, Bounds, Grants, TopicKind};
use bongsu_protocol::sockjs;
use bongsu_protocol::stomp::conversation::{Effect, Outgoing, Settings};
use bongsu_protocol::stomp::destination::Vocabulary;
use bongsu_protocol::stomp::{self, Conversation, Decoder, Frame, Refusal, Version};
use bongsu_protocol::topic::{Topic, TopicFilter};
use bytes::{Bytes, BytesMut};

/// Runs one target on one input. Its name is also that of its folder of findings.
pub(crate) fn run(target: &str, bytes: &[u8]) -> String {
    match target {
        "requests_json" => requests(Format::Json, bytes),
        "requests_binary" => requests(Format::Binary, bytes),
        "events_json" => events(Format::Json, bytes),
        "events_binary" => events(Format::Binary, bytes),
        "topics" => topics(bytes),
        "stomp" => stomp(bytes),
        "conversation" => conversation(bytes),
        "sockjs" => sockjs(bytes),
        other => panic!("there is no target {other}"),
    }
}

/// What a broker takes from a client can be said again, in either format, and means the same.
fn requests(format: Format, bytes: &[u8]) -> String {
    let decoded = match codec::decode_requests(format, &Bytes::copy_from_slice(bytes)) {
        Ok(decoded) => decoded,
        Err(malformed) => return gist(&malformed.to_string()),
    };
    let mut outcome = String::new();
    for one in decoded.into_iter().take(4) {
        match one {
            Ok(request) => {
                outcome.push_str(&format!("{:?} ", std::mem::discriminant(&request.command)));
                said_again(Format::Binary, &request);
                // An info that came in binary may be no JSON, and then JSON cannot say it.
                if format == Format::Json || !matches!(request.command, Command::Enter { .. }) {
                    said_again(Format::Json, &request);
                }
            }
            Err(refused) => {
                assert!(refused.error.text.len() <= bongsu_protocol::limits::TEXT_BYTES_MAX);
                outcome.push_str(&gist(&refused.error.text));
            }
        }
    }
    outcome
}

fn said_again(format: Format, request: &Request) {
    let mut frame = BytesMut::new();
    codec::encode_requests(format, std::slice::from_ref(request), &mut frame);
    let again = codec::decode_requests(format, &frame.freeze()).expect("what was written is a frame");
    let again: Vec<_> = again.into_iter().collect();
    assert_eq!(again, [Ok(request.clone())], "in {format:?}");
}

/// What a client takes from a broker can be said again and means the same; in JSON, it is a frame.
fn events(format: Format, bytes: &[u8]) -> String {
    let events = match codec::decode_events(format, &Bytes::copy_from_slice(bytes)) {
        Ok(events) => events,
        Err(malformed) => return gist(&malformed.to_string()),
    };
    let mut binary = BytesMut::new();
    codec::encode_events(Format::Binary, &events, &mut binary);
    let again = codec::decode_events(Format::Binary, &binary.freeze());
    assert_eq!(again.as_ref(), Ok(&events));
    let mut json = BytesMut::new();
    codec::encode_events(Format::Json, &events, &mut json);
    let again = codec::decode_events(Format::Json, &json.freeze()).expect("what was written is a frame");
    assert_eq!(again.len(), events.len());
    let kind = |event: &Event| match event {
        Event::Reply { result: Ok(reply), .. } => format!("{:?} ", std::mem::discriminant(reply)),
        other => format!("{:?} ", std::mem::discriminant(other)),
    };
    events.iter().take(4).map(kind).collect()
}

/// Three lines: two filters and a topic. What they are and which matches is what a naive reading of the rules says.
fn topics(bytes: &[u8]) -> String {
    let Ok(text) = std::str::from_utf8(bytes) else { return "no text".to_owned() };
    let mut lines = text.splitn(3, '\n');
    let mut line = || lines.next().unwrap_or_default();
    let (wide, narrow, name) = (line(), line(), line());

    let topic = Topic::parse(name);
    assert_eq!(topic.is_ok(), is_name(name) && !name.contains(['+', '#']), "{name:?}");
    let filters = [wide, narrow].map(|text| {
        let filter = TopicFilter::parse(text);
        assert_eq!(filter.is_ok(), is_filter(text), "{text:?}");
        filter
    });
    let topic = match topic {
        Ok(topic) => topic,
        Err(invalid) => return gist(&invalid.to_string()),
    };
    assert_eq!(topic.as_str(), name);
    let mut outcome = String::new();
    for filter in &filters {
        let filter = match filter {
            Ok(filter) => filter,
            Err(invalid) => return gist(&invalid.to_string()),
        };
        let expected = naive_match(&levels(filter.as_str()), &levels(name), true);
        assert_eq!(filter.matches(&topic), expected, "{filter} on {topic}");
        outcome.push_str(if expected { "matches " } else { "differs " });
    }
    if let [Ok(wide), Ok(narrow)] = &filters
        && wide.covers(narrow)
    {
        assert!(wide.matches(&topic) || !narrow.matches(&topic), "{wide} covers {narrow}, but not {topic}");
        outcome.push_str("covers");
    }
    outcome
}

fn levels(text: &str) -> Vec<&str> {
    text.split('/').collect()
}

fn is_name(text: &str) -> bool {
    let levels = levels(text);
    text.len() <= 255
        && levels.len() <= 32
        && levels.iter().all(|level| !level.is_empty())
        && !text.chars().any(char::is_control)
}

fn is_filter(text: &str) -> bool {
    let levels = levels(text);
    let alone = |(idx, level): (usize, &&str)| {
        !level.contains(['+', '#']) || *level == "+" || (*level == "#" && idx + 1 == levels.len())
    };
    is_name(text) && levels.iter().enumerate().all(alone)
}

/// The rules of MQTT 5.0, 4.7, one level at a time.
fn naive_match(filter: &[&str], topic: &[&str], is_first: bool) -> bool {
    let reserved = is_first && topic.first().is_some_and(|level| level.starts_with('$'));
    match (filter, topic) {
        ([], []) => true,
        (["#"], _) => !reserved,
        (["+", filter @ ..], [_, topic @ ..]) => !reserved && naive_match(filter, topic, false),
        ([wanted, filter @ ..], [level, topic @ ..]) => wanted == level && naive_match(filter, topic, false),
        _ => false,
    }
}

/// A stream of frames: its first byte says the version, and how long the pieces are in which it comes. The pieces change nothing, and
/// what was read can be written and read again.
fn stomp(bytes: &[u8]) -> String {
    let Some((first, bytes)) = bytes.split_first() else { return "nothing".to_owned() };
    let version = Version::ALL[usize::from(first % 3)];
    let (frames, refusal) = stomp_frames(version, bytes, bytes.len().max(1));
    let (pieces, refusal_of_pieces) = stomp_frames(version, bytes, usize::from(first / 3 % 7) + 1);
    assert_eq!(frames, pieces);
    // A stream that is cut may be refused sooner, for another reason, but never more or less often.
    assert_eq!(refusal.is_some(), refusal_of_pieces.is_some());
    let mut outcome = format!("{version:?} ");
    for frame in frames.iter().take(4) {
        outcome.push_str(frame.command.as_str());
        if version == Version::V12 && frame.command.is_escaped() {
            let headers = frame.headers.iter().filter(|(name, _)| name != "content-length");
            let headers: Vec<_> = headers.map(|(name, value)| (name.as_str(), value.as_str())).collect();
            let mut again = BytesMut::new();
            stomp::encode_frame(version, frame.command, &headers, &frame.body, &mut again);
            let (again, refusal) = stomp_frames(version, &again, again.len());
            // Escapes make lines longer, maybe past their limit.
            if refusal.is_none() {
                assert_eq!(again.len(), 1);
                assert_eq!(again[0].body, frame.body);
                assert!(headers.iter().all(|(name, value)| again[0].header(name) == Some(value)));
            }
        }
    }
    if let Some(refusal) = refusal {
        assert!(refusal.detail.len() <= bongsu_protocol::limits::TEXT_BYTES_MAX);
        outcome.push_str(refusal.message);
    }
    outcome
}

fn stomp_frames(version: Version, bytes: &[u8], piece_bytes: usize) -> (Vec<Frame>, Option<Refusal>) {
    let mut decoder = Decoder::new();
    decoder.use_version(version);
    let mut frames = Vec::new();
    for piece in bytes.chunks(piece_bytes) {
        decoder.push(piece);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(refusal) => return (frames, Some(refusal)),
            }
        }
    }
    (frames, None)
}

/// A client that may do everything says anything, in pieces, to a shell that answers all at once: what it hears are frames, an error is the
/// last of them, and no more is in flight than the bounds say.
fn conversation(bytes: &[u8]) -> String {
    let bounds = Bounds { outbox_bytes: 10_000, subscriptions: 5, topics: 5, requests_in_flight: 3 };
    let settings = Settings {
        bounds,
        vocabulary: Vocabulary::default(),
        server: "bongsu/1".to_owned(),
        beat_every: Duration::from_secs(10),
        beat_wanted: Duration::from_secs(10),
        prefetch: 2,
    };
    let mut chat = Conversation::new(Arc::new(settings), "s1".to_owned(), None);
    let mut heard: Vec<Frame> = Vec::new();
    let mut decoder = Decoder::new();
    let mut outcome = String::new();
    for piece in bytes.chunks(bytes.first().map_or(1, |first| usize::from(*first) + 1)) {
        chat.handle_bytes(piece);
        loop {
            let mut is_quiet = true;
            while let Some(effect) = chat.poll_effect() {
                is_quiet = false;
                let name = format!("{effect:?}");
                outcome.push_str(name.split([' ', '(']).next().unwrap_or_default());
                answer(&mut chat, effect);
            }
            let mut out = BytesMut::new();
            while let Some(outgoing) = chat.poll_outgoing() {
                is_quiet = false;
                match outgoing {
                    Outgoing::Frame(frame) => out.extend_from_slice(&frame),
                    Outgoing::Message { head, tail, delivery } => {
                        out.extend_from_slice(&head);
                        stomp::encode_message_tail(tail, &delivery, &mut out);
                    }
                }
            }
            decoder.use_version(chat.version());
            decoder.push(&out);
            while let Some(frame) = decoder.next_frame().expect("what the broker says is a frame") {
                heard.push(frame);
            }
            chat.advance();
            if is_quiet {
                break;
            }
        }
    }
    let errors = heard.iter().filter(|frame| frame.command == stomp::Command::Error).count();
    assert!(errors <= 1, "one error ends it");
    if let (1, Some(last)) = (errors, heard.last()) {
        assert_eq!(last.command, stomp::Command::Error, "nothing follows an error");
        assert!(chat.is_closed());
        outcome.push_str(last.header("message").unwrap_or_default());
    }
    outcome
}

fn answer(chat: &mut Conversation<Arc<Delivery>>, effect: Effect) {
    let position = Position::new(1, 1);
    match effect {
        Effect::Verify(_) => chat.verified(Ok(Some(Grants::everything().into()))),
        Effect::Commit { id, messages, .. } => {
            assert!(messages.iter().all(|message| message.message.validate().is_ok()));
            chat.committed(id, Ok(()));
        }
        Effect::Consume { id, subscription, topic, .. } => {
            chat.consuming(id, Ok(()));
            let message = Message::new("x");
            let publisher = String::new();
            let delivery = Delivery {
                topic,
                position: Some(position),
                time: Time(1),
                publisher,
                message,
                erased: false,
            };
            chat.deliver(subscription, position, false, &Arc::new(delivery));
        }
        Effect::Settle { id, settled } => {
            assert_eq!(settled.positions, [position], "each is settled once");
            chat.settled(id, Ok(()));
        }
        Effect::Session(session::Effect::Publish { id, messages }) => {
            for (part, message) in messages {
                assert!(message.message.validate().is_ok());
                chat.session_mut().published(id, part, Ok(Published { position: None, duplicate: false }));
            }
        }
        Effect::Session(session::Effect::Watch { filter }) => {
            chat.session_mut().watched(&filter, TopicKind::Live, Time(1));
        }
        Effect::Session(session::Effect::List { filter, .. }) => {
            chat.session_mut().listed(&filter, Ok(Vec::new()))
        }
        Effect::Session(_) | Effect::Beat { .. } | Effect::Cancel { .. } | Effect::Close(_) => {}
    }
}

/// What a SockJS client sends: messages that can be sent back to it and are read as the same, or an error. And a path or a bookmark, which
/// mean the same when they are written again.
fn sockjs(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(bookmark) = text.parse::<Bookmark>() {
        assert_eq!(bookmark.to_string().parse(), Ok(bookmark));
        return "bookmark".to_owned();
    }
    if let Some(route) = sockjs::Route::parse(&text) {
        return format!("{:?}", std::mem::discriminant(&route));
    }
    let form = sockjs::parse_jsonp_send("application/x-www-form-urlencoded", bytes);
    if let Ok(messages) = &form {
        return format!("form {}", messages.len().min(4));
    }
    let messages = match sockjs::parse_xhr_send(bytes) {
        Ok(messages) => messages,
        Err(invalid) => return gist(&invalid.to_string()),
    };
    let timing = sockjs::Timing { heartbeat: Duration::MAX / 4, disconnect: Duration::MAX / 4 };
    let mut session = sockjs::Session::new(Duration::ZERO, timing);
    session.attach(Duration::ZERO, sockjs::Transport::WebSocket, None).expect("the first request");
    assert_eq!(session.poll_chunk(Duration::ZERO).expect("an open frame").bytes, "o");
    for message in &messages {
        session.send(message.as_str().into());
    }
    if let Some(chunk) = session.poll_chunk(Duration::ZERO) {
        assert_eq!(sockjs::parse_xhr_send(&chunk.bytes[1..]).as_ref(), Ok(&messages));
    }
    format!("messages {}", messages.len().min(4))
}

/// A text without what an input put into it: numbers, and names between backticks.
fn gist(text: &str) -> String {
    let own = text.split('`').step_by(2).flat_map(str::chars);
    own.filter(|character| !character.is_ascii_digit()).collect()
}
