//! Readers of the native protocol, over all that carries it: `docs/protocol.md`, "Resuming".

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Kept, Subscriber};
use crate::filter;
use crate::ledger::Broken;
use crate::wire::{Connection, Event, Position, REPLY_TIMEOUT, Subscribed};

impl Subscriber {
    /// One connection, to its end.
    pub(super) async fn read_native(&self, way: SocketAddr, kept: &mut Kept) -> anyhow::Result<Infallible> {
        let mut connection = Connection::open_by(self.transport, way).await?;
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
                    self.connected(kept, &connection.node);
                } else {
                    self.handle(event, kept)?;
                }
            }
            if !answered && Instant::now() > deadline {
                bail!("no answer to subscribe");
            }
        }
    }

    /// Takes what the native protocol says, in whatever it came.
    pub(super) fn handle(&self, event: Event, kept: &mut Kept) -> anyhow::Result<()> {
        if let Some(delivery) = event.delivery {
            let position = delivery.position();
            if !kept.is_repeat(&delivery.topic, position) {
                self.came(kept, &delivery.topic, position, &delivery.id());
            }
        } else if let Some(lost) = event.lost {
            self.lost(kept, &lost);
        } else if let Some(reset) = event.reset {
            self.reset(kept, &reset);
        } else if let Some(unsubscribed) = event.unsubscribed {
            self.ledger.violate(Broken::Unexplained, format!("unsubscribed: {unsubscribed}"));
            bail!("unsubscribed");
        } else if let Some(goodbye) = event.goodbye {
            bail!("goodbye: {goodbye}");
        }
        Ok(())
    }
}

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
}
