//! Event streams: how messages look, and what a reader that comes back gets. Each test names the requirement of
//! `contracts/event-stream.md` that it stands for.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

use std::collections::BTreeMap;

use bongsu_protocol::command::Start;
use bongsu_protocol::event::{Event, Lost, LostRange};
use bongsu_protocol::eventstream::{
    Bookmark, HEARTBEAT, InvalidBookmark, Shape, Tracker, encode_bookmark, encode_event, encode_message,
    encode_message_line, encode_prelude, encode_retry,
};
use bongsu_protocol::limits::{BOOKMARK_BYTES_MAX, INTEGER_MAX};
use bongsu_protocol::message::{Delivery, Message, Time};
use bongsu_protocol::position::{Epoch, Offset, Position};
use bongsu_protocol::reason::{CloseReason, Goodbye};
use bongsu_protocol::topic::{Topic, TopicFilter};
use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

fn topic(name: &str) -> Topic {
    Topic::parse(name).unwrap()
}

fn filters(names: &[&str]) -> Vec<TopicFilter> {
    names.iter().map(|name| TopicFilter::parse(name).unwrap()).collect()
}

fn delivery(payload: &[u8]) -> Delivery {
    Delivery {
        topic: topic("a/b"),
        position: Some(Position::new(7, 42)),
        time: Time(1000),
        publisher: String::new(),
        message: Message::new(Bytes::copy_from_slice(payload)),
        erased: false,
    }
}

fn text(encode: impl FnOnce(&mut BytesMut)) -> String {
    let mut out = BytesMut::new();
    encode(&mut out);
    String::from_utf8(out.to_vec()).unwrap()
}

/// What a browser makes of a stream: the id, type and data of each event, and the last id (HTML, 9.2.6).
fn browser(stream: &str) -> (Vec<(String, String, String)>, String) {
    let (mut events, mut last_id) = (Vec::new(), String::new());
    let (mut data, mut kind): (Option<String>, _) = (None, String::from("message"));
    for line in stream.replace("\r\n", "\n").split(['\n', '\r']) {
        if line.is_empty() {
            if let Some(data) = data.take() {
                events.push((last_id.clone(), std::mem::replace(&mut kind, "message".to_owned()), data));
            }
            kind = "message".to_owned();
            continue;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => last_id = value.to_owned(),
            "event" => kind = value.to_owned(),
            "data" => match &mut data {
                Some(data) => *data = format!("{data}\n{value}"),
                None => data = Some(value.to_owned()),
            },
            "" | "retry" => {}
            other => panic!("a field {other:?}"),
        }
    }
    (events, last_id)
}

// SSE-2
#[test]
fn a_message_of_one_topic_is_its_payload_line_by_line_with_its_position() {
    let stream = text(|out| encode_message(Shape::Payload, &delivery(b"one\ntwo\r\nthree\rfour\n"), out));
    assert_eq!(stream, "id: 7:42\ndata: one\ndata: two\ndata: three\ndata: four\ndata: \n\n");
    let empty = text(|out| encode_message(Shape::Payload, &delivery(b""), out));
    assert_eq!(browser(&empty).0, [("7:42".to_owned(), "message".to_owned(), String::new())]);
    let live = Delivery { position: None, ..delivery(b"x") };
    assert_eq!(text(|out| encode_message(Shape::Payload, &live, out)), "data: x\n\n");
}

// SSE-2
#[test]
fn no_payload_becomes_a_field_or_an_event() {
    for payload in ["a\n\nid: 9:9\nevent: gap\n\ndata: x", "\r\rid: 1:1", ": x", "\u{feff}x", " x"] {
        let stream = text(|out| encode_message(Shape::Payload, &delivery(payload.as_bytes()), out));
        let (events, last_id) = browser(&stream);
        assert_eq!((events.len(), last_id.as_str()), (1, "7:42"), "{payload:?}");
        assert_eq!(events[0].2, payload.replace('\r', "\n"));
    }
}

