//! What a hub makes of messages that come from other nodes by a way that loses, doubles and reorders.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::sync::Arc;
use std::time::Duration;

use bongsu::carrier::Carrier;
use bongsu::clock;
use bongsu::config::{Policies, Settings};
use bongsu::delivery::{Shared, SharedDelivery};
use bongsu::dialog::Dialog;
use bongsu::heard::Heard;
use bongsu::history::History;
use bongsu::hub::{Answer, Fanout, Hub, Probe};
use bongsu::outbound::{ConnectionId, Outbound};
use bongsu_persistence::memory::MemoryStore;
use bongsu_persistence::store::{Append, Appended, ChangeMark, Store, TopicsQuery};
use bongsu_protocol::codec::Format;
use bongsu_protocol::command::{Command, Request, RequestId, Start, Subscription};
use bongsu_protocol::event::Event;
use bongsu_protocol::message::{Message, NewMessage, Time};
use bongsu_protocol::session::{Bounds, Effect, Grants, Outgoing, Session, SlowReader};
use bongsu_protocol::topic::{Topic, TopicFilter};

const PATIENCE: Duration = Duration::from_secs(20);

/// A hub of a cluster's node, and the store that other nodes publish to.
struct Rig {
    store: Arc<MemoryStore>,
    history: Arc<History>,
    hub: Hub,
    probe: Arc<Probe>,
    mark: Option<ChangeMark>,
}

impl Rig {
    fn new() -> Self {
        let store = Arc::new(MemoryStore::default());
        let history = History::new(store.clone(), Arc::new(Heard::nothing()), 1 << 20, 8);
        let policies = Arc::new(Policies::new(&Settings::default().topics.0));
        let probe = Arc::new(Probe::default());
        let hub = Hub::clustered(1, &policies, &history, &probe);
        Self { store, history, hub, probe, mark: None }
    }

    /// Another node publishes; gives the message as the bus would bring it.
    async fn publish(&self, topic: &str, payload: &str) -> SharedDelivery {
        let message = Message::new(payload.to_owned());
        let message = NewMessage { topic: Topic::parse(topic).unwrap(), message, expect: None };
        let append = Append {
            message,
            publisher: String::new(),
            time: Time(1000),
            idempotency_window: Duration::ZERO,
        };
        let outcome = self.store.append(vec![append]).await.unwrap().remove(0);
        let Appended::Stored(delivery) = outcome else { panic!("{outcome:?}") };
        Shared::new(delivery)
    }

    /// The bus brings messages.
    async fn bring(&self, messages: &[&SharedDelivery]) {
        let fanout = |shared: &&SharedDelivery| Fanout {
            shared: SharedDelivery::clone(shared),
            slow_reader: SlowReader::DropOldest,
        };
        self.hub.fan_out(messages.iter().map(fanout).collect()).await;
    }

    /// The bus announces that a message exists.
    async fn announce(&self, message: &SharedDelivery) {
        let head = (message.delivery.topic.clone(), message.delivery.position.unwrap());
        self.hub.heads_up(vec![head]).await;
    }

    /// The store is asked what changed.
    async fn ask(&mut self) {
        let number = self.probe.ask();
        let changes = self.store.changes(self.mark.take()).await.unwrap();
        self.mark = Some(changes.mark);
        let changed = changes.complete.then_some(changes.changed);
        self.hub.changes(Answer { number, changed }).await;
        self.probe.answer(number);
    }
}

/// A connection without a socket: what it would be sent is looked at.
struct Client {
    outbound: Arc<Outbound>,
    seen: Vec<String>,
    subscribed: bool,
}

impl Client {
    async fn subscribe(rig: &Rig, number: u64, filter: &str, from: Start) -> Self {
        let everything = || vec![TopicFilter::parse("#").unwrap()];
        let grants = Grants { subscribe: everything(), ..Grants::default() };
        let bounds =
            Bounds { outbox_bytes: 1 << 20, subscriptions: 10, topics: 1000, requests_in_flight: 10 };
        let dialog = Dialog::Native { session: Session::new(bounds, grants), format: Format::Json };
        let outbound = Outbound::new(ConnectionId(number), dialog, Carrier::Bytes, None);
        let filter = TopicFilter::parse(filter).unwrap();
        let subscription = Subscription { filter, from, seen: Vec::new() };
        let request = Request { id: RequestId(1), command: Command::Subscribe(vec![subscription]) };
        outbound.lock().session_mut().handle(Time(0), Ok(request));
        let mut client = Self { outbound, seen: Vec::new(), subscribed: false };
        client.until(rig, |client| client.subscribed).await;
        client
    }

