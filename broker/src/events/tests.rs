//! The pure parts: what a register says, and what waits to be told.

use std::sync::Arc;
use std::time::Duration;

use bongsu_persistence::memory::MemoryStore;
use bongsu_persistence::store::{Removal, TopicsQuery};
use bongsu_protocol::message::Time;
use bongsu_protocol::position::Position;
use bongsu_protocol::reason::CloseReason;
use bongsu_protocol::topic::TopicFilter;

use super::backlog::Backlog;
use super::event::{Event, Kind, NODE_LOST, register_of, told_on};
use super::log::{Attempt, Logs};
use super::register::{Entry, Register};
use super::{Visitor, Witness};
use crate::config::{SessionEvents, Settings};
use crate::node::Node;
use crate::outbound::ConnectionId;

fn visitor(number: u64) -> Visitor {
    let subject = "ada".to_owned();
    Visitor { session: format!("n-1-{number:x}"), subject, peer: None, transport: "websocket-json" }
}

fn filter(text: &str) -> TopicFilter {
    TopicFilter::parse(text).unwrap()
}

fn begin(backlog: &Arc<Backlog>, number: u64) -> Witness {
    let id = ConnectionId(number);
    backlog.connected(id, visitor(number));
    Witness { backlog: Some(Arc::clone(backlog)), id, level: SessionEvents::All }
}

fn backlog(bytes_max: usize) -> Arc<Backlog> {
    Arc::new(Backlog::new("n", 1, bytes_max))
}

/// What is told, in short: kind, session, number and topics.
fn short(events: &[Event]) -> Vec<String> {
    let short = |event: &Event| {
        let kind = serde_json::to_value(event.event).unwrap();
        format!("{} {}#{} {}", kind.as_str().unwrap(), event.session, event.seq, event.topics.join(","))
            .trim_end()
            .to_owned()
    };
    events.iter().map(short).collect()
}

fn take_all(backlog: &Backlog) -> Vec<Event> {
    let mut all = Vec::new();
    loop {
        let events = backlog.take(512, 256 << 10);
        if events.is_empty() {
            return all;
        }
        all.extend(events);
        backlog.done();
    }
}

#[test]
fn events_of_a_session_are_numbered_in_their_order() {
    let backlog = backlog(1 << 20);
    let mut witness = begin(&backlog, 1);
    witness.subscribed(&filter("a"));
    witness.subscribed(&filter("b/#"));
    // Said again, nothing changes.
    witness.subscribed(&filter("a"));
    witness.authenticated("ada");
    witness.authenticated("bob");
    witness.unsubscribed(&filter("a"));
    witness.unsubscribed(&filter("c"));
    witness.disconnected(CloseReason::Kicked);
    drop(witness);
    let events = take_all(&backlog);
    assert_eq!(
        short(&events),
        [
            "connected n-1-1#1",
            "subscribed n-1-1#2 a,b/#",
            "authenticated n-1-1#3",
            "unsubscribed n-1-1#4 a",
            "disconnected n-1-1#5"
        ]
    );
    assert_eq!(events[4].reason, "kicked");
    assert_eq!(events[2].subject, "bob");
}

#[test]
fn session_that_is_dropped_is_told_to_have_ended_once() {
    let backlog = backlog(1 << 20);
    drop(begin(&backlog, 1));
    let mut witness = begin(&backlog, 2);
    witness.disconnected(CloseReason::GoingAway);
    witness.disconnected(CloseReason::Normal);
    drop(witness);
    let events = take_all(&backlog);
    let ends: Vec<_> = events.iter().filter(|event| event.event == Kind::Disconnected).collect();
    assert_eq!(ends.len(), 2);
    assert_eq!([&*ends[0].reason, &*ends[1].reason], ["normal", "going_away"]);
}

#[test]
fn what_finds_no_room_is_counted_and_open_sessions_are_put_right() {
    let backlog = backlog(2000);
    let mut first = begin(&backlog, 1);
    first.subscribed(&filter("a"));
    let mut others = Vec::new();
    while backlog.take(0, 0).is_empty() {
        // Until something was lost, which is told before anything else.
        others.push(begin(&backlog, others.len() as u64 + 2));
        assert!(others.len() < 100, "the bound does not hold");
    }
    // One of those that found no room stays, another ends unheard, and the first loses what it says.
    let ended = begin(&backlog, 200);
    first.subscribed(&filter("b"));
    first.unsubscribed(&filter("a"));
    drop(ended);
    let n_open = others.len();
    let events = take_all(&backlog);
    let lost: u64 = events.iter().map(|event| event.count).sum();
    assert!(lost >= 3, "{lost}");
    assert!(events.iter().all(|event| event.session != "n-1-c8"), "{events:?}");
    let mut register = Register::default();
    take(&mut register, 1, &entry(1, events.clone()));
    assert_eq!(register.open.len(), n_open + 1);
    let state = events.iter().rfind(|event| event.session == "n-1-1").unwrap();
    assert_eq!((state.event, &*state.topics), (Kind::Subscriptions, &["b".to_owned()][..]));
    // The end of a session whose beginning was told is told, even without room.
    first.disconnected(CloseReason::Normal);
    assert_eq!(short(&take_all(&backlog)).len(), 1);
}

