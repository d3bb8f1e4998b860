//! Topics and topic filters: MQTT's grammar (MQTT 5.0, 4.7), with a tighter bound.

use std::fmt;
use std::sync::Arc;

use crate::limits::{TOPIC_BYTES_MAX, TOPIC_LEVELS_MAX};

/// The name of a topic: levels joined by `/`, such as `chat/room/42`.
///
/// UTF-8, 1 to 255 bytes, at most 32 levels, no empty level, no `+`, `#`, NUL or other control character. A first level that
/// begins with `$` is the broker's own. Cheap to clone: clones share the text.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Topic(Arc<str>);

/// A topic, or a pattern for topics: `+` stands for exactly one level, a last `#` for the level before it and all below.
///
/// As in MQTT, `chat/#` matches `chat` itself, and a wildcard in the first level matches no topic that begins with `$`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicFilter(Arc<str>);

/// Why a text is not a topic or topic filter. The sender must correct it; retrying cannot help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTopic {
    /// No text at all.
    #[error("a topic needs at least one character")]
    Empty,
    /// Past [`TOPIC_BYTES_MAX`].
    #[error("a topic has at most {TOPIC_BYTES_MAX} bytes, this one has {0}")]
    TooLong(usize),
    /// Past [`TOPIC_LEVELS_MAX`].
    #[error("a topic has at most {TOPIC_LEVELS_MAX} levels")]
    TooDeep,
    /// Two slashes in a row, or a slash at an end.
    #[error("a topic has no empty level: no slash first, last or beside another")]
    EmptyLevel,
    /// NUL or another control character.
    #[error("a topic has no control characters")]
    ControlCharacter,
    /// `+` or `#` in the name of a topic.
    #[error("`+` and `#` belong in filters, not in topics")]
    Wildcard,
    /// `+` or `#` beside other characters of its level, or `#` before the last level.
    #[error("`+` and `#` stand alone in their level, and `#` only in the last one")]
    MisplacedWildcard,
    /// A first level with `$` where a client may not use one.
    #[error("topics that begin with `$` are the broker's own")]
    Reserved,
}