    /// Serves the session until a condition holds.
    async fn until(&mut self, rig: &Rig, done: impl Fn(&Self) -> bool) {
        let serve = async {
            loop {
                while self.step(rig).await {}
                if done(self) {
                    return;
                }
                tokio::select! {
                    () = self.outbound.called() => {}
                    () = tokio::time::sleep(Duration::from_millis(2)) => {}
                }
            }
        };
        let served = tokio::time::timeout(PATIENCE, serve).await;
        assert!(served.is_ok(), "seen until then: {:?}", self.seen);
    }

    async fn sees(&mut self, rig: &Rig, expected: &[&str]) {
        self.until(rig, |client| client.seen.len() >= expected.len()).await;
        assert_eq!(self.seen, expected);
    }

    /// Carries out one effect and takes what is to be sent. False if there was nothing.
    async fn step(&mut self, rig: &Rig) -> bool {
        let effect = {
            let mut state = self.outbound.lock();
            state.session_mut().poll(clock::monotonic());
            while let Some(outgoing) = state.session_mut().poll_outgoing() {
                match outgoing {
                    Outgoing::Delivery(shared) => {
                        self.seen.push(String::from_utf8(shared.delivery.message.payload.to_vec()).unwrap());
                    }
                    Outgoing::Event(event) => match *event {
                        Event::Reply { result, .. } => self.subscribed = result.is_ok(),
                        Event::Lost(lost) => self.seen.push(format!("lost {}", lost.count)),
                        Event::Goodbye(_) => self.seen.push("goodbye".to_owned()),
                        _ => {}
                    },
                }
            }
            state.session_mut().poll_effect()
        };
        match effect {
            Some(Effect::Watch { filter }) => rig.hub.watch(self.outbound.clone(), filter).await,
            Some(Effect::Read { query }) => {
                let page = rig.history.catch_up(query).await;
                self.outbound.lock().session_mut().read_done(clock::monotonic(), page);
            }
            Some(Effect::List { filter, after }) => {
                let query = TopicsQuery { filter: filter.clone(), after, limit: 100 };
                let logs = rig.history.topics(query).await.unwrap();
                let listed = logs.into_iter().map(|log| (log.topic, log.first, log.head)).collect();
                self.outbound.lock().session_mut().listed(&filter, Ok(listed));
            }
            Some(Effect::Close) => {}
            Some(other) => panic!("{other:?}"),
            None => return false,
        }
        true
    }
}

#[tokio::test]
async fn messages_that_come_out_of_order_are_offered_in_order() {
    let rig = Rig::new();
    let mut exact = Client::subscribe(&rig, 1, "a", Start::Latest).await;
    let mut pattern = Client::subscribe(&rig, 2, "#", Start::Latest).await;
    let (one, two, three) =
        (rig.publish("a", "1").await, rig.publish("a", "2").await, rig.publish("a", "3").await);
    rig.bring(&[&one]).await;
    rig.bring(&[&three, &three]).await;
    rig.bring(&[&two, &one]).await;
    exact.sees(&rig, &["1", "2", "3"]).await;
    pattern.sees(&rig, &["1", "2", "3"]).await;
}

#[tokio::test]
async fn what_is_missing_in_between_is_read_from_the_log() {
    let rig = Rig::new();
    let mut client = Client::subscribe(&rig, 1, "a", Start::Latest).await;
    let one = rig.publish("a", "1").await;
    rig.publish("a", "2").await;
    let three = rig.publish("a", "3").await;
    rig.bring(&[&one]).await;
    rig.bring(&[&three]).await;
    client.sees(&rig, &["1", "2", "3"]).await;
}