#[test]
fn backlog_never_holds_more_than_its_bound_and_the_ends() {
    let backlog = backlog(10_000);
    let witnesses: Vec<_> = (0..1000).map(|number| begin(&backlog, number)).collect();
    let first = backlog.take(usize::MAX, usize::MAX);
    let bytes: usize = first.iter().filter(|event| event.count == 0).map(Event::cost_bytes).sum();
    // Those that were put right are made when they are taken, not kept.
    assert!(first.len() > 1000 && bytes > 10_000);
    assert_eq!(first[0].event, Kind::Lost);
    assert!(first[0].count > 900, "{}", first[0].count);
    drop(witnesses);
}

#[tokio::test]
async fn backlog_is_settled_once_what_was_taken_was_told() {
    let backlog = backlog(1 << 20);
    let settled = |backlog: &Arc<Backlog>| {
        let backlog = Arc::clone(backlog);
        async move { tokio::time::timeout(Duration::from_millis(1), backlog.settled()).await.is_ok() }
    };
    assert!(settled(&backlog).await);
    let witness = begin(&backlog, 1);
    assert!(!settled(&backlog).await);
    assert_eq!(backlog.take(512, 1 << 20).len(), 1);
    assert!(!settled(&backlog).await, "it is under way");
    backlog.done();
    assert!(settled(&backlog).await);
    drop(witness);
}

fn entry(number: u64, events: Vec<Event>) -> Entry {
    Entry { writer: "n-1-".to_owned(), number, events, part: None }
}

fn take(register: &mut Register, offset: u64, entry: &Entry) {
    register.take(Position::new(1, offset), Time(offset), &entry.encode());
}

fn connected(numbers: std::ops::Range<u64>) -> Vec<Event> {
    let backlog = backlog(1 << 20);
    let witnesses: Vec<_> = numbers.map(|number| begin(&backlog, number)).collect();
    let events = take_all(&backlog);
    drop(witnesses);
    events
}

#[test]
fn whole_checkpoint_stands_for_everything_before_it() {
    let mut register = Register::default();
    take(&mut register, 1, &entry(1, connected(0..40)));
    let before = register.open.clone();
    let parts = register.parts(2000);
    assert!(parts.len() > 2, "{}", parts.len());
    let n_parts = parts.len() as u64;
    // Somebody who reads from the first part on knows as much.
    let mut late = Register::default();
    for (offset, part) in (2..).zip(parts) {
        let part = Entry { part: Some(part), ..entry(offset, Vec::new()) };
        take(&mut register, offset, &part);
        take(&mut late, offset, &part);
    }
    assert_eq!((&register.open, &late.open), (&before, &before));
    assert_eq!(late.checkpoint, Some(Position::new(1, 2)));
    assert_eq!(late.head, Position::new(1, 1 + n_parts));
    assert_eq!(late.bytes_since, 0);
}

#[test]
fn checkpoint_that_was_interrupted_says_nothing() {
    let mut register = Register::default();
    take(&mut register, 1, &entry(1, connected(0..40)));
    let parts = register.parts(2000);
    let n_parts = parts.len() as u64;
    for (offset, part) in (2..).zip(parts) {
        if offset == 1 + n_parts {
            // Somebody else tells of an end in between.
            let end = register.open["n-1-0"].lost_with_its_node(7);
            take(&mut register, offset, &entry(offset, vec![end]));
        }
        take(&mut register, offset + 1, &Entry { part: Some(part), ..entry(offset, Vec::new()) });
    }
    assert_eq!(register.checkpoint, None);
    assert_eq!(register.open.len(), 39);
}

