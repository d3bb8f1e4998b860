//! SUBSCRIBE and UNSUBSCRIBE.

use std::ops::Deref;

use crate::command::{Command as Request, RequestId, Start, Subscription as Wanted};
use crate::limits::STOMP_PREFETCH_MAX;
use crate::message::{Delivery, Time};
use crate::position::Position;
use crate::reason::Error;
use crate::stomp::destination::{self, Dialect, Source};
use crate::stomp::frame::{Frame, Version};
use crate::stomp::refusal::Refusal;
use crate::topic::{Topic, TopicFilter};

use super::token::TOKEN;
use super::{Conversation, Effect, required, translate};

/// Which subscription of a conversation. Never used again for another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubscriptionKey(pub u64);

/// Which of the queues over one log.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Group {
    /// The work queue that all consumers of the destination share.
    Shared,
    /// A durable subscription: one user's place in the log, kept while nobody reads.
    Durable {
        /// The token's subject; empty for an anonymous client.
        subject: String,
        /// The subscription's id.
        name: String,
    },
}

/// A subscription of the client, under the name that it gave it.
#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) key: SubscriptionKey,
    /// The `id` header; in 1.0 the destination takes its place.
    pub(super) name: String,
    /// Whether the client gave the name, so that its messages have it.
    pub(super) is_named: bool,
    pub(super) ack_mode: AckMode,
    pub(super) reads: Reads,
}

#[derive(Debug)]
pub(super) enum Reads {
    /// The session inside reads these.
    Topics { filters: Vec<TopicFilter>, dialect: Dialect },
    /// The shell's queue delivers.
    Queue,
}

/// What an ACK settles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AckMode {
    /// Sending does.
    Auto,
    /// It settles the messages of the subscription up to this one.
    Client,
    /// It settles this one.
    ClientIndividual,
}

/// What the headers of a SUBSCRIBE ask for.
struct Wishes {
    ack_mode: AckMode,
    from: Option<Start>,
    prefetch: u32,
    is_durable: bool,
}

impl Wishes {
    fn parse(frame: &Frame, prefetch: u32) -> Result<Self, Refusal> {
        if frame.header("selector").is_some_and(|selector| !selector.is_empty()) {
            let text = "This broker has no selectors: subscribe to a narrower destination.";
            return Err(Refusal::new("Unsupported header", text));
        }
        let ack_mode = match frame.header("ack").unwrap_or("auto") {
            "auto" => AckMode::Auto,
            "client" => AckMode::Client,
            "client-individual" => AckMode::ClientIndividual,
            other => {
                let text = format!("'{other}' is no value of 'ack': auto, client or client-individual");
                return Err(Refusal::new("Invalid header", text));
            }
        };
        let prefetch = match frame.header("prefetch-count").map(str::parse::<u32>) {
            // To RabbitMQ, 0 means without a bound.
            Some(Ok(0)) => STOMP_PREFETCH_MAX,
            Some(Ok(count)) => count.min(STOMP_PREFETCH_MAX),
            Some(Err(_)) => return Err(Refusal::new("Invalid header", "'prefetch-count' is a number")),
            None => prefetch.min(STOMP_PREFETCH_MAX),
        };
        Ok(Self { ack_mode, from: start_of(frame)?, prefetch, is_durable: is_durable(frame) })
    }
}

