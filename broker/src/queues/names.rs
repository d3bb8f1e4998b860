//! The names of state logs and of dead-letter topics.

use std::fmt::Write as _;

use bongsu_protocol::stomp::conversation::Group;
use bongsu_protocol::topic::Topic;
use sha2::{Digest, Sha256};

/// The first level of the logs that hold what queues know. Clients cannot publish below it, since it begins with `$`.
pub const STATE_PREFIX: &str = "$queues/";

/// The log that holds what a queue knows: readable where that makes a topic, else a digest.
pub(super) fn state_log(topic: &Topic, group: &Group) -> Topic {
    let readable = match group {
        Group::Shared => format!("{STATE_PREFIX}shared/{topic}"),
        Group::Durable { subject, name } => {
            format!("{STATE_PREFIX}durable/{}/{}/{topic}", level_of(subject), level_of(name))
        }
    };
    Topic::parse(&readable).unwrap_or_else(|_| hashed(STATE_PREFIX, &readable))
}

/// Where dead messages of a topic go. `None` if it is such a topic itself: what dies there is gone.
pub(super) fn dead_letters(prefix: &Topic, topic: &Topic) -> Option<Topic> {
    let prefix = format!("{prefix}/");
    if topic.as_str().starts_with(&prefix) {
        return None;
    }
    let readable = format!("{prefix}{topic}");
    Some(Topic::parse(&readable).unwrap_or_else(|_| hashed(&prefix, &readable)))
}

/// Any text as one level: letters, digits and some marks as they are, other bytes as `%` and two digits; `%` alone is the empty text.
fn level_of(text: &str) -> String {
    if text.is_empty() {
        return "%".to_owned();
    }
    let mut level = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~@:".contains(&byte) {
            level.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(level, "%{byte:02X}");
        }
    }
    level
}

fn hashed(prefix: &str, readable: &str) -> Topic {
    let mut name = format!("{prefix}hashed/");
    for byte in Sha256::digest(readable) {
        let _ = write!(name, "{byte:02x}");
    }
    Topic::parse(&name)
        .expect("digits of a digest make a level, and the prefix of a setting leaves room for it")
}

#[cfg(test)]
mod tests {
    use super::*;
    use bongsu_protocol::limits::TOPIC_BYTES_MAX;

    fn topic(name: &str) -> Topic {
        Topic::parse(name).expect("a topic")
    }

    fn durable(subject: &str, name: &str) -> Group {
        Group::Durable { subject: subject.to_owned(), name: name.to_owned() }
    }

    #[test]
    fn no_two_queues_share_a_log() {
        let long = "x".repeat(TOPIC_BYTES_MAX);
        let groups = [
            (topic("a/b"), Group::Shared),
            (topic("a/b"), durable("", "s")),
            (topic("b"), durable("", "s/a")),
            (topic("a/b"), durable("%", "s")),
            (topic("a/b"), durable("s", "")),
            (topic("a/b"), durable("+", "#")),
            (topic("b"), durable("s", "a")),
            (topic(&long), Group::Shared),
            (topic(&long), durable("", "")),
            (topic("a"), durable(&long, "é")),
            (topic("a"), durable("é", &long)),
        ];
        let logs: std::collections::BTreeSet<Topic> =
            groups.iter().map(|(topic, group)| state_log(topic, group)).collect();
        assert_eq!(logs.len(), groups.len());
        assert!(logs.iter().all(Topic::is_reserved), "clients cannot publish there");
        assert_eq!(state_log(&topic("a/b"), &Group::Shared).as_str(), "$queues/shared/a/b");
    }

    #[test]
    fn dead_letters_of_dead_letters_have_no_topic() {
        let dead = |name: &str| dead_letters(&topic("dead"), &topic(name)).map(|topic| topic.to_string());
        assert_eq!(dead("queue/jobs").as_deref(), Some("dead/queue/jobs"));
        assert_eq!(dead("dead/queue/jobs"), None);
        assert!(dead(&"x".repeat(TOPIC_BYTES_MAX)).is_some_and(|name| name.starts_with("dead/hashed/")));
    }
}
