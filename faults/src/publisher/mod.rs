//! Publishers that repeat what was not answered with the same message id, until it is, by whatever way in.

mod desk;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::ledger::{Broken, Ledger, Number};
use crate::transport::Transport;
use crate::wire::{Connection, Position, Refusal};
use crate::world::Database;
use desk::Desk;

/// What a publisher is made of.
pub(crate) struct Publisher {
    pub(crate) transport: Transport,
    /// Where it connects.
    pub(crate) way: SocketAddr,
    /// For the one that publishes there.
    pub(crate) database: Option<Arc<Database>>,
    pub(crate) ledger: Arc<Ledger>,
    /// Its messages are numbered from here.
    pub(crate) first: Number,
    pub(crate) seed: u64,
    /// Between two batches.
    pub(crate) pause: Duration,
    /// Messages of a batch, at most.
    pub(crate) batch_max: usize,
    /// Where they go: one topic, or the mix of topics that a run has.
    pub(crate) topic: Option<&'static str>,
}

/// A message on its way.
struct Message {
    number: Number,
    topic: String,
    fate: Fate,
    /// Whether it was sent on a connection whose reply did not come.
    is_repeated: bool,
}

/// What the broker said of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Nothing.
    Open,
    /// That it has it.
    Taken,
    /// That it has it at this position.
    At(Position),
}

/// Of the messages whose fate is unknown, one in this many is not repeated: it may be there once or not at all.
const GIVEN_UP_ONE_IN: u32 = 5;

impl Publisher {
    /// Publishes until `stop` says so; what is under way then is brought to its end.
    pub(crate) async fn run(self, stop: watch::Receiver<bool>) {
        let mut random = StdRng::seed_from_u64(self.seed);
        let mut desk = None;
        let mut number = self.first;
        while !*stop.borrow() {
            let n_messages = random.random_range(1..=self.batch_max);
            let mut batch: Vec<Message> = (0..n_messages)
                .map(|_| {
                    number += 1;
                    let topic = self.topic.map_or_else(|| topic(&mut random), str::to_owned);
                    self.ledger.sent(number, &topic, self.transport);
                    Message { number, topic, fate: Fate::Open, is_repeated: false }
                })
                .collect();
            self.bring_home(&mut batch, &mut desk, &mut random).await;
            sleep(self.pause).await;
        }
    }

    /// Sends a batch until every message in it was acknowledged or given up.
    async fn bring_home(&self, batch: &mut Vec<Message>, desk: &mut Option<Desk>, random: &mut StdRng) {
        while batch.iter().any(|message| message.fate == Fate::Open) {
            match self.send(batch, desk).await {
                Ok(wait) => sleep(wait).await,
                Err(_) => {
                    *desk = None;
                    for message in batch.iter_mut() {
                        message.is_repeated = true;
                    }
                    batch.retain(|message| {
                        message.fate != Fate::Open || random.random_range(0..GIVEN_UP_ONE_IN) > 0
                    });
                    sleep(Duration::from_millis(random.random_range(20..200))).await;
                }
            }
        }
        // What was sent once, on one connection, is stored in the order of sending.
        let mut newest: HashMap<&str, Position> = HashMap::new();
        for message in batch.iter().filter(|message| !message.is_repeated) {
            let Fate::At(position) = message.fate else { continue };
            let before = newest.insert(&message.topic, position);
            if before.is_some_and(|before| before >= position) {
                let text = format!(
                    "{}: {} at {position} was sent after one at {before:?}",
                    message.topic, message.number
                );
                self.ledger.violate(Broken::OutOfOrder, text);
            }
        }
    }

    /// Sends what has no answer yet and takes in the answers. Returns how long to wait before the rest.
    async fn send(&self, batch: &mut [Message], desk: &mut Option<Desk>) -> anyhow::Result<Duration> {
        if desk.is_none() {
            *desk = Some(Desk::open(self).await?);
        }
        let desk = desk.as_mut().expect("it was just made");
        let mut open: Vec<&mut Message> =
            batch.iter_mut().filter(|message| message.fate == Fate::Open).collect();
        let answers = desk.publish(&open).await?;
        let mut wait = Duration::ZERO;
        for (message, answer) in open.iter_mut().zip(answers) {
            match answer {
                Ok(fate) => {
                    message.fate = fate;
                    match fate {
                        Fate::At(position) => {
                            self.ledger.acknowledged(message.number, &message.topic, position)
                        }
                        Fate::Taken => self.ledger.taken(message.number, &message.topic),
                        Fate::Open => {}
                    }
                }
                Err(refusal) => {
                    // It may have happened.
                    message.is_repeated = true;
                    wait = wait.max(self.wait_after(&refusal)?);
                }
            }
        }
        Ok(wait)
    }

    fn wait_after(&self, refusal: &Refusal) -> anyhow::Result<Duration> {
        if !matches!(refusal.code.as_str(), "unavailable" | "internal" | "rate_limited") {
            let text =
                format!("a publish by {} was refused: {}: {}", self.transport, refusal.code, refusal.text);
            self.ledger.violate(Broken::Unexplained, text);
            bail!("refused for good");
        }
        Ok(Duration::from_millis(refusal.retry_after_ms.unwrap_or(100).min(1000)))
    }
}

/// Topics that are read one by one, topics that are read by pattern, topics that nobody knew before, and one that forgets.
fn topic(random: &mut StdRng) -> String {
    match random.random_range(0..100) {
        0..45 => format!("orders/{}", random.random_range(0..6)),
        45..80 => format!("rooms/{}/chat", random.random_range(0..6)),
        80..90 => format!("rooms/{}/deep/er", random.random_range(0..3)),
        90..92 => format!("rooms/new-{}/chat", random.random_range(0..200)),
        _ => "short/0".to_owned(),
    }
}

/// Publishes one message until it is acknowledged.
pub(crate) async fn publish_one(proxy: SocketAddr, ledger: &Ledger, topic: &str, number: Number) {
    ledger.sent(number, topic, Transport::Json);
    loop {
        let attempt = async {
            let mut connection = Connection::open(proxy).await?;
            let message = json!({ "topic": topic, "data": number, "id": number.to_string() });
            let id = connection.request("publish", json!({ "messages": [message] })).await?;
            let reply = connection.reply(id).await?;
            let result = reply.published.and_then(|mut published| published.results.pop());
            anyhow::Ok(result.and_then(|result| result.published).context("refused for now")?.position)
        };
        match attempt.await {
            Ok(position) => return ledger.acknowledged(number, topic, position),
            Err(_) => sleep(Duration::from_millis(20)).await,
        }
    }
}
