//! Clients that publish, and repeat elsewhere what was not acknowledged.

use std::sync::Arc;
use std::time::Duration;

use bongsu_protocol::command::{Command, Request, RequestId};
use bongsu_protocol::event::{Event, Published, Reply};
use bongsu_protocol::message::{Message, NewMessage};
use bongsu_protocol::reason::Error;
use bongsu_protocol::topic::Topic;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::dice::Dice;
use crate::wire::{Incoming, Wire};
use crate::world::World;

/// What a publisher waits for an acknowledgment before it asks elsewhere.
const PATIENCE: Duration = Duration::from_secs(12);

/// Topics that keep history. The last two keep little of it.
pub(crate) const TOPICS: [&str; 9] = ["a/0", "a/1", "a/2", "a/3", "b/0", "b/1", "b/2", "trim/0", "trim/1"];

/// Topics that keep none.
const LIVE: [&str; 2] = ["live/0", "live/1"];

/// A client that publishes.
#[derive(Debug)]
pub(crate) struct Publisher {
    world: Arc<World>,
    number: usize,
    dice: Dice,
    wire: Option<Wire>,
    last_request: u64,
    n_connections: u64,
    n_messages: u64,
}

/// A topic of this name.
pub(crate) fn topic(name: &str) -> Topic {
    Topic::parse(name).expect("the names are well-formed")
}

impl Publisher {
    pub(crate) fn new(world: &Arc<World>, number: usize) -> Self {
        let dice = Dice::of(world.plan.seed, "publisher", number as u64);
        world.lock().n_publishing += 1;
        let world = Arc::clone(world);
        Self { world, number, dice, wire: None, last_request: 0, n_connections: 0, n_messages: 0 }
    }

    /// Publishes for ever. In the calm only what is asked for.
    pub(crate) async fn run(mut self) {
        loop {
            if self.world.is_calm() {
                self.world.lock().n_publishing -= 1;
                while self.world.is_calm() {
                    sleep(Duration::from_millis(5)).await;
                    let errand = self.world.lock().errand.take_if(|_| self.number == 0);
                    match errand {
                        Some(topic) if topic.as_str().starts_with("live/") => self.publish_live(topic).await,
                        Some(topic) => {
                            let message = self.message(topic);
                            self.publish(vec![message]).await;
                        }
                        None => {}
                    }
                    self.look().await;
                }
                self.world.lock().n_publishing += 1;
            }
            sleep(Duration::from_millis(self.dice.between(5..=300))).await;
            match self.dice.below(10) {
                0 => {
                    let live = topic(LIVE[self.dice.below(LIVE.len())]);
                    self.publish_live(live).await;
                }
                1 => {
                    // Now and then to a topic that was not there before.
                    let made = self.world.trace.now() / 2000;
                    let message = self.message(topic(&format!("made/{made}")));
                    self.publish(vec![message]).await;
                }
                _ => {
                    let n_messages = self.dice.below(5) + 1;
                    let batch = (0..n_messages).map(|_| {
                        let name = TOPICS[self.dice.below(TOPICS.len())];
                        self.message(topic(name))
                    });
                    let batch = batch.collect();
                    self.publish(batch).await;
                }
            }
        }
    }

    fn message(&mut self, topic: Topic) -> NewMessage {
        self.n_messages += 1;
        let id = format!("p{}-{}", self.number, self.n_messages);
        let n_bytes =
            if self.dice.chance(0.1) { self.dice.between(1000..=4000) } else { self.dice.between(1..=300) };
        let payload =
            format!("{id} ").into_bytes().into_iter().cycle().take(usize::try_from(n_bytes).unwrap_or(1));
        let payload: Vec<u8> = payload.collect();
        NewMessage { topic, message: Message { id, ..Message::new(payload) }, expect: None }
    }

