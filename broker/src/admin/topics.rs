//! Topics: what is kept of them, who reads them, and how fast they grow.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bongsu_admin_api::Error;
use bongsu_admin_api::page::After;
use bongsu_admin_api::resources::topics::{Kind, ListTopics, Removed, Topic, TopicList, Topics};
use bongsu_persistence::store::{ListQuery, Listing, LogBounds};
use bongsu_protocol::command::{HistoryQuery, HistoryRange, Start};
use bongsu_protocol::position::{Offset, Position};
use bongsu_protocol::topic::{Topic as Name, TopicFilter};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

use super::{Admin, refusal, store_error};
use crate::clock;
use crate::history::Part;
use crate::limits::{ADMIN_LOOKS_MAX, ADMIN_NAMES_MAX, ADMIN_RATE_INTERVAL_MIN};

/// What a node says to another one: how many connections of its own read the topics of a page.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Readers {
    /// Those that anybody reads, by name.
    readers: HashMap<String, u64>,
}

/// Where topics' heads were when somebody looked: what rates are made of, without any work for those who publish.
#[derive(Debug, Default)]
pub(super) struct Looks {
    heads: Mutex<HashMap<Name, Look>>,
}

/// Two looks at a topic.
#[derive(Debug, Clone, Copy)]
struct Look {
    at: Duration,
    head: Position,
    /// Messages per second between the two looks before.
    rate: Option<f64>,
}

impl Topics for Admin {
    fn topics(&self, wanted: ListTopics) -> BoxFuture<'_, Result<TopicList, Error>> {
        async move {
            let question = question(&wanted);
            let listing = self.listing(&wanted).await?;
            let names: Vec<Name> = listing.logs.iter().map(|log| log.topic.clone()).collect();
            let own = self.node.interest().hub().readers(&names);
            let (own, (others, missing)) =
                futures_util::future::join(own, self.ask_all::<Readers>(&question)).await;
            let topics = listing.logs.iter().zip(own).map(|(log, own)| {
                let name = log.topic.as_str();
                let elsewhere = others.iter().filter_map(|other| other.readers.get(name)).sum::<u64>();
                self.shown_topic(log, own + elsewhere)
            });
            let topics = topics.collect();
            let next = listing.next.as_deref().map(After::written);
            Ok(TopicList { topics, next, missing })
        }
        .boxed()
    }

    fn topic<'a>(&'a self, topic: &'a Name) -> BoxFuture<'a, Result<Topic, Error>> {
        async move {
            let filter = Some(TopicFilter::from(topic.clone()));
            let wanted = ListTopics { filter, limit: 1, ..ListTopics::default() };
            let own = self.node.interest().hub().readers(std::slice::from_ref(topic)).await;
            let path = format!("/$node/readers?topic={}", super::escaped(topic.as_str()));
            let (others, _) = self.ask_all::<Readers>(&path).await;
            let elsewhere = others.iter().filter_map(|other| other.readers.get(topic.as_str())).sum::<u64>();
            let readers = own.first().copied().unwrap_or_default() + elsewhere;
            match self.listing(&wanted).await?.logs.first() {
                Some(log) => Ok(self.shown_topic(log, readers)),
                None if readers > 0 => Ok(self.unkept(topic, readers)),
                None => Err(Error::NotFound(format!("{topic} has no log, and nobody reads it"))),
            }
        }
        .boxed()
    }

    fn delete_topic<'a>(&'a self, by: &'a str, topic: &'a Name) -> BoxFuture<'a, Result<Removed, Error>> {
        async move {
            self.check_log(topic).await?;
            if let Some(register) = crate::http::register_of(topic) {
                let forks = crate::http::forks_of(&self.node, &register).await.map_err(refusal)?;
                if let Some(fork) = forks.first() {
                    let text = format!(
                        "{topic} is the source of {} streams, {fork} among them: delete those first",
                        forks.len()
                    );
                    return Err(Error::Conflict(text));
                }
                // What is known of the stream goes first: what is left if this ends in between is an ordinary topic.
                self.node.removals().remove(by, &register, Part::All).await.map_err(store_error)?;
            }
            self.remove(by, topic, Part::All).await
        }
        .boxed()
    }

    fn purge_topic<'a>(
        &'a self,
        by: &'a str,
        topic: &'a Name,
        until: Option<u64>,
    ) -> BoxFuture<'a, Result<Removed, Error>> {
        async move {
            let head = self.check_log(topic).await?;
            let until = until.map_or(head.offset, |until| Offset(until).min(head.offset));
            self.remove(by, topic, Part::Until(until)).await
        }
        .boxed()
    }
}

impl Admin {
    /// How many connections of this node read the topics that another one lists, or one topic.
    pub(super) async fn readers(&self, query: &str) -> Option<Readers> {
        let names = match Question::parse(query)? {
            Question::One(topic) => vec![topic],
            Question::Page(wanted) => {
                let listing = self.listing(&wanted).await.ok()?;
                listing.logs.into_iter().map(|log| log.topic).collect()
            }
        };
        let counts = self.node.interest().hub().readers(&names).await;
        let readers = names.iter().zip(counts).filter(|(_, count)| *count > 0);
        Some(Readers { readers: readers.map(|(name, count)| (name.as_str().to_owned(), count)).collect() })
    }

    pub(super) async fn remove(&self, by: &str, topic: &Name, part: Part) -> Result<Removed, Error> {
        let messages = self.node.removals().remove(by, topic, part).await.map_err(store_error)?;
        Ok(Removed { messages })
    }

