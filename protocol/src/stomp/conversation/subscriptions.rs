//! The subscriptions of one client, found by their key, by their name, and by the topics that they read.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::topic::{Topic, TopicFilter};

use super::subscribe::{Reads, Subscription, SubscriptionKey};

/// See the [module](self). A message costs what the subscriptions cost that it is for, and a look at each pattern: not a look at
/// every topic that the client reads.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    by_key: BTreeMap<SubscriptionKey, Subscription>,
    by_name: HashMap<String, SubscriptionKey>,
    /// Who reads a topic by its name.
    by_topic: HashMap<Topic, Vec<SubscriptionKey>>,
    /// Who reads by a filter with wildcards.
    patterns: BTreeSet<SubscriptionKey>,
}

impl Subscriptions {
    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Subscription> {
        self.by_key.values()
    }

    pub(super) fn get(&self, key: SubscriptionKey) -> Option<&Subscription> {
        self.by_key.get(&key)
    }

    pub(super) fn named(&self, name: &str) -> Option<&Subscription> {
        self.get(*self.by_name.get(name)?)
    }

    /// Adds one, whose name no other has.
    pub(super) fn add(&mut self, subscription: Subscription) {
        let key = subscription.key;
        for filter in subscription.filters() {
            match filter.as_topic() {
                Some(topic) => self.by_topic.entry(topic).or_default().push(key),
                None => {
                    self.patterns.insert(key);
                }
            }
        }
        self.by_name.insert(subscription.name.clone(), key);
        self.by_key.insert(key, subscription);
    }

    pub(super) fn remove(&mut self, key: SubscriptionKey) -> Option<Subscription> {
        let subscription = self.by_key.remove(&key)?;
        self.by_name.remove(&subscription.name);
        self.patterns.remove(&key);
        for topic in subscription.filters().iter().filter_map(TopicFilter::as_topic) {
            if let Some(readers) = self.by_topic.get_mut(&topic) {
                readers.retain(|reader| *reader != key);
                if readers.is_empty() {
                    self.by_topic.remove(&topic);
                }
            }
        }
        Some(subscription)
    }

    /// Takes all of them.
    pub(super) fn take(&mut self) -> impl Iterator<Item = Subscription> + use<> {
        std::mem::take(self).by_key.into_values()
    }

    /// Whether one has this very filter.
    pub(super) fn read(&self, filter: &TopicFilter) -> bool {
        match filter.as_topic() {
            Some(topic) => self.by_topic.contains_key(&topic),
            None => self.patterns().any(|subscription| subscription.filters().contains(filter)),
        }
    }

    /// Those that a message of this topic is for.
    pub(super) fn matching(&self, topic: &Topic) -> impl Iterator<Item = &Subscription> {
        let matches =
            |subscription: &&Subscription| subscription.filters().iter().any(|filter| filter.matches(topic));
        let exact = self.by_topic.get(topic).into_iter().flatten().filter_map(|key| self.get(*key));
        exact.chain(self.patterns().filter(matches))
    }

    fn patterns(&self) -> impl Iterator<Item = &Subscription> {
        self.patterns.iter().filter_map(|key| self.get(*key))
    }
}

impl Subscription {
    /// What the session inside reads for it; nothing for a queue.
    pub(super) fn filters(&self) -> &[TopicFilter] {
        match &self.reads {
            Reads::Topics { filters, .. } => filters,
            Reads::Queue => &[],
        }
    }
}