#[test]
fn nothing_is_told_of_a_session_that_was_declared_gone() {
    let mut register = Register::default();
    take(&mut register, 1, &entry(1, connected(0..2)));
    let gone = register.open["n-1-0"].clone();
    let there = register.open["n-1-1"].clone();
    let end = gone.lost_with_its_node(7);
    assert_eq!((&*end.reason, end.seq), (NODE_LOST, gone.seq + 1));
    take(&mut register, 2, &entry(1, vec![end.clone()]));
    let say = |event: &Event, kind| Event { event: kind, seq: event.seq + 1, ..event.clone() };
    let said = [
        say(&gone, Kind::Subscribed),
        say(&there, Kind::Subscribed),
        say(&gone, Kind::Disconnected),
        Event { session: "n-1-9".to_owned(), ..gone.clone() },
        Event { session: "n-1-9".to_owned(), ..say(&gone, Kind::Disconnected) },
    ];
    let admitted = register.admit(&said);
    assert_eq!(admitted, [said[1].clone(), said[3].clone(), said[4].clone()]);
    // Its end has one id, whoever tells it.
    assert_eq!(end.id(), said[2].id());
}

#[test]
fn writer_knows_its_own_entry_again() {
    let mut register = Register::default();
    let own = entry(2, connected(0..1));
    assert!(!register.has(&own));
    take(&mut register, 1, &entry(1, connected(1..2)));
    assert!(!register.has(&own));
    take(&mut register, 2, &own);
    take(&mut register, 3, &Entry { writer: "other".to_owned(), ..entry(1, Vec::new()) });
    assert!(register.has(&own));
}

#[test]
fn events_have_the_form_that_the_document_shows() {
    let backlog = backlog(1 << 20);
    let mut witness = begin(&backlog, 1);
    witness.subscribed(&filter("chat/#"));
    witness.disconnected(CloseReason::Normal);
    let events = take_all(&backlog);
    let [time, since] = [events[1].time, events[1].since];
    let json = serde_json::to_value(&events[1]).unwrap();
    let expected = serde_json::json!({
        "event": "subscribed", "time": time, "node": "n", "session": "n-1-1", "seq": 2, "since": since,
        "subject": "ada", "transport": "websocket-json", "topics": ["chat/#"],
    });
    assert_eq!(json, expected);
    assert_eq!(serde_json::to_value(&events[2]).unwrap()["reason"], "normal");
}

/// The way to logs in memory.
fn logs() -> Logs {
    let mut settings = Settings::default();
    settings.events.sessions = SessionEvents::Off;
    let store = Arc::new(MemoryStore::default());
    let node = Node::start(settings, store.clone(), None);
    Logs { store, publisher: Arc::clone(node.publisher()), window: Duration::from_secs(60) }
}

#[tokio::test]
async fn register_takes_nothing_from_whoever_does_not_know_all_of_it() {
    let logs = logs();
    let topic = register_of("n");
    let mut own = Register::default();
    let begun = entry(1, connected(0..2));
    assert_eq!(logs.append(&topic, &mut own, &begun).await.unwrap(), Attempt::Taken);
    // Another node takes this one for dead and tells an end; this one does not know.
    let mut other = Register::default();
    logs.catch_up(&topic, &mut other).await.unwrap();
    let end = other.open["n-1-0"].lost_with_its_node(7);
    let ends = Entry { writer: "other".to_owned(), ..entry(1, vec![end]) };
    assert_eq!(logs.append(&topic, &mut other, &ends).await.unwrap(), Attempt::Taken);
    let late = entry(2, vec![Event { event: Kind::Subscribed, seq: 2, ..own.open["n-1-0"].clone() }]);
    assert_eq!(logs.append(&topic, &mut own, &late).await.unwrap(), Attempt::Stale);
    // It finds out, and that its own entry was not taken.
    logs.catch_up(&topic, &mut own).await.unwrap();
    assert!(!own.has(&late) && own.has(&begun));
    assert_eq!(own.open.keys().collect::<Vec<_>>(), ["n-1-1"]);
    assert_eq!(own.admit(&late.events), []);
    // An end is told once, whoever tells it.
    for _ in 0..2 {
        logs.tell("n", &ends.events).await.unwrap();
    }
    let query = TopicsQuery { filter: told_on("n").into(), after: None, limit: 1 };
    assert_eq!(logs.store.topics(query).await.unwrap()[0].head.offset.0, 1);
}

#[tokio::test]
async fn register_that_was_removed_and_begun_anew_is_read_anew() {
    let logs = logs();
    let topic = register_of("n");
    let mut own = Register::default();
    logs.append(&topic, &mut own, &entry(1, connected(0..2))).await.unwrap();
    logs.remove(Removal::Delete { topic: topic.clone() }).await.unwrap();
    let mut other = Register::default();
    logs.append(&topic, &mut other, &entry(9, connected(5..6))).await.unwrap();
    // It is as long as the one before.
    assert_eq!(logs.append(&topic, &mut own, &entry(2, connected(2..3))).await.unwrap(), Attempt::Stale);
    logs.catch_up(&topic, &mut own).await.unwrap();
    assert!(own.open.contains_key("n-1-5") && !own.open.contains_key("n-1-0"));
}