    /// The head of a topic's log, if it has one.
    pub(super) async fn check_log(&self, topic: &Name) -> Result<Position, Error> {
        let range = HistoryRange::Forward(Start::Latest);
        let query = HistoryQuery { topic: topic.clone(), range, limit: 1 };
        let page = self.node.history().page(query).await.map_err(refusal)?;
        if page.head.epoch.0 == 0 {
            return Err(Error::NotFound(format!("{topic} has no log")));
        }
        Ok(page.head)
    }

    async fn listing(&self, wanted: &ListTopics) -> Result<Listing, Error> {
        let query = ListQuery {
            filter: wanted.filter.clone(),
            prefix: wanted.prefix.clone(),
            from: wanted.after.clone().unwrap_or_default(),
            limit: wanted.limit,
            names_max: ADMIN_NAMES_MAX.max(wanted.limit),
        };
        self.node.history().list(query).await.map_err(refusal)
    }

    fn shown_topic(&self, log: &LogBounds, subscribers: u64) -> Topic {
        let has_messages = log.head.offset.0 > 0;
        Topic {
            topic: log.topic.as_str().to_owned(),
            kind: self.kind(&log.topic),
            messages: (log.head.offset.0 + 1).saturating_sub(log.first.offset.0),
            bytes: log.bytes,
            first: log.first.into(),
            head: log.head.into(),
            subscribers,
            messages_per_second: self.looks.rate(&log.topic, log.head, clock::monotonic()),
            published_at: has_messages.then(|| log.time.into()),
        }
    }

    /// A topic without a log that somebody reads.
    fn unkept(&self, topic: &Name, subscribers: u64) -> Topic {
        Topic {
            topic: topic.as_str().to_owned(),
            kind: self.kind(topic),
            messages: 0,
            bytes: 0,
            first: Position::new(0, 1).into(),
            head: Position::default().into(),
            subscribers,
            messages_per_second: None,
            published_at: None,
        }
    }

    fn kind(&self, topic: &Name) -> Kind {
        if self.node.policies().for_topic(topic).is_durable() { Kind::Durable } else { Kind::Live }
    }
}

impl Looks {
    /// Notes where a topic's head is, and says how fast it moved.
    fn rate(&self, topic: &Name, head: Position, now: Duration) -> Option<f64> {
        let mut heads = self.heads.lock().unwrap_or_else(PoisonError::into_inner);
        if heads.len() >= ADMIN_LOOKS_MAX && !heads.contains_key(topic) {
            heads.clear();
        }
        let Some(look) = heads.get_mut(topic) else {
            heads.insert(topic.clone(), Look { at: now, head, rate: None });
            return None;
        };
        let passed = now.saturating_sub(look.at);
        if passed >= ADMIN_RATE_INTERVAL_MIN {
            let moved = match look.head.epoch == head.epoch {
                true => head.offset.0.saturating_sub(look.head.offset.0),
                false => head.offset.0,
            };
            *look = Look { at: now, head, rate: Some(moved as f64 / passed.as_secs_f64()) };
        }
        look.rate
    }
}

/// What another node is asked about.
enum Question {
    One(Name),
    Page(ListTopics),
}

/// The parameters of a question.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Parameters {
    topic: Option<String>,
    prefix: String,
    filter: Option<String>,
    after: Option<String>,
    limit: usize,
}

impl Question {
    fn parse(query: &str) -> Option<Self> {
        let Parameters { topic, prefix, filter, after, limit } = serde_urlencoded::from_str(query).ok()?;
        if let Some(topic) = topic {
            return Name::parse(&topic).ok().map(Self::One);
        }
        let filter = filter.map(|filter| TopicFilter::parse(&filter)).transpose().ok()?;
        let limit = limit.min(bongsu_admin_api::page::Limit::MAX.get());
        Some(Self::Page(ListTopics { prefix, filter, after, limit }))
    }
}

/// How another node is asked for its readers of a page's topics: it lists them itself, which is as cheap there as here.
fn question(wanted: &ListTopics) -> String {
    let mut path = format!("/$node/readers?limit={}&prefix={}", wanted.limit, super::escaped(&wanted.prefix));
    for (name, value) in
        [("filter", wanted.filter.as_ref().map(TopicFilter::as_str)), ("after", wanted.after.as_deref())]
    {
        if let Some(value) = value {
            path.push_str(&format!("&{name}={}", super::escaped(value)));
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_what_a_head_moved_between_two_looks() {
        let (looks, topic) = (Looks::default(), Name::parse("a").unwrap());
        let rate = |epoch, offset, seconds| {
            looks.rate(&topic, Position::new(epoch, offset), Duration::from_secs(seconds))
        };
        assert_eq!(rate(1, 100, 10), None);
        assert_eq!(rate(1, 150, 20), Some(5.0));
        assert_eq!(
            looks.rate(&topic, Position::new(1, 151), Duration::from_millis(20_001)),
            Some(5.0),
            "too early to say anything new"
        );
        assert_eq!(rate(2, 10, 25), Some(2.0), "a log that was made anew");
    }

    #[test]
    fn questions_are_understood_as_they_are_asked() {
        let filter = Some(TopicFilter::parse("a/+/ü&b").unwrap());
        let wanted = ListTopics {
            prefix: "a/".to_owned(),
            filter: filter.clone(),
            after: Some("a/b\u{1}".to_owned()),
            limit: 7,
        };
        let path = question(&wanted);
        let Some(Question::Page(read)) = Question::parse(path.split_once('?').unwrap().1) else {
            panic!("{path}")
        };
        assert_eq!(
            (read.prefix, read.filter, read.after, read.limit),
            (wanted.prefix, filter, wanted.after, 7)
        );
    }
}
