//! A client that may have nothing any more gets nothing but the goodbye.

use std::time::Duration;

use bongsu_protocol::command::{Command, Request, RequestId, Start, Subscription};
use bongsu_protocol::event::Event;
use bongsu_protocol::message::{Message, NewMessage, Time};
use bongsu_protocol::position::Position;
use bongsu_protocol::reason::{CloseReason, Goodbye};
use bongsu_protocol::session::{Bounds, Effect, Grants, LogPage, Outgoing, Session, TopicKind};
use bongsu_protocol::topic::Topic;

const fn session_bounds() -> Bounds {
    Bounds { outbox_bytes: 1 << 16, subscriptions: 8, topics: 8, requests_in_flight: 8 }
}

fn session() -> Session<u8> {
    let mut session = Session::new(session_bounds(), Grants::everything());
    let topic = Topic::parse("a").expect("a topic");
    let message = NewMessage { topic, message: Message::default(), expect: None };
    for (id, command) in [(1, Command::Ping), (2, Command::Publish(vec![message]))] {
        session.handle(Time(0), Ok(Request { id: RequestId(id), command }));
    }
    session
}

/// Why it is said goodbye, by each thing that is sent.
fn said(session: &mut Session<u8>) -> Vec<Option<CloseReason>> {
    let reason = |outgoing| match outgoing {
        Outgoing::Event(event) => match *event {
            Event::Goodbye(goodbye) => Some(goodbye.reason),
            _ => None,
        },
        Outgoing::Delivery(_) => None,
    };
    std::iter::from_fn(|| session.poll_outgoing()).map(reason).collect()
}

fn blocked() -> Goodbye {
    Goodbye::new(CloseReason::Forbidden, "you are blocked")
}

#[test]
fn what_waits_is_dropped_and_what_was_asked_is_not_done() {
    let mut session = session();
    session.expel(blocked());
    assert_eq!(said(&mut session), [Some(CloseReason::Forbidden)]);
    let effects: Vec<_> = std::iter::from_fn(|| session.poll_effect()).collect();
    assert_eq!(effects, [Effect::Close]);
    session.handle(Time(0), Ok(Request { id: RequestId(3), command: Command::Ping }));
    assert!(said(&mut session).is_empty());
}

#[test]
fn a_goodbye_is_said_once() {
    let mut session = session();
    session.close(Goodbye::new(CloseReason::Kicked, ""));
    session.expel(blocked());
    assert_eq!(said(&mut session), [Some(CloseReason::Kicked)], "what waited before it is dropped");
    session.expel(blocked());
    assert!(said(&mut session).is_empty());
}

#[test]
fn one_that_is_sent_away_gets_what_waits() {
    let mut session = session();
    session.close(Goodbye::new(CloseReason::Kicked, ""));
    assert_eq!(said(&mut session), [None, Some(CloseReason::Kicked)]);
}

#[test]
fn a_page_that_was_asked_for_before_a_goodbye_is_not_handed_out_after_it() {
    for end in [Session::expel, Session::close] {
        let mut session = Session::new(session_bounds(), Grants::everything());
        let filter: bongsu_protocol::topic::TopicFilter = Topic::parse("a").expect("a topic").into();
        let wanted = Subscription { filter: filter.clone(), from: Start::Earliest, seen: Vec::new() };
        session.handle(Time(0), Ok(Request { id: RequestId(1), command: Command::Subscribe(vec![wanted]) }));
        session.watched(&filter, TopicKind::Durable, Time(0));
        session.poll(Duration::ZERO);
        let is_read = |effect| matches!(effect, Effect::Read { .. });
        assert!(std::iter::from_fn(|| session.poll_effect()).any(is_read));
        end(&mut session, blocked());
        let (first, head) = (Position::new(1, 1), Position::new(1, 2));
        let items = vec![(first, 1, 1), (head, 1, 2)];
        session.read_done(Duration::ZERO, Ok(LogPage { items, first, end: head, head }));
        session.poll(Duration::ZERO);
        assert_eq!(said(&mut session), [Some(CloseReason::Forbidden)]);
        assert!(!session.wants_poll() && session.poll_timeout().is_none());
    }
}