impl<D> Conversation<D>
where
    D: Clone + Deref,
    D::Target: AsRef<Delivery>,
{
    pub(super) fn subscribe(&mut self, frame: &Frame) -> Result<(), Refusal> {
        let text = required(frame, "destination", "Missing destination")?;
        let wishes = Wishes::parse(frame, self.settings.prefetch)?;
        let (name, is_named) = match frame.header("id") {
            Some(id) => (id, true),
            None if wishes.is_durable => {
                let text = "Header 'id' is required for durable subscriptions";
                return Err(Refusal::new("Missing Header", text));
            }
            None if self.version == Version::V10 => (text, false),
            None => return Err(Refusal::new("Missing header", "SUBSCRIBE must include an 'id' header")),
        };
        self.check_name(name, "SUBSCRIBE")?;
        if text == TOKEN {
            return self.watch_token(frame, name);
        }
        self.check_count()?;
        let source = destination::source(text, self.settings.vocabulary, self.speaker())?;
        let id = self.next_request();
        let receipt = frame.header("receipt");
        match source {
            Source::Queue(topic) => self.consume(id, (name, is_named), &wishes, topic, Group::Shared)?,
            Source::Topics { filters, .. } if wishes.is_durable => {
                let [filter] = &filters[..] else { return Err(one_topic_only()) };
                let topic = filter.as_topic().ok_or_else(one_topic_only)?;
                let subject = self.session.grants().subject.clone();
                let group = Group::Durable { subject, name: name.to_owned() };
                self.consume(id, (name, is_named), &wishes, topic, group)?;
            }
            Source::Topics { filters, dialect } => {
                self.check_overlap(&filters, wishes.from)?;
                let reads = Reads::Topics { filters, dialect };
                self.read(id, (name, is_named), wishes.ack_mode, reads, wishes.from.unwrap_or_default());
                // Without a receipt nothing later waits until the reader knows where it starts.
                if receipt.is_none() {
                    return Ok(());
                }
            }
        }
        self.receipts.push(id, receipt);
        if !self.awaited.contains_key(&id) {
            // Another subscription reads all of it already.
            self.settle_request(id);
        }
        Ok(())
    }

    /// A consumer of a queue; the shell answers with [`consuming`](Self::consuming).
    fn consume(
        &mut self,
        id: RequestId,
        name: (&str, bool),
        wishes: &Wishes,
        topic: Topic,
        group: Group,
    ) -> Result<(), Refusal> {
        if !self.session.grants().may_subscribe(&topic.clone().into()) {
            return Err(translate::denied(topic.as_str()));
        }
        let from = wishes.from.unwrap_or(match group {
            // A queue is kept while nobody consumes it.
            Group::Shared => Start::Earliest,
            Group::Durable { .. } => Start::Latest,
        });
        let subscription = self.add(name, wishes.ack_mode, Reads::Queue);
        let prefetch = wishes.prefetch;
        self.awaited.insert(id, subscription);
        self.effects.push_back(Effect::Consume { id, subscription, topic, group, from, prefetch });
        Ok(())
    }

    /// A reader of topics. Filters that another subscription reads already are not asked for again.
    fn read(&mut self, id: RequestId, name: (&str, bool), ack_mode: AckMode, reads: Reads, from: Start) {
        let Reads::Topics { filters, .. } = &reads else { return };
        let is_new = |filter: &&TopicFilter| !self.subscriptions.read(filter);
        let wanted = |filter: &TopicFilter| Wanted { filter: filter.clone(), from, seen: Vec::new() };
        let wanted: Vec<Wanted> = filters.iter().filter(is_new).map(wanted).collect();
        let key = self.add(name, ack_mode, reads);
        if !wanted.is_empty() {
            self.awaited.insert(id, key);
            self.request(id, Request::Subscribe(wanted));
        }
    }

    /// Notes a subscription under its name, which the client gave or not.
    fn add(&mut self, (name, is_named): (&str, bool), ack_mode: AckMode, reads: Reads) -> SubscriptionKey {
        self.last_key.0 += 1;
        let (key, name) = (self.last_key, name.to_owned());
        self.subscriptions.add(Subscription { key, name, is_named, ack_mode, reads });
        key
    }

    /// The reader of the answers to a message, made with the first one that wants some there.
    pub(super) fn subscribe_to_replies(&mut self, name: &str, topic: Topic) -> Result<(), Refusal> {
        if self.subscriptions.named(name).is_some() || self.is_token_watched_by(name) {
            return Ok(());
        }
        self.check_count()?;
        let id = self.next_request();
        let reads = Reads::Topics { filters: vec![topic.into()], dialect: Dialect::Slash };
        // From its beginning: the answer may be there before the reader.
        self.read(id, (name, true), AckMode::Auto, reads, Start::Earliest);
        Ok(())
    }

    /// What came of an [`Effect::Consume`].
    pub fn consuming(&mut self, id: RequestId, result: Result<(), Error>) {
        let is_wanted = self.awaited.remove(&id).is_some();
        match result {
            Err(error) if is_wanted => self.fail_request(id, &error),
            Ok(()) | Err(_) => self.settle_request(id),
        }
        self.advance();
    }

    pub(super) fn unsubscribe(&mut self, frame: &Frame) -> Result<(), Refusal> {
        let Some(name) = frame.header("id").or_else(|| frame.header("destination")) else {
            let text = "UNSUBSCRIBE must include a 'destination' or 'id' header";
            return Err(Refusal::new("Missing destination or id", text));
        };
        if self.unwatch_token(name) {
            self.done(frame);
            return Ok(());
        }
        let key = self.subscriptions.named(name).map(|subscription| subscription.key);
        let Some(subscription) = key.and_then(|key| self.subscriptions.remove(key)) else {
            let text = format!(
                "UNSUBSCRIBE must refer to an existing subscription.\nSubscription to '{name}' not found."
            );
            return Err(Refusal::new("No subscription found", text));
        };
        self.cancel(&subscription, is_durable(frame));
        self.done(frame);
        Ok(())
    }

    /// Ends what a subscription that was taken out of the list needed.
    pub(super) fn cancel(&mut self, subscription: &Subscription, forget: bool) {
        self.awaited.retain(|_, key| *key != subscription.key);
        match &subscription.reads {
            Reads::Queue => {
                self.held.retain(|_, held| held.subscription != subscription.key);
                self.effects.push_back(Effect::Cancel { subscription: subscription.key, forget });
            }
            Reads::Topics { filters, .. } => {
                let is_unread = |filter: &&TopicFilter| !self.subscriptions.read(filter);
                let unread: Vec<_> = filters.iter().filter(is_unread).cloned().collect();
                self.notes.retain(|topic, _| !unread.iter().any(|filter| filter.matches(topic)));
                if !unread.is_empty() {
                    let id = self.next_request();
                    self.request(id, Request::Unsubscribe(unread));
                }
            }
        }
    }

    fn check_name(&self, name: &str, command: &str) -> Result<(), Refusal> {
        if name.starts_with("/temp-queue/") {
            let text = format!("{command} 'id' may not start with /temp-queue/");
            return Err(Refusal::new("Invalid id", text));
        }
        if self.subscriptions.named(name).is_some() {
            let text = format!("A subscription identified by '{name}' already exists.");
            return Err(Refusal::new("Duplicated subscription identifier", text));
        }
        Ok(())
    }

    fn check_count(&self) -> Result<(), Refusal> {
        let max = self.settings.bounds.subscriptions;
        if self.subscriptions.len() >= max {
            let text = format!("A connection has at most {max} subscriptions.");
            return Err(Refusal::new("Too many subscriptions", text));
        }
        Ok(())
    }

    /// A topic is read once per connection, so a second subscription to it goes along with the first, from where that one is.
    fn check_overlap(&self, filters: &[TopicFilter], from: Option<Start>) -> Result<(), Refusal> {
        if matches!(from, None | Some(Start::Latest)) {
            return Ok(());
        }
        let is_read = |subscription: &&Subscription| {
            let mut others = subscription.filters().iter();
            others.any(|other| filters.iter().any(|filter| overlap(filter, other)))
        };
        match self.subscriptions.iter().find(is_read) {
            None => Ok(()),
            Some(other) => {
                let text = format!(
                    "The subscription '{}' reads some of it already, from elsewhere: open another connection.",
                    other.name
                );
                Err(Refusal::new("Conflicting start", text))
            }
        }
    }
}

