//! Short ways to say what a test does.

use std::sync::Arc;
use std::time::Duration;

use bongsu_persistence::store::{Append, Appended, Removal, Removed, Store};
use bongsu_protocol::command::{HistoryQuery, HistoryRange, Start};
use bongsu_protocol::event::Page;
use bongsu_protocol::message::{Delivery, Message, NewMessage, Time};
use bongsu_protocol::position::{Offset, Position};
use bongsu_protocol::topic::Topic;

pub(crate) const MINUTE: Duration = Duration::from_secs(60);

pub(crate) fn topic(name: &str) -> Topic {
    Topic::parse(name).unwrap()
}

/// A message of the topic `t` at time 1,000.
pub(crate) fn message(payload: &str) -> Append {
    Append {
        message: NewMessage { topic: topic("t"), message: Message::new(payload.to_owned()), expect: None },
        publisher: "somebody".to_owned(),
        time: Time(1000),
        idempotency_window: Duration::ZERO,
    }
}

pub(crate) trait Build {
    fn to(self, topic: &str) -> Self;
    fn at(self, time: u64) -> Self;
    fn id(self, id: &str, window: Duration) -> Self;
    fn expect(self, offset: u64) -> Self;
}

impl Build for Append {
    fn to(mut self, name: &str) -> Self {
        self.message.topic = topic(name);
        self
    }

    fn at(mut self, time: u64) -> Self {
        self.time = Time(time);
        self
    }

    fn id(mut self, id: &str, window: Duration) -> Self {
        self.message.message.id = id.to_owned();
        self.idempotency_window = window;
        self
    }

    fn expect(mut self, offset: u64) -> Self {
        self.message.expect = Some(Offset(offset));
        self
    }
}

/// Appends one message.
pub(crate) async fn append(store: &impl Store, append: Append) -> Appended {
    let mut outcomes = store.append(vec![append]).await.unwrap();
    assert_eq!(outcomes.len(), 1);
    outcomes.remove(0)
}

/// Appends messages to the topic `t`, one millisecond apart, the first at time 1,000; answers their epoch.
pub(crate) async fn fill(store: &impl Store, n_messages: u64) -> u64 {
    let batch = (0..n_messages).map(|n| message(&format!("m{}", n + 1)).at(1000 + n)).collect();
    let outcomes = store.append(batch).await.unwrap();
    stored(&outcomes[0]).position.unwrap().epoch.0
}

pub(crate) fn stored(outcome: &Appended) -> &Arc<Delivery> {
    match outcome {
        Appended::Stored(delivery) => delivery,
        other => panic!("{other:?} instead of a stored message"),
    }
}

/// The offset of a stored message.
pub(crate) fn offset(outcome: &Appended) -> u64 {
    stored(outcome).position.unwrap().offset.0
}

pub(crate) async fn page(store: &impl Store, range: HistoryRange, limit: u32) -> Page {
    store.read(HistoryQuery { topic: topic("t"), range, limit }).await.unwrap()
}

/// The first page of the topic `t`.
pub(crate) async fn all(store: &impl Store) -> Page {
    page(store, HistoryRange::Forward(Start::Earliest), 1000).await
}

pub(crate) fn offsets(page: &Page) -> Vec<u64> {
    page.messages.iter().map(|delivery| delivery.position.unwrap().offset.0).collect()
}

/// (first, head, more)
pub(crate) fn bounds(page: &Page) -> (u64, u64, bool) {
    assert_eq!(page.first.epoch, page.head.epoch);
    (page.first.offset.0, page.head.offset.0, page.more)
}

pub(crate) async fn remove(store: &impl Store, removal: Removal) -> Removed {
    store.remove(removal).await.unwrap()
}

pub(crate) async fn purge(store: &impl Store, until: u64) -> Removed {
    remove(store, Removal::Purge { topic: topic("t"), until: Offset(until) }).await
}

pub(crate) async fn erase(store: &impl Store, position: Position) -> Removed {
    remove(store, Removal::Erase { topic: topic("t"), position }).await
}

pub(crate) async fn delete(store: &impl Store) -> Removed {
    remove(store, Removal::Delete { topic: topic("t") }).await
}
