//! Which channels of the bus this node hears, and so which topics.

mod shape;

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bongsu_protocol::topic::{Topic, TopicFilter};

use crate::bus::Channel;

pub use shape::Shape;

/// The channel of a topic or pattern.
#[must_use]
pub fn channel_of(filter: &TopicFilter) -> Channel {
    if Shape::of(filter).is_some() {
        pattern_channel(filter.as_str())
    } else {
        topic_channel(filter.as_str())
    }
}

/// The channel of a topic's messages.
#[must_use]
pub fn topic_channel(topic: &str) -> Channel {
    format!("t:{topic}").into()
}

/// The channel of a pattern's messages.
#[must_use]
pub fn pattern_channel(pattern: &str) -> Channel {
    format!("f:{pattern}").into()
}

/// Which channels this node hears. A node that is alone hears everything.
#[derive(Debug)]
pub struct Heard {
    /// `None`: everything.
    channels: Option<Mutex<Channels>>,
}

#[derive(Debug, Default)]
struct Channels {
    all: HashSet<Channel>,
    /// Shapes of the patterns among them, and how many have each.
    shapes: HashMap<Shape, usize>,
}

impl Heard {
    /// Hears everything: there is nobody else.
    #[must_use]
    pub const fn everything() -> Self {
        Self { channels: None }
    }

    /// Hears nothing yet.
    #[must_use]
    pub fn nothing() -> Self {
        Self { channels: Some(Mutex::default()) }
    }

    /// Hears the channel of this filter from now on. True if it is the first pattern of its shape.
    pub fn insert(&self, filter: &TopicFilter) -> bool {
        let Some(mut channels) = self.lock() else { return false };
        if !channels.all.insert(channel_of(filter)) {
            return false;
        }
        let Some(shape) = Shape::of(filter) else { return false };
        let n_patterns = channels.shapes.entry(shape).or_default();
        *n_patterns += 1;
        *n_patterns == 1
    }

    /// No longer hears the channel of this filter.
    pub fn remove(&self, filter: &TopicFilter) {
        let Some(mut channels) = self.lock() else { return };
        if !channels.all.remove(&channel_of(filter)) {
            return;
        }
        if let Some(shape) = Shape::of(filter)
            && let Some(n_patterns) = channels.shapes.get_mut(&shape)
        {
            *n_patterns -= 1;
            if *n_patterns == 0 {
                channels.shapes.remove(&shape);
            }
        }
    }

    /// Shapes of the patterns that this node hears, in a fixed order.
    #[must_use]
    pub fn shapes(&self) -> Vec<Shape> {
        let Some(channels) = self.lock() else { return Vec::new() };
        let mut shapes: Vec<Shape> = channels.shapes.keys().cloned().collect();
        shapes.sort_unstable();
        shapes
    }

    /// Whether messages of this topic are heard.
    #[must_use]
    pub fn hears(&self, topic: &Topic) -> bool {
        self.channels.is_none() || self.first_channel(topic).is_some()
    }

    /// Of the channels on which a message of this topic comes, the one that counts: a message without a position, which
    /// comes on several, is taken from this one only.
    #[must_use]
    pub fn first_channel(&self, topic: &Topic) -> Option<Channel> {
        let channels = self.lock()?;
        let exact = topic_channel(topic.as_str());
        if channels.all.contains(&exact) {
            return Some(exact);
        }
        let patterns = channels.shapes.keys().filter_map(|shape| shape.pattern_for(topic));
        patterns
            .map(|pattern| pattern_channel(&pattern))
            .filter(|channel| channels.all.contains(channel))
            .min()
    }

    fn lock(&self) -> Option<MutexGuard<'_, Channels>> {
        Some(self.channels.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(text: &str) -> TopicFilter {
        TopicFilter::parse(text).unwrap()
    }

    fn topic(text: &str) -> Topic {
        Topic::parse(text).unwrap()
    }

    #[test]
    fn a_topic_is_heard_by_its_name_or_a_pattern() {
        let heard = Heard::nothing();
        assert!(!heard.insert(&filter("a/b")));
        assert!(heard.insert(&filter("c/+")), "the first of its shape");
        assert!(!heard.insert(&filter("d/+")));
        for (name, expected) in [("a/b", true), ("c/x", true), ("d/x", true), ("e/x", false), ("c", false)] {
            assert_eq!(heard.hears(&topic(name)), expected, "{name}");
        }
        heard.remove(&filter("c/+"));
        assert!(!heard.hears(&topic("c/x")));
        assert!(heard.hears(&topic("d/x")));
    }

    #[test]
    fn one_channel_of_a_topic_counts() {
        let heard = Heard::nothing();
        for name in ["#", "a/#", "+/b"] {
            heard.insert(&filter(name));
        }
        let first = heard.first_channel(&topic("a/b"));
        assert_eq!(first, heard.first_channel(&topic("a/b")));
        heard.insert(&filter("a/b"));
        assert_eq!(heard.first_channel(&topic("a/b")).as_deref(), Some("t:a/b"));
    }

    #[test]
    fn a_node_that_is_alone_hears_everything() {
        assert!(Heard::everything().hears(&topic("a")));
        assert!(!Heard::nothing().hears(&topic("a")));
    }
}