// SSE-2
#[test]
fn a_payload_that_is_no_text_is_base64_and_says_so() {
    let stream = text(|out| encode_message(Shape::Payload, &delivery(b"\x00\xff"), out));
    assert_eq!(stream, "id: 7:42\nevent: base64\ndata: AP8=\n\n");
}

// SSE-8
#[test]
fn lines_of_json_stay_lines() {
    let mut message = delivery(b"{\"a\":\n1,\r\n \"b\": \"\\n\"}");
    message.message.content_type = "application/json".to_owned();
    let line = text(|out| encode_message(Shape::Lines, &message, out));
    assert_eq!(line.matches('\n').count(), 1);
    let json: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(json["delivery"]["data"], serde_json::json!({"a": 1, "b": "\n"}));
    assert_eq!((&json["delivery"]["offset"], &json["delivery"]["topic"]), (&42.into(), &"a/b".into()));
    let sequence = text(|out| encode_message(Shape::Sequence, &message, out));
    assert_eq!(sequence, format!("\u{1e}{line}"));
    let envelope = text(|out| encode_message(Shape::Envelope, &message, out));
    let (events, last_id) = browser(&envelope);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&events[0].2).unwrap(), json);
    assert_eq!(last_id, "7:42");
    let types = Shape::ALL.map(Shape::content_type);
    assert_eq!(
        types,
        ["text/event-stream", "text/event-stream", "application/x-ndjson", "application/json-seq"]
    );
}

// SSE-1, SSE-3, SSE-7
#[test]
fn a_stream_begins_beats_and_ends_without_events() {
    let stream = text(|out| {
        encode_prelude(1500, 2048, out);
        out.extend_from_slice(HEARTBEAT);
        encode_bookmark(Shape::Envelope, &Bookmark::At(Position::new(1, 2)), out);
        out.extend_from_slice(b"\n");
        encode_retry(30_000, out);
    });
    assert!(stream.len() > 2048 && stream.starts_with(": "));
    assert!(stream.ends_with("\n\nid: 1:2\n\nretry: 30000\n\n"), "{stream:?}");
    assert_eq!(
        browser(&stream),
        (Vec::new(), "1:2".to_owned()),
        "a checkpoint moves the id without an event"
    );
    let endless = text(|out| encode_prelude(0, usize::MAX, out));
    assert!(endless.len() < 5000, "padding has a bound");
}

// SSE-4, SSE-7
#[test]
fn a_gap_and_a_goodbye_are_events_since_browsers_hide_headers() {
    let range = LostRange { epoch: Epoch(7), from: Offset(3), until: Offset(9) };
    let lost = Event::Lost(Lost { topic: topic("a/b"), range: Some(range), count: 7 });
    for shape in [Shape::Payload, Shape::Envelope] {
        let (events, _) = browser(&text(|out| encode_event(shape, &lost, out)));
        assert_eq!(events[0].1, "gap");
        let json: serde_json::Value = serde_json::from_str(&events[0].2).unwrap();
        assert_eq!((&json["lost"]["from"], &json["lost"]["until"]), (&3.into(), &9.into()));
    }
    let mut goodbye = Goodbye::new(CloseReason::GoingAway, "deploy");
    goodbye.retry_after_ms = Some(2500);
    let stream = text(|out| encode_event(Shape::Payload, &Event::Goodbye(goodbye), out));
    assert!(stream.starts_with("retry: 2500\nevent: goodbye\ndata: {\"goodbye\":"), "{stream}");
    let line = text(|out| encode_event(Shape::Lines, &Event::Heartbeat, out));
    assert_eq!(line, "{\"heartbeat\":{}}\n", "a line of JSON cannot be empty");
    assert_eq!(text(|out| encode_event(Shape::Payload, &Event::Heartbeat, out)).as_bytes(), HEARTBEAT);
}

