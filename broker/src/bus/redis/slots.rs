//! Where a Redis Cluster keeps a name.

/// The part of a name that counts: what stands between its first `{` and the next `}` if that is not empty, else all of it. Names with the
/// same such part are kept together.
pub(super) fn tag(name: &str) -> &str {
    let inside = name.split_once('{').and_then(|(_, after)| after.split_once('}')).map(|(inside, _)| inside);
    inside.filter(|inside| !inside.is_empty()).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_braces_count_and_only_if_something_is_in_them() {
        for (name, expected) in
            [("{a}b{c}", "a"), ("{}{a}", "{}{a}"), ("}{a", "}{a"), ("x{{a}}", "{a"), ("ab", "ab")]
        {
            assert_eq!(tag(name), expected, "{name}");
        }
    }
}