/// Where a subscription wants to start; `None`: it does not say.
fn start_of(frame: &Frame) -> Result<Option<Start>, Refusal> {
    let invalid = |text: &str| Refusal::new("Invalid header", text);
    if let Some(count) = frame.header("rewind") {
        let count = count.parse().map_err(|_| invalid("'rewind' is a number of messages"))?;
        return Ok(Some(Start::Last(count)));
    }
    let Some(offset) = frame.header("offset").or_else(|| frame.header("x-stream-offset")) else {
        return Ok(None);
    };
    let start = match offset {
        "first" => Start::Earliest,
        "last" => Start::Last(1),
        "next" => Start::Latest,
        _ => {
            let text = "'offset' is first, last, next, timestamp=<seconds> or a number";
            if let Some(seconds) = offset.strip_prefix("timestamp=") {
                let seconds: u64 = seconds.parse().map_err(|_| invalid(text))?;
                Start::Time(Time(seconds.saturating_mul(1000)))
            } else {
                let offset: u64 = offset.parse().map_err(|_| invalid(text))?;
                let epoch = frame.header("epoch").and_then(|epoch| epoch.parse().ok());
                let text = "a number as 'offset' needs the 'epoch' header of the MESSAGE that it is from";
                let position = Position::new(epoch.ok_or_else(|| invalid(text))?, offset.saturating_sub(1));
                if !position.is_valid() {
                    return Err(invalid(text));
                }
                Start::After(position)
            }
        }
    };
    Ok(Some(start))
}

fn is_durable(frame: &Frame) -> bool {
    ["durable", "persistent"].iter().any(|name| frame.header(name) == Some("true"))
}

fn one_topic_only() -> Refusal {
    Refusal::new("Invalid destination", "A durable subscription is to one topic, without wildcards.")
}

/// Whether a topic may match both filters.
fn overlap(one: &TopicFilter, other: &TopicFilter) -> bool {
    let (mut ours, mut theirs) = (one.levels(), other.levels());
    loop {
        match (ours.next(), theirs.next()) {
            (Some("#"), _) | (_, Some("#")) | (None, None) => return true,
            (Some(a), Some(b)) if a == b || a == "+" || b == "+" => {}
            _ => return false,
        }
    }
}