// SSE-4
#[test]
fn words_and_positions_are_bookmarks() {
    for (text, expected) in [
        ("earliest", Ok(Bookmark::Earliest)),
        ("-1", Ok(Bookmark::Earliest)),
        ("now", Ok(Bookmark::Latest)),
        ("$", Ok(Bookmark::Latest)),
        ("last:50", Ok(Bookmark::Last(50))),
        ("last:", Err(InvalidBookmark)),
        ("last:-1", Err(InvalidBookmark)),
        ("7:42", Ok(Bookmark::At(Position::new(7, 42)))),
        ("b.B", Ok(Bookmark::Several { since: Time(1), places: Vec::new() })),
        ("", Err(InvalidBookmark)),
        ("7", Err(InvalidBookmark)),
        ("b.", Err(InvalidBookmark)),
        ("b.B,", Err(InvalidBookmark)),
        ("b.B,AAAAAAAA", Err(InvalidBookmark)),
        ("b.B,AAAAAAAAB", Err(InvalidBookmark)),
        ("b.B,AAAAAAAAB.", Err(InvalidBookmark)),
        ("b.B,ÄAAAAAAAB.B", Err(InvalidBookmark)),
        ("b.__________", Err(InvalidBookmark)),
        ("b._________", Err(InvalidBookmark)),
        (&format!("b.B{}", ",AAAAAAAAB.B".repeat(11)), Err(InvalidBookmark)),
    ] {
        assert_eq!(text.parse::<Bookmark>(), expected, "{text}");
    }
}

// SSE-4
#[test]
fn a_position_resumes_one_topic_and_no_other_stream() {
    let bookmark = Bookmark::At(Position::new(7, 42));
    let one = bookmark.subscriptions(&filters(&["a/b"])).unwrap();
    assert_eq!(one[0].from, Start::After(Position::new(7, 42)));
    assert_eq!(bookmark.subscriptions(&filters(&["a/#"])), Err(InvalidBookmark));
    assert_eq!(bookmark.subscriptions(&filters(&["a/b", "c"])), Err(InvalidBookmark));
    let several = Bookmark::Latest.subscriptions(&filters(&["a/#", "c"])).unwrap();
    assert!(several.iter().all(|subscription| subscription.from == Start::Latest));
}

// SSE-4
#[test]
fn one_topic_is_tracked_by_its_position_alone() {
    let filters = filters(&["a/b"]);
    let mut tracker = Tracker::new(&filters, &Bookmark::Latest, Time(5));
    assert_eq!(tracker.bookmark(), None);
    assert!(tracker.pass(&topic("a/b"), Some(Position::new(7, 1)), Time(9)));
    assert_eq!(tracker.bookmark(), Some(Bookmark::At(Position::new(7, 1))));
    tracker.skip(&topic("a/b"), Position::new(7, 5));
    assert_eq!(tracker.bookmark(), Some(Bookmark::At(Position::new(7, 5))), "a gap is told once");
    assert!(tracker.pass(&topic("a/b"), None, Time(9)), "live messages always pass");
    let resumed = Tracker::new(&filters, &Bookmark::At(Position::new(7, 5)), Time(5));
    assert_eq!(resumed.bookmark(), Some(Bookmark::At(Position::new(7, 5))));
}

// SSE-4
#[test]
fn a_bookmark_is_short_and_safe_however_many_topics_moved() {
    let mut tracker = Tracker::new(&filters(&["#"]), &Bookmark::Latest, Time(INTEGER_MAX));
    for n in 0..100 {
        let position = Position::new(INTEGER_MAX, INTEGER_MAX - n);
        tracker.pass(&topic(&format!("t/{n}")), Some(position), Time(INTEGER_MAX));
        let text = tracker.bookmark().unwrap().to_string();
        assert!(text.len() <= BOOKMARK_BYTES_MAX);
        let is_safe = |byte: u8| byte.is_ascii_alphanumeric() || b".,-_:".contains(&byte);
        assert!(text.bytes().all(is_safe), "{text}");
        assert_eq!(text.parse::<Bookmark>().unwrap().to_string(), text);
    }
}