impl Topic {
    /// Checks and takes a topic's name.
    ///
    /// # Errors
    /// [`InvalidTopic`], to be shown to whoever sent the name.
    pub fn parse(name: &str) -> Result<Self, InvalidTopic> {
        check_text(name)?;
        if name.contains(['+', '#']) {
            return Err(InvalidTopic::Wildcard);
        }
        Ok(Self(name.into()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The levels, first to last.
    pub fn levels(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// Whether the broker itself writes this topic (its first level begins with `$`).
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        self.0.starts_with('$')
    }
}

impl TopicFilter {
    /// Checks and takes a filter.
    ///
    /// # Errors
    /// [`InvalidTopic`], to be shown to whoever sent the filter.
    pub fn parse(filter: &str) -> Result<Self, InvalidTopic> {
        check_text(filter)?;
        let mut levels = filter.split('/').peekable();
        while let Some(level) = levels.next() {
            let wild = level.contains(['+', '#']);
            let alone = level == "+" || (level == "#" && levels.peek().is_none());
            if wild && !alone {
                return Err(InvalidTopic::MisplacedWildcard);
            }
        }
        Ok(Self(filter.into()))
    }

    /// The filter's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The levels, first to last.
    pub fn levels(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// The one topic that this filter names, if it has no wildcard.
    #[must_use]
    pub fn as_topic(&self) -> Option<Topic> {
        if self.0.contains(['+', '#']) { None } else { Some(Topic(self.0.clone())) }
    }

    /// Whether every topic that `other` matches is also matched by this filter.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        if other.0.starts_with('$') && self.0.starts_with(['+', '#']) {
            return false;
        }
        let mut theirs = other.0.split('/');
        let mut ours = self.0.split('/');
        loop {
            match (ours.next(), theirs.next()) {
                (Some("#"), _) | (None, None) => return true,
                (Some("+"), Some(level)) if level != "#" => {}
                (Some(our), Some(level)) if our == level => {}
                _ => return false,
            }
        }
    }

    /// Whether the filter matches the topic.
    #[must_use]
    pub fn matches(&self, topic: &Topic) -> bool {
        if topic.is_reserved() && self.0.starts_with(['+', '#']) {
            return false;
        }
        let mut levels = topic.0.split('/');
        let mut wanted = self.0.split('/');
        loop {
            match (wanted.next(), levels.next()) {
                // Also where the topic has ended: `chat/#` matches `chat` (MQTT 5.0, 4.7.1.2).
                (Some("#"), _) | (None, None) => return true,
                (Some(wanted), Some(level)) if wanted == "+" || wanted == level => {}
                _ => return false,
            }
        }
    }
}

fn check_text(text: &str) -> Result<(), InvalidTopic> {
    if text.is_empty() {
        return Err(InvalidTopic::Empty);
    }
    if text.len() > TOPIC_BYTES_MAX {
        return Err(InvalidTopic::TooLong(text.len()));
    }
    if text.chars().any(char::is_control) {
        return Err(InvalidTopic::ControlCharacter);
    }
    let mut n_levels = 0;
    for level in text.split('/') {
        if level.is_empty() {
            return Err(InvalidTopic::EmptyLevel);
        }
        n_levels += 1;
    }
    if n_levels > TOPIC_LEVELS_MAX {
        return Err(InvalidTopic::TooDeep);
    }
    Ok(())
}

impl From<Topic> for TopicFilter {
    fn from(topic: Topic) -> Self {
        Self(topic.0)
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(filter: &str, topic: &str) -> bool {
        TopicFilter::parse(filter).unwrap().matches(&Topic::parse(topic).unwrap())
    }

    #[test]
    fn filters_match_as_mqtt_says() {
        for (filter, topic, expected) in [
            ("a", "a", true),
            ("a", "b", false),
            ("a/b", "a", false),
            ("a", "a/b", false),
            ("+", "a", true),
            ("+", "a/b", false),
            ("a/+", "a", false),
            ("a/+", "a/b", true),
            ("a/+/c", "a/b/c", true),
            ("a/+/c", "a/b/d", false),
            ("#", "a", true),
            ("#", "a/b/c", true),
            ("a/#", "a", true),
            ("a/#", "a/b/c", true),
            ("a/#", "ab", false),
            ("+/#", "a", true),
            ("a/+/#", "a/b", true),
            ("a/+/#", "a", false),
            ("a/b/#", "a", false),
            ("#", "$sys/x", false),
            ("+/x", "$sys/x", false),
            ("$sys/#", "$sys/x", true),
            ("$sys/+", "$sys/x", true),
        ] {
            assert_eq!(matches(filter, topic), expected, "{filter} on {topic}");
        }
    }

    #[test]
    fn filters_cover_narrower_filters() {
        for (wide, narrow, expected) in [
            ("#", "a/+/#", true),
            ("a/#", "a", true),
            ("a/#", "a/#", true),
            ("a/#", "+/b", false),
            ("a/+", "a/b", true),
            ("a/+", "a/#", false),
            ("+", "#", false),
            ("a/b", "a/+", false),
            ("#", "$sys/#", false),
            ("$sys/#", "$sys/x/+", true),
        ] {
            let parse = |text| TopicFilter::parse(text).unwrap();
            assert_eq!(parse(wide).covers(&parse(narrow)), expected, "{wide} over {narrow}");
        }
    }

    #[test]
    fn bad_names_are_refused_with_their_reason() {
        use InvalidTopic::*;
        let long = "a".repeat(256);
        let deep = ["a"; 33].join("/");
        for (name, expected) in [
            ("", Empty),
            ("/a", EmptyLevel),
            ("a/", EmptyLevel),
            ("a//b", EmptyLevel),
            ("a\0", ControlCharacter),
            ("a\u{85}", ControlCharacter),
            (long.as_str(), TooLong(256)),
            (deep.as_str(), TooDeep),
        ] {
            assert_eq!(Topic::parse(name), Err(expected), "{name:?}");
            assert_eq!(TopicFilter::parse(name), Err(expected), "{name:?}");
        }
        assert_eq!(Topic::parse("a/+"), Err(Wildcard));
        for filter in ["a+", "a/#/b", "#/a", "a/b#", "++"] {
            assert_eq!(TopicFilter::parse(filter), Err(MisplacedWildcard), "{filter}");
        }
    }
}
