//! A topic's history is switched on and off while it is read.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

use std::time::Duration;

use bongsu_protocol::command::{
    Command, HistoryQuery, HistoryRange, Request, RequestId, Start, Subscription,
};
use bongsu_protocol::event::{Event, Reply};
use bongsu_protocol::message::Time;
use bongsu_protocol::position::Position;
use bongsu_protocol::session::{
    Bounds, Effect, Grants, LogPage, Offer, Outgoing, Session, SlowReader, TopicKind,
};
use bongsu_protocol::topic::{Topic, TopicFilter};

const BOUNDS: Bounds = Bounds { outbox_bytes: 1 << 16, subscriptions: 8, topics: 8, requests_in_flight: 8 };

/// When the subscription begins.
const BEGAN: Time = Time(1000);

/// A reader of the topic `a`, whose messages are numbers, and the log of it.
struct Reading {
    session: Session<u64>,
    log: Vec<u64>,
    now: Duration,
    got: Vec<u64>,
    n_subscribed: usize,
}

fn at(offset: u64) -> Position {
    Position::new(1, offset)
}

impl Reading {
    fn begin(kind: TopicKind, log: &[u64]) -> Self {
        let filter = TopicFilter::parse("a").unwrap();
        let everything = vec![TopicFilter::parse("#").unwrap()];
        let grants = Grants { subscribe: everything.clone(), history: everything, ..Grants::default() };
        let mut session = Session::new(BOUNDS, grants);
        let command = Command::Subscribe(vec![Subscription {
            filter: filter.clone(),
            from: Start::Latest,
            seen: Vec::new(),
        }]);
        session.handle(BEGAN, Ok(Request { id: RequestId(1), command }));
        assert!(matches!(session.poll_effect(), Some(Effect::Watch { .. })));
        session.watched(&filter, kind, BEGAN);
        Self { session, log: log.to_vec(), now: Duration::ZERO, got: Vec::new(), n_subscribed: 0 }
    }

    /// Offers a stored message.
    fn stored(&mut self, offset: u64) {
        let item = self.log[usize::try_from(offset).unwrap() - 1];
        self.offer(Some(at(offset)), item);
    }

    /// Offers a message that nobody stored.
    fn live(&mut self, item: u64) {
        self.offer(None, item);
    }

    fn offer(&mut self, position: Option<Position>, item: u64) {
        let topic = Topic::parse("a").unwrap();
        let slow_reader = SlowReader::Disconnect;
        self.session.offer(&Offer { topic: &topic, position, slow_reader, bytes: 8, item: &item });
    }

    fn head(&self) -> Position {
        at(self.log.len() as u64)
    }

    /// Answers everything that is asked, and takes everything that is said.
    fn settle(&mut self) {
        loop {
            self.session.poll(self.now);
            while let Some(outgoing) = self.session.poll_outgoing() {
                match outgoing {
                    Outgoing::Delivery(item) => self.got.push(item),
                    Outgoing::Event(event) => match *event {
                        Event::Reply { result: Ok(Reply::Subscribed(_)), .. } => self.n_subscribed += 1,
                        other => panic!("{other:?}"),
                    },
                }
            }
            let Some(effect) = self.session.poll_effect() else { return };
            let Effect::Read { query } = effect else { panic!("{effect:?}") };
            self.answer(&query);
        }
    }

    fn answer(&mut self, query: &HistoryQuery) {
        let after = match query.range {
            HistoryRange::Forward(Start::After(position)) => position.offset.0,
            HistoryRange::Forward(Start::Latest) => self.head().offset.0,
            // Every message was stored since.
            HistoryRange::Forward(Start::Time(BEGAN)) => 0,
            other => panic!("{other:?}"),
        };
        let items = (after + 1..).zip(&self.log[usize::try_from(after).unwrap()..]);
        let items: Vec<_> = items.map(|(offset, item)| (at(offset), 8, *item)).collect();
        let page = LogPage { items, first: at(1), head: self.head(), end: self.head() };
        self.session.read_done(self.now, Ok(page));
    }
}

#[test]
fn what_is_stored_of_a_topic_that_was_live_is_read_from_the_beginning() {
    let mut reading = Reading::begin(TopicKind::Live, &[]);
    reading.live(100);
    reading.log = vec![1, 2, 3];
    // The first two were lost on the way.
    reading.stored(3);
    reading.settle();
    assert_eq!(reading.got, [100, 1, 2, 3]);
}

#[test]
fn what_was_stored_before_history_was_switched_off_goes_first() {
    let mut reading = Reading::begin(TopicKind::Durable, &[]);
    reading.settle();
    reading.log = vec![1, 2, 3];
    reading.stored(1);
    // The second was lost on the way, and is about to be read.
    reading.stored(3);
    for item in [100, 101] {
        reading.live(item);
    }
    reading.settle();
    assert_eq!(reading.got, [1, 2, 3, 100, 101]);
    reading.live(102);
    reading.settle();
    assert_eq!(reading.got.last(), Some(&102));
}

#[test]
fn where_nodes_disagree_for_a_moment_nothing_is_lost() {
    let mut reading = Reading::begin(TopicKind::Durable, &[]);
    reading.settle();
    reading.log = vec![1];
    reading.stored(1);
    reading.live(100);
    reading.log = vec![1, 2, 3];
    // Another node still stores; the second was lost on the way.
    reading.stored(3);
    reading.live(101);
    reading.settle();
    assert_eq!(reading.got, [1, 100, 2, 3, 101]);
}

#[test]
fn a_subscription_that_begins_meanwhile_is_answered() {
    let mut reading = Reading::begin(TopicKind::Durable, &[1]);
    reading.live(100);
    reading.settle();
    assert_eq!((reading.n_subscribed, &*reading.got), (1, &[100][..]));
}