// SSE-4
#[test]
fn the_topics_that_moved_last_are_remembered() {
    let filters = filters(&["a/#", "a/19"]);
    let mut tracker = Tracker::new(&filters, &Bookmark::Latest, Time(1_700_000_000_000));
    for n in 0..20 {
        let position = Position::new(1_700_000_000_000, 1_000_000);
        tracker.pass(&topic(&format!("a/{n}")), Some(position), Time(1_700_000_000_001));
    }
    let bookmark: Bookmark = tracker.bookmark().unwrap().to_string().parse().unwrap();
    let Bookmark::Several { places, .. } = &bookmark else { panic!("{bookmark}") };
    assert_eq!(places.len(), 5, "with the epochs and offsets of a busy broker");
    let from = bookmark.subscriptions(&filters).unwrap()[1].from;
    assert_eq!(from, Start::After(Position::new(1_700_000_000_000, 1_000_000)));
}

// SSE-3
#[test]
fn a_checkpoint_forgets_what_is_older_and_nothing_else() {
    let places = |tracker: &Tracker| match tracker.bookmark() {
        Some(Bookmark::Several { since, places }) => (since, places.len()),
        other => panic!("{other:?}"),
    };
    let mut tracker = Tracker::new(&filters(&["#"]), &Bookmark::Latest, Time(5));
    assert!(tracker.pass(&topic("a"), Some(Position::new(1, 1)), Time(8)));
    assert!(tracker.pass(&topic("b"), Some(Position::new(1, 1)), Time(9)));
    tracker.checkpoint(Time(9));
    assert_eq!(places(&tracker), (Time(9), 1), "a reader that resumes reads from 9 on again");
    tracker.checkpoint(Time(7));
    assert_eq!(places(&tracker), (Time(9), 1), "time does not go back");
    tracker.checkpoint(Time(10));
    assert_eq!(places(&tracker), (Time(10), 0));
}

/// A log with the time of each message, for a reader of several topics that comes and goes.
struct World {
    logs: BTreeMap<Topic, Vec<u64>>,
    now: u64,
    filters: Vec<TopicFilter>,
    /// What the reader got of each topic, in order.
    got: BTreeMap<Topic, Vec<u64>>,
    /// What is still to be written, per topic: offsets.
    pending: BTreeMap<Topic, std::collections::VecDeque<u64>>,
    tracker: Tracker,
    bookmark: String,
    n_duplicates: u64,
    moved: std::collections::BTreeSet<Topic>,
    most_moved: usize,
}

impl World {
    fn new(names: &[&str], n_topics: u64, bookmark: &Bookmark) -> Self {
        let filters = filters(names);
        let logs = (0..n_topics).map(|n| (topic(&format!("a/{n}")), vec![5, 6])).collect();
        let mut world = Self {
            tracker: Tracker::new(&filters, bookmark, Time(10)),
            logs,
            now: 10,
            filters,
            got: BTreeMap::new(),
            pending: BTreeMap::new(),
            bookmark: bookmark.to_string(),
            n_duplicates: 0,
            moved: std::collections::BTreeSet::new(),
            most_moved: 0,
        };
        world.connect();
        world
    }

    /// What a session does: the first matching subscription says where each topic starts.
    fn connect(&mut self) {
        let bookmark: Bookmark = self.bookmark.parse().unwrap();
        let subscriptions = bookmark.subscriptions(&self.filters).unwrap();
        self.pending.clear();
        for (topic, times) in &self.logs {
            let Some(subscription) = subscriptions.iter().find(|s| s.filter.matches(topic)) else { continue };
            let first = match subscription.from {
                Start::Latest => times.len() as u64 + 1,
                Start::Earliest => 1,
                Start::After(position) => position.offset.0 + 1,
                Start::Time(time) => times.iter().filter(|at| **at < time.0).count() as u64 + 1,
                Start::Last(_) => panic!("no bookmark says so"),
            };
            self.pending.insert(topic.clone(), (first..=times.len() as u64).collect());
        }
        self.tracker = Tracker::new(&self.filters, &bookmark, Time(self.now));
        // The stream begins with it, so that a reader that gets nothing else has one.
        self.bookmark = self.tracker.bookmark().unwrap().to_string();
    }

    fn publish(&mut self, n: u64) {
        let topic = topic(&format!("a/{n}"));
        let Some(log) = self.logs.get_mut(&topic) else { return };
        log.push(self.now);
        let offset = log.len() as u64;
        if let Some(pending) = self.pending.get_mut(&topic) {
            pending.push_back(offset);
        }
    }