    /// Publishes until every message is acknowledged.
    async fn publish(&mut self, mut batch: Vec<NewMessage>) {
        while !batch.is_empty() {
            let Some(results) = self.ask(&batch).await else {
                sleep(Duration::from_millis(self.dice.between(1..=100))).await;
                continue;
            };
            let mut left = Vec::new();
            for (message, result) in batch.into_iter().zip(results) {
                let (topic, id) = (&message.topic, &message.message.id);
                match result {
                    Ok(Published { position: Some(position), duplicate }) => {
                        let again = if duplicate { " again" } else { "" };
                        self.note(format_args!("{id} is acknowledged{again} at {topic} {position}"));
                        self.world.acknowledged(topic, id, position);
                    }
                    Ok(Published { position: None, .. }) => {
                        self.world.violation(&format!("{id} was acknowledged without a position"));
                    }
                    Err(error) if error.code.is_retryable() => {
                        self.note(format_args!("{id}: {error}"));
                        left.push(message);
                    }
                    Err(error) => self.world.violation(&format!("{id}: {error}")),
                }
            }
            if !left.is_empty() {
                sleep(Duration::from_millis(self.dice.between(100..=1000))).await;
            }
            batch = left;
        }
    }

    /// Publishes a live message once: nobody promises anything about a second time.
    async fn publish_live(&mut self, topic: Topic) {
        let mut message = self.message(topic.clone());
        let number = self.n_messages;
        // The order of a publisher's messages is that of one connection.
        if self.wire.is_none() {
            self.connect().await;
        }
        let session = format!("p{}.{}", self.number, self.n_connections);
        message.message.id = format!("{session}-{number}");
        let taken = self.ask(&[message]).await;
        if matches!(taken.as_deref(), Some([Ok(_)])) {
            self.world.lock().last_live = Some((topic, session, number));
        }
    }

    async fn connect(&mut self) {
        let who = format!("publisher-{}", self.number);
        self.wire = self.world.connect(&who, &mut self.dice);
        self.last_request = 0;
        self.n_connections += 1;
        if self.wire.is_none() {
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// One request and its reply; `None` if there was none.
    async fn ask(&mut self, batch: &[NewMessage]) -> Option<Vec<Result<Published, Error>>> {
        if self.wire.is_none() {
            self.connect().await;
        }
        let mut wire = self.wire.take()?;
        self.last_request += 1;
        let id = RequestId(self.last_request);
        let request = Request { id, command: Command::Publish(batch.to_vec()) };
        let give_up_at = Instant::now() + PATIENCE;
        timeout(PATIENCE, wire.send(&[request])).await.ok()?.ok()?;
        loop {
            let incoming = tokio::select! {
                biased;
                () = sleep_until(give_up_at) => return None,
                incoming = wire.next() => incoming,
            };
            let events = match incoming {
                Incoming::Events(events) => events,
                Incoming::Gone => return None,
                Incoming::Broken(text) => {
                    self.world.violation(&format!("publisher-{}: {text}", self.number));
                    return None;
                }
            };
            for event in events {
                match event {
                    Event::Reply { id: answered, result } if answered == id => {
                        // Most stay where they are.
                        if self.dice.chance(0.9) {
                            self.wire = Some(wire);
                        }
                        return match result {
                            Ok(Reply::Published(results)) => Some(results),
                            Err(error) if error.code.is_retryable() => None,
                            other => {
                                self.world.violation(&format!("a publish was answered with {other:?}"));
                                None
                            }
                        };
                    }
                    _ => {}
                }
            }
        }
    }

    /// Reads what a node has to say though nothing was asked: pings want an answer.
    async fn look(&mut self) {
        let Some(wire) = &mut self.wire else { return };
        if let Ok(Incoming::Gone | Incoming::Broken(_)) = timeout(Duration::ZERO, wire.next()).await {
            self.wire = None;
        }
    }

    fn note(&self, what: std::fmt::Arguments<'_>) {
        self.world.trace.note(format_args!("publisher-{} {what}", self.number));
    }
}