#[tokio::test]
async fn a_last_message_that_did_not_come_is_found_by_its_announcement() {
    let rig = Rig::new();
    let mut client = Client::subscribe(&rig, 1, "a", Start::Latest).await;
    let one = rig.publish("a", "1").await;
    rig.bring(&[&one]).await;
    rig.publish("a", "2").await;
    let three = rig.publish("a", "3").await;
    rig.announce(&three).await;
    client.sees(&rig, &["1", "2", "3"]).await;
}

#[tokio::test]
async fn a_first_message_that_did_not_come_is_found_by_its_announcement() {
    let rig = Rig::new();
    let mut client = Client::subscribe(&rig, 1, "a", Start::Latest).await;
    rig.publish("a", "1").await;
    let two = rig.publish("a", "2").await;
    rig.announce(&two).await;
    client.sees(&rig, &["1", "2"]).await;
}

#[tokio::test]
async fn whatever_did_not_come_is_found_by_asking_the_store() {
    let mut rig = Rig::new();
    rig.ask().await;
    let mut exact = Client::subscribe(&rig, 1, "a", Start::Latest).await;
    let mut pattern = Client::subscribe(&rig, 2, "+", Start::Latest).await;
    rig.publish("a", "1").await;
    rig.publish("a", "2").await;
    rig.ask().await;
    exact.sees(&rig, &["1", "2"]).await;
    pattern.sees(&rig, &["1", "2"]).await;
}

#[tokio::test]
async fn a_pattern_is_not_offered_a_topic_before_it_is_known_that_nothing_came_before() {
    let mut rig = Rig::new();
    rig.publish("a", "old").await;
    rig.ask().await;
    let mut client = Client::subscribe(&rig, 1, "+", Start::Latest).await;
    rig.publish("a", "1").await;
    let two = rig.publish("a", "2").await;
    rig.bring(&[&two]).await;
    // The store is asked since the hub wants to know.
    tokio::time::timeout(PATIENCE, rig.probe.wanted()).await.unwrap();
    client.until(&rig, |_| true).await;
    assert_eq!(client.seen, Vec::<String>::new(), "`1` may have been lost");
    rig.ask().await;
    client.sees(&rig, &["1", "2"]).await;
}

#[tokio::test]
async fn an_answer_to_an_earlier_question_proves_nothing() {
    let mut rig = Rig::new();
    rig.publish("a", "old").await;
    rig.ask().await;
    let mut client = Client::subscribe(&rig, 1, "+", Start::Latest).await;
    let early = rig.probe.ask();
    rig.publish("a", "1").await;
    let two = rig.publish("a", "2").await;
    rig.bring(&[&two]).await;
    tokio::time::timeout(PATIENCE, rig.probe.wanted()).await.unwrap();
    rig.hub.changes(Answer { number: early, changed: Some(Vec::new()) }).await;
    client.until(&rig, |_| true).await;
    assert_eq!(client.seen, Vec::<String>::new());
    rig.ask().await;
    client.sees(&rig, &["1", "2"]).await;
}

#[tokio::test]
async fn readers_ask_for_themselves_where_the_store_cannot_tell() {
    let rig = Rig::new();
    let mut exact = Client::subscribe(&rig, 1, "a", Start::Latest).await;
    let mut pattern = Client::subscribe(&rig, 2, "+", Start::Latest).await;
    rig.publish("a", "1").await;
    rig.hub.changes(Answer { number: rig.probe.ask(), changed: None }).await;
    exact.sees(&rig, &["1"]).await;
    pattern.sees(&rig, &["goodbye"]).await;
}

#[tokio::test]
async fn a_log_that_is_made_anew_goes_on_for_its_readers() {
    let mut rig = Rig::new();
    rig.ask().await;
    let mut client = Client::subscribe(&rig, 1, "+", Start::Latest).await;
    let one = rig.publish("a", "1").await;
    rig.bring(&[&one]).await;
    let topic = Topic::parse("a").unwrap();
    rig.store.remove(bongsu_persistence::store::Removal::Delete { topic }).await.unwrap();
    rig.publish("a", "anew 1").await;
    let two = rig.publish("a", "anew 2").await;
    rig.bring(&[&two]).await;
    rig.ask().await;
    client.sees(&rig, &["1", "anew 1", "anew 2"]).await;
}