    fn write(&mut self, n: u64) {
        let topic = topic(&format!("a/{n}"));
        let Some(offset) = self.pending.get_mut(&topic).and_then(|pending| pending.pop_front()) else {
            return;
        };
        let time = Time(self.logs[&topic][offset as usize - 1]);
        if !self.tracker.pass(&topic, Some(Position::new(1, offset)), time) {
            assert!(self.got[&topic].contains(&offset), "{topic}: {offset} was left out and never came");
            return;
        }
        self.moved.insert(topic.clone());
        self.most_moved = self.most_moved.max(self.moved.len());
        let got = self.got.entry(topic.clone()).or_default();
        if got.contains(&offset) {
            self.n_duplicates += 1;
        } else {
            if let Some(newest) = got.last() {
                assert_eq!(offset, newest + 1, "{topic}: not the next message");
            }
            got.push(offset);
        }
        self.bookmark = self.tracker.bookmark().unwrap().to_string();
    }

    fn checkpoint(&mut self) {
        if self.pending.values().all(std::collections::VecDeque::is_empty) {
            self.now += 1;
            self.tracker.checkpoint(Time(self.now));
            self.bookmark = self.tracker.bookmark().unwrap().to_string();
            self.moved.clear();
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Publish(u64),
    Write(u64),
    Tick,
    Checkpoint,
    Reconnect,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..20_u64).prop_map(Step::Publish),
        6 => (0..20_u64).prop_map(Step::Write),
        1 => Just(Step::Tick),
        1 => Just(Step::Checkpoint),
        1 => Just(Step::Reconnect),
    ];
    prop::collection::vec(step, 1..200)
}

fn run(world: &mut World, steps: &[Step], n_topics: u64) {
    for step in steps {
        match step {
            Step::Publish(n) => world.publish(n % n_topics),
            Step::Write(n) => world.write(n % n_topics),
            Step::Tick => world.now += 1,
            Step::Checkpoint => world.checkpoint(),
            Step::Reconnect => world.connect(),
        }
    }
    world.connect();
    for n in 0..n_topics {
        while world.pending.get(&topic(&format!("a/{n}"))).is_some_and(|pending| !pending.is_empty()) {
            world.write(n);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    // SSE-4, SSE-3
    #[test]
    fn a_reader_of_many_topics_that_comes_back_misses_nothing(steps in steps()) {
        let mut world = World::new(&["a/1", "a/#"], 20, &Bookmark::Earliest);
        run(&mut world, &steps, 20);
        for (topic, log) in &world.logs {
            prop_assert_eq!(world.got.get(topic).map_or(0, Vec::len), log.len(), "{}", topic);
        }
    }

    // SSE-4
    #[test]
    fn a_reader_of_few_topics_gets_nothing_twice(steps in steps()) {
        let mut world = World::new(&["a/+"], 5, &Bookmark::Latest);
        run(&mut world, &steps, 5);
        for (topic, log) in &world.logs {
            prop_assert_eq!(world.got.get(topic).map_or(0, Vec::len), log.len() - 2, "{}", topic);
        }
        prop_assert_eq!(world.n_duplicates, 0);
    }

    #[test]
    fn any_text_is_a_bookmark_or_none(text in "b\\.[A-Za-z0-9,._-]{0,60}|\\PC{0,20}") {
        if let Ok(bookmark) = text.parse::<Bookmark>() {
            let written = bookmark.to_string();
            prop_assert_eq!(written.parse::<Bookmark>(), Ok(bookmark));
        }
    }

    // SSE-2
    #[test]
    fn any_text_arrives_as_it_was_but_for_its_line_ends(payload in any::<String>()) {
        let stream = text(|out| encode_message_line(Shape::Payload, &delivery(payload.as_bytes()), out));
        let (events, _) = browser(&stream);
        let expected = payload.replace("\r\n", "\n").replace('\r', "\n");
        prop_assert_eq!(events, [(String::new(), "message".to_owned(), expected)]);
    }
}
