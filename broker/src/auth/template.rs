//! Filters in which `{sub}` stands for whose token it is.

use bongsu_protocol::topic::TopicFilter;

/// The level that stands for the subject.
const SUBJECT: &str = "{sub}";

/// Why a subject cannot stand in a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unfit {
    /// It would be no level, several, or a wildcard: then the filter could cover what is another's.
    #[error(
        "the token's subject cannot stand for `{{sub}}`: it must be one level of a topic, without `/`, `+`, `#` and control characters, and not begin with `$`"
    )]
    Subject,
    /// `{sub}` is only a part of its level.
    #[error("`{{sub}}` must be a whole level of a filter, as in `inbox/{{sub}}/#`")]
    PartOfLevel,
    /// What comes out is longer than a filter may be.
    #[error("with the token's subject for `{{sub}}`, a filter is longer than 1024 bytes")]
    TooLong,
}

/// The filters with the subject in the place of each level `{sub}`. Other filters stay as they are.
///
/// # Errors
/// The subject fits no level, so that whatever came out could cover more than was meant.
pub(super) fn fill(filters: &[TopicFilter], subject: &str) -> Result<Vec<TopicFilter>, Unfit> {
    filters.iter().map(|filter| fill_one(filter, subject)).collect()
}

fn fill_one(filter: &TopicFilter, subject: &str) -> Result<TopicFilter, Unfit> {
    if !filter.as_str().contains(SUBJECT) {
        return Ok(filter.clone());
    }
    if filter.as_str().split('/').any(|level| level.contains(SUBJECT) && level != SUBJECT) {
        return Err(Unfit::PartOfLevel);
    }
    if !is_level(subject) {
        return Err(Unfit::Subject);
    }
    let level = |level| if level == SUBJECT { subject } else { level };
    let filled: Vec<&str> = filter.as_str().split('/').map(level).collect();
    TopicFilter::parse(&filled.join("/")).map_err(|_| Unfit::TooLong)
}

/// Whether a subject is exactly one level that matches only itself.
fn is_level(subject: &str) -> bool {
    let is_plain = |c: char| !matches!(c, '/' | '+' | '#') && !c.is_control();
    !subject.is_empty() && !subject.starts_with('$') && subject.chars().all(is_plain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn filter(text: &str) -> TopicFilter {
        TopicFilter::parse(text).expect("a filter")
    }

    fn check(template: &str, subject: &str) -> Result<String, Unfit> {
        fill_one(&filter(template), subject).map(|filled| filled.as_str().to_owned())
    }

    #[test]
    fn the_subject_stands_for_its_level_only() {
        assert_eq!(check("inbox/{sub}/#", "ann").as_deref(), Ok("inbox/ann/#"));
        assert_eq!(check("{sub}", "ann").as_deref(), Ok("ann"));
        assert_eq!(check("a/{sub}/b/{sub}", "ann").as_deref(), Ok("a/ann/b/ann"));
        assert_eq!(
            check("a/{sub}", "{sub}").as_deref(),
            Ok("a/{sub}"),
            "what was filled in is not looked at again"
        );
        assert_eq!(check("a/{Sub}", "#").as_deref(), Ok("a/{Sub}"));
        assert_eq!(check("a/user-{sub}", "ann"), Err(Unfit::PartOfLevel));
        assert_eq!(check("a/{sub}", &"a".repeat(1023)), Err(Unfit::TooLong));
    }

    #[test]
    fn a_subject_that_is_no_plain_level_is_refused() {
        for subject in
            ["", "#", "+", "a/b", "/", "a/#", "a#", "+a", "$sys", "$", "a\0", "a\n", "\u{85}", "../x/#"]
        {
            assert_eq!(check("inbox/{sub}/#", subject), Err(Unfit::Subject), "{subject:?}");
        }
    }

    proptest! {
        /// Whatever two users are called, what one of them is granted by `{sub}` covers nothing of the other's.
        #[test]
        fn no_subject_covers_what_is_another_s(
            template in "(\\{sub\\}|[ab]/\\{sub\\})(/[ab+])?(/#)?",
            one in any::<String>(),
            other in "[a-z$#+/.]{1,4}|\\PC{1,8}",
            rest in "(/[a-z]){0,2}",
        ) {
            prop_assume!(one != other);
            let template = filter(&template);
            if let Ok(granted) = fill_one(&template, &one) {
                if let Ok(theirs) = fill_one(&template, &other) {
                    prop_assert!(!granted.covers(&theirs), "{granted:?} covers {theirs:?}");
                }
                let place = template.as_str().split("{sub}").next().unwrap_or_default();
                if let Ok(topic) = bongsu_protocol::topic::Topic::parse(&format!("{place}{other}{rest}"))
                    && !other.contains('/')
                {
                    prop_assert!(!granted.matches(&topic), "{granted:?} matches {topic:?}");
                }
                prop_assert_eq!(granted.as_str().split('/').count(), template.as_str().split('/').count());
            }
        }
    }
}
