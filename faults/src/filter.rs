//! Which topics a filter stands for, as `docs/protocol.md` says it.

/// Whether one of the filters matches the topic.
pub(crate) fn any_matches(filters: &[String], topic: &str) -> bool {
    filters.iter().any(|filter| matches(filter, topic))
}

/// Whether the filter matches the topic: `+` is one level, a last `#` the level before it and all below.
pub(crate) fn matches(filter: &str, topic: &str) -> bool {
    let (mut wanted, mut levels) = (filter.split('/'), topic.split('/'));
    loop {
        match (wanted.next(), levels.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(_)) => {}
            (Some(wanted), Some(level)) if wanted == level => {}
            _ => return false,
        }
    }
}

/// Whether it stands for more than one topic.
pub(crate) fn is_pattern(filter: &str) -> bool {
    filter.split('/').any(|level| level == "+" || level == "#")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_match_as_the_protocol_says() {
        for (filter, topic, expected) in [
            ("chat/#", "chat", true),
            ("chat/#", "chat/room/42", true),
            ("chat/+", "chat/lobby", true),
            ("chat/+", "chat", false),
            ("chat/+", "chat/room/42", false),
            ("chat/+/42", "chat/room/42", true),
            ("#", "a/b", true),
            ("a/b", "a/b", true),
            ("a/b", "a", false),
        ] {
            assert_eq!(matches(filter, topic), expected, "{filter} {topic}");
        }
        assert!(is_pattern("a/+") && is_pattern("#") && !is_pattern("a/b"));
    }
}
