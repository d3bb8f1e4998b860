//! Which names of an ordered list a topic filter can match.

use bongsu_protocol::topic::TopicFilter;

/// Which names a filter can match, as far as an index can tell.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Names {
    /// A single name; smaller than all that `below` has.
    pub(crate) one: Option<String>,
    /// All names that begin so; empty, or ends with a slash.
    pub(crate) below: Option<String>,
}

impl Names {
    pub(crate) fn of(filter: &TopicFilter) -> Self {
        if let Some(topic) = filter.as_topic() {
            return Self { one: Some(topic.as_str().to_owned()), below: None };
        }
        let literal: Vec<&str> = filter.levels().take_while(|level| !matches!(*level, "+" | "#")).collect();
        if literal.is_empty() {
            return Self { one: None, below: Some(String::new()) };
        }
        let one = literal.join("/");
        let below = Some(format!("{one}/"));
        // `a/#` matches `a` as well; `a/+` does not.
        let parent = filter.levels().nth(literal.len()) == Some("#");
        Self { one: parent.then_some(one), below }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_narrows_the_names_to_look_at() {
        for (filter, one, below) in [
            ("a/b", Some("a/b"), None),
            ("a/#", Some("a"), Some("a/")),
            ("a/+", None, Some("a/")),
            ("a/b/+/c", None, Some("a/b/")),
            ("+/a", None, Some("")),
            ("#", None, Some("")),
        ] {
            let names = Names::of(&TopicFilter::parse(filter).unwrap());
            let expected = Names { one: one.map(str::to_owned), below: below.map(str::to_owned) };
            assert_eq!(names, expected, "{filter}");
        }
    }
}
