//! What patterns look like: which levels are names and which are wildcards.
//!
//! A cluster may watch a million patterns, but hardly ever more than ten shapes of them: all of `user/1/#`, `user/2/#`, … have
//! the shape `name/#`. Whoever publishes knows the shapes in use, and from a topic and a shape follows the one pattern of that
//! shape that matches. So a message finds its way to all patterns in a few steps, however many there are.

use bongsu_protocol::limits::TOPIC_LEVELS_MAX;
use bongsu_protocol::topic::{Topic, TopicFilter};

/// Which levels of a pattern are names (`l`) and which are wildcards (`+`, a last `#`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Shape(Box<str>);

impl Shape {
    /// The shape of a pattern; `None` for a filter that names one topic.
    #[must_use]
    pub fn of(filter: &TopicFilter) -> Option<Self> {
        let letter = |level: &str| match level {
            "+" => '+',
            "#" => '#',
            _ => 'l',
        };
        let shape: String = filter.levels().map(letter).collect();
        shape.contains(['+', '#']).then(|| Self(shape.into()))
    }

    /// Reads what [`as_str`](Self::as_str) gave, perhaps on another node.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let places = || text.bytes().enumerate();
        let valid = text.len() <= TOPIC_LEVELS_MAX
            && places().all(|(at, letter)| {
                matches!(letter, b'l' | b'+') || (letter == b'#' && at + 1 == text.len())
            })
            && places().any(|(_, letter)| letter != b'l');
        valid.then(|| Self(text.into()))
    }

    /// One letter a level.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The one pattern of this shape that matches the topic, if there is one.
    #[must_use]
    pub fn pattern_for(&self, topic: &Topic) -> Option<String> {
        if topic.is_reserved() && !self.0.starts_with('l') {
            return None;
        }
        let mut pattern = String::with_capacity(topic.as_str().len() + 2);
        let mut levels = topic.levels();
        for letter in self.0.chars() {
            if !pattern.is_empty() {
                pattern.push('/');
            }
            if letter == '#' {
                // Also where the topic has ended: `chat/#` matches `chat`.
                pattern.push('#');
                return Some(pattern);
            }
            let level = levels.next()?;
            pattern.push_str(if letter == '+' { "+" } else { level });
        }
        levels.next().is_none().then_some(pattern)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn patterns_follow_from_shape_and_topic() {
        for (filter, topic, expected) in [
            ("user/7/#", "user/9/inbox", Some("user/9/#")),
            ("a/#", "b", Some("b/#")),
            ("a/+/c", "x/y/z", Some("x/+/z")),
            ("a/+/c", "x/y", None),
            ("+/+", "x", None),
            ("+", "x/y", None),
            ("#", "x/y", Some("#")),
            ("#", "$sys/y", None),
            ("a/+", "$sys/y", Some("$sys/+")),
        ] {
            let shape = Shape::of(&TopicFilter::parse(filter).unwrap()).unwrap();
            let pattern = shape.pattern_for(&Topic::parse(topic).unwrap());
            assert_eq!(pattern.as_deref(), expected, "{filter} {topic}");
        }
    }

    #[test]
    fn only_shapes_are_read() {
        for text in ["l#", "#", "+", "l+l", "++#"] {
            assert_eq!(Shape::parse(text).unwrap().as_str(), text);
        }
        for text in ["", "l", "ll", "#l", "x#", "l##", &"+".repeat(TOPIC_LEVELS_MAX + 1)] {
            assert_eq!(Shape::parse(text), None, "{text}");
        }
    }

    proptest! {
        /// A filter matches a topic exactly if it is the pattern of its shape for the topic.
        #[test]
        fn shapes_find_the_filters_that_match(
            filter in prop::collection::vec(prop::sample::select(vec!["a", "b", "+", "$x"]), 1..4),
            rest in any::<bool>(),
            topic in prop::collection::vec(prop::sample::select(vec!["a", "b", "$x"]), 1..5),
        ) {
            let text = filter.join("/") + if rest { "/#" } else { "" };
            let (filter, topic) = (TopicFilter::parse(&text).unwrap(), Topic::parse(&topic.join("/")).unwrap());
            if let Some(shape) = Shape::of(&filter) {
                prop_assert_eq!(filter.matches(&topic), shape.pattern_for(&topic) == Some(text));
            }
        }
    }
}
