//! A subscriber that keeps positions and resumes by them, on whatever node the proxy gives it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use crate::filter;
use crate::ledger::{Broken, Ledger};
use crate::wire::{Connection, Event, Position, REPLY_TIMEOUT, Subscribed};

/// What a subscriber is made of.
pub(crate) struct Subscriber {
    pub(crate) proxy: SocketAddr,
    pub(crate) filters: Vec<String>,
    /// Its number in the ledger.
    pub(crate) number: usize,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) seed: u64,
    /// Leaves of its own accord after a random time of up to twice this, and comes back: a phone in a tunnel.
    pub(crate) restless: Option<Duration>,
    /// How long it stays away then, on average.
    pub(crate) away: Duration,
}

/// What it keeps across connections, as `docs/protocol.md`, "Resuming", says.
#[derive(Default)]
struct Kept {
    /// By filter.
    since: HashMap<String, u64>,
    /// By topic, the newest.
    positions: HashMap<String, Position>,
    /// The newest deliveries of this connection, where it had to begin a pattern anew: one whose first answer never came has no
    /// time to resume from, so what came before that answer comes again.
    repeats: Option<HashMap<String, Position>>,
}

impl Subscriber {
    /// Subscribes and resumes until `stop` says so.
    pub(crate) async fn run(self, mut stop: watch::Receiver<bool>) {
        let mut random = StdRng::seed_from_u64(self.seed);
        let mut kept = Kept::default();
        let mut failures = 0;
        while !*stop.borrow() {
            let leave =
                self.restless.map(|mean| Instant::now() + mean.mul_f64(random.random_range(0.0..2.0)));
            let ended = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return,
                () = sleep_until(leave.unwrap_or_else(|| Instant::now() + FOREVER)) => Ok(()),
                ended = self.read(&mut kept, &mut failures) => ended.map(|never| match never {}),
            };
            let longest = match ended {
                Ok(()) => self.away * 2,
                // After an end that nobody announced: a random time up to 1 s, 2 s, 4 s.
                Err(_) => {
                    failures += 1;
                    Duration::from_millis(500 << failures.min(3))
                }
            };
            let last_chance = stop.wait_for(|stop| *stop);
            // Whoever is away when the run ends still has to catch up.
            let _ = timeout(longest.mul_f64(random.random_range(0.0..1.0)), last_chance).await;
        }
    }

    /// One connection, to its end.
    async fn read(&self, kept: &mut Kept, failures: &mut u32) -> anyhow::Result<std::convert::Infallible> {
        let mut connection = Connection::open(self.proxy).await?;
        self.ledger.connected(self.number, &connection.node);
        let begins_anew =
            self.filters.iter().any(|filter| filter::is_pattern(filter) && !kept.since.contains_key(filter));
        kept.repeats = begins_anew.then(HashMap::new);
        let subscriptions: Vec<Value> = self.filters.iter().map(|filter| kept.subscription(filter)).collect();
        let id = connection.request("subscribe", json!({ "subscriptions": subscriptions })).await?;
        let deadline = Instant::now() + REPLY_TIMEOUT;
        let mut answered = false;
        loop {
            for event in connection.events().await? {
                if event.reply.as_ref().is_some_and(|reply| reply.id == id) {
                    kept.take_reply(&event)?;
                    answered = true;
                    *failures = 0;
                } else {
                    self.handle(event, kept)?;
                }
            }
            if !answered && Instant::now() > deadline {
                bail!("no answer to subscribe");
            }
        }
    }

    fn handle(&self, event: Event, kept: &mut Kept) -> anyhow::Result<()> {
        if let Some(delivery) = event.delivery {
            let position = delivery.position();
            if kept.is_repeat(&delivery.topic, position) {
                return Ok(());
            }
            self.ledger.delivered(self.number, &delivery.topic, position, &delivery.id);
            kept.pass(&delivery.topic, position);
        } else if let Some(lost) = event.lost {
            self.ledger.lost(self.number, &lost.topic, lost.epoch, lost.from, lost.until);
            kept.pass(&lost.topic, Position { epoch: lost.epoch, offset: lost.until });
        } else if let Some(reset) = event.reset {
            let text = format!("{}: reset to epoch {}, and no log was made anew", reset.topic, reset.epoch);
            self.ledger.violate(Broken::Unexplained, text);
            kept.pass(&reset.topic, Position { epoch: reset.epoch, offset: 0 });
        } else if let Some(unsubscribed) = event.unsubscribed {
            self.ledger.violate(Broken::Unexplained, format!("unsubscribed: {unsubscribed}"));
            bail!("unsubscribed");
        } else if let Some(goodbye) = event.goodbye {
            bail!("goodbye: {goodbye}");
        }
        Ok(())
    }
}

/// Longer than any run.
const FOREVER: Duration = Duration::from_secs(24 * 60 * 60);

impl Kept {
    /// Where reading this filter goes on.
    fn subscription(&self, filter: &str) -> Value {
        if !filter::is_pattern(filter) {
            return match self.positions.get(filter) {
                Some(position) => json!({ "filter": filter, "from": { "after": position } }),
                None => json!({ "filter": filter, "from": "earliest" }),
            };
        }
        let Some(since) = self.since.get(filter) else {
            return json!({ "filter": filter, "from": "earliest" });
        };
        let seen: Vec<Value> = self
            .positions
            .iter()
            .filter(|(topic, _)| filter::matches(filter, topic))
            .map(|(topic, position)| json!({ "topic": topic, "position": position }))
            .collect();
        json!({ "filter": filter, "from": { "time": since }, "seen": seen })
    }

    fn take_reply(&mut self, event: &Event) -> anyhow::Result<()> {
        let reply = event.reply.as_ref().context("the caller saw one")?;
        let results = reply.subscribed.as_ref().with_context(|| format!("{:?}", reply.error))?;
        for result in &results.results {
            // Such as `unavailable`: the whole connection tries again, since each part of it may.
            let Subscribed { filter, since, positions } =
                result.subscribed.as_ref().with_context(|| format!("{:?}", result.error))?;
            self.since.insert(filter.clone(), *since);
            for known in positions {
                self.pass(&known.topic, known.position);
            }
        }
        Ok(())
    }

    /// Whether this connection had to bring again what an earlier one brought; twice on one connection is never right.
    fn is_repeat(&mut self, topic: &str, position: Position) -> bool {
        let Some(repeats) = &mut self.repeats else { return false };
        let before = repeats.insert(topic.to_owned(), position);
        before.is_none_or(|before| position > before)
            && self.positions.get(topic).is_some_and(|known| position <= *known)
    }

    fn pass(&mut self, topic: &str, position: Position) {
        match self.positions.get_mut(topic) {
            Some(known) => *known = position.max(*known),
            None => {
                self.positions.insert(topic.to_owned(), position);
            }
        }
    }
}
