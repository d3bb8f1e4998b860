//! A walk over an ordered list of names that looks at few of those that a listing does not want.
//!
//! A filter such as `a/+/c` wants names from all over `a/`. Where a name does not match, the walk works out the next one that could, and
//! steps there: so it costs as many looks at the index as there are different levels in the place of the `+`, and not as many as
//! there are names.

use bongsu_protocol::topic::TopicFilter;

use crate::store::{ListQuery, Listing, LogBounds};

/// Names that one statement asks for at most: so that no single one keeps a snapshot for long, which in SQLite keeps the write-ahead
/// log from being emptied.
const NAMES_PER_STATEMENT: usize = 1024;

/// Names that a statement asks for behind a step: few, since there may be another step right behind them.
const NAMES_BEHIND_STEP: usize = 16;

/// As how many names a statement counts at least: what it costs to ask.
const NAMES_COUNTED_MIN: usize = 128;

/// Names to be looked at.
#[derive(Debug)]
pub(crate) struct Range {
    /// The first of them is not before this.
    pub(crate) from: String,
    /// They are before this; `None`: to the end.
    pub(crate) until: Option<String>,
    /// At most this many.
    pub(crate) n_names: usize,
}

/// One listing under way.
#[derive(Debug)]
pub(crate) struct Walk<'a> {
    query: &'a ListQuery,
    logs: Vec<LogBounds>,
    /// Where to go on; `None`: there are no more.
    from: Option<String>,
    until: Option<String>,
    n_names: usize,
    n_looked: usize,
}

/// Where a name stands to what is wanted.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// It is wanted.
    This,
    /// It is not; the one behind it may be.
    Following,
    /// No name is before this text.
    NotBefore(String),
    /// No name is, from here on.
    None,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(query: &'a ListQuery) -> Self {
        let (start, until) = query.filter.as_ref().map_or((String::new(), None), bounds);
        let from = start.max(query.from.clone()).max(query.prefix.clone());
        // One more shows whether there are more.
        let n_names = query.limit.saturating_add(1).clamp(NAMES_BEHIND_STEP, NAMES_PER_STATEMENT);
        let from = (query.limit > 0).then_some(from);
        Self { query, logs: Vec::new(), from, until, n_names, n_looked: 0 }
    }

    /// What to look at next; `None` at the end of the walk.
    pub(crate) fn range(&self) -> Option<Range> {
        let is_over = self.logs.len() >= self.query.limit || self.n_looked >= self.query.names_max;
        let from = self.from.as_ref().filter(|_| !is_over)?;
        if self.until.as_ref().is_some_and(|until| from >= until) {
            return None;
        }
        Some(Range { from: from.clone(), until: self.until.clone(), n_names: self.n_names })
    }

    /// Takes what was found in a range.
    pub(crate) fn take(&mut self, found: Vec<LogBounds>) {
        let (n_found, Some(mut from)) = (found.len(), self.from.take()) else { return };
        self.n_looked = self.n_looked.saturating_add(n_found.max(NAMES_COUNTED_MIN));
        let mut has_stepped_over = false;
        for log in found {
            let name = log.topic.as_str();
            has_stepped_over = name < from.as_str();
            if has_stepped_over {
                continue;
            }
            from = match self.next_to(name) {
                Next::None => return,
                Next::NotBefore(text) => text,
                Next::Following => ListQuery::after(&log.topic),
                // It is the first of the next page.
                Next::This if self.logs.len() >= self.query.limit => {
                    self.from = Some(name.to_owned());
                    return;
                }
                Next::This => {
                    let after = ListQuery::after(&log.topic);
                    self.logs.push(log);
                    after
                }
            };
        }
        if n_found == self.n_names {
            self.n_names = match has_stepped_over {
                true => NAMES_BEHIND_STEP,
                false => (2 * self.n_names).min(NAMES_PER_STATEMENT),
            };
            self.from = Some(from);
        }
    }

    pub(crate) fn finish(self) -> Listing {
        let is_over = self.from.as_ref().zip(self.until.as_ref()).is_some_and(|(from, until)| from >= until);
        Listing { logs: self.logs, next: self.from.filter(|_| !is_over) }
    }

    fn next_to(&self, name: &str) -> Next {
        if !name.starts_with(&self.query.prefix) {
            // Names before the prefix are never looked at.
            return Next::None;
        }
        self.query.filter.as_ref().map_or(Next::This, |filter| next_to(filter, name))
    }
}

/// Which names a filter can match, as far as its levels before the first wildcard tell: from where, and to before where.
fn bounds(filter: &TopicFilter) -> (String, Option<String>) {
    let literal: Vec<&str> = filter.levels().take_while(|level| !is_wildcard(level)).collect();
    let literal = literal.join("/");
    if literal.len() == filter.as_str().len() {
        let until = format!("{literal}\u{1}");
        return (literal, Some(until));
    }
    if literal.is_empty() {
        return (String::new(), None);
    }
    // `/` is followed by `0`: the smallest text that is larger than all that begin with the level and a slash.
    let until = format!("{literal}0");
    // `a/#` matches `a` as well; `a/+` does not.
    let is_parent_wanted = filter.as_str().len() == literal.len() + 2 && filter.as_str().ends_with('#');
    let from = if is_parent_wanted { literal } else { format!("{literal}/") };
    (from, Some(until))
}

fn is_wildcard(level: &str) -> bool {
    matches!(level, "+" | "#")
}

/// Whether a filter matches a name, and if not, which names behind it are the next that it could.
fn next_to(filter: &TopicFilter, name: &str) -> Next {
    let mut wanted = filter.levels().peekable();
    if name.starts_with('$') && wanted.peek().is_some_and(|level| is_wildcard(level)) {
        // `$` is followed by `%`; wildcards match none of the broker's own.
        return Next::NotBefore("%".to_owned());
    }
    // The end of the last level that a `+` stands for: beside it there may be others.
    let mut last_free = None;
    let mut start = 0;
    for level in name.split('/') {
        let end = start + level.len();
        match wanted.next() {
            Some("#") => return Next::This,
            Some("+") => last_free = Some(end),
            Some(literal) if literal == level => {}
            Some(literal) => {
                let mut candidate = format!("{}{literal}", &name[..start]);
                if candidate.as_str() > name {
                    return Next::NotBefore(candidate);
                }
                // Names below that level come behind names such as `level!`, since `/` does.
                candidate.push('/');
                if wanted.peek().is_some() && candidate.as_str() > name {
                    return Next::NotBefore(candidate);
                }
                return beside(name, last_free);
            }
            // It is deeper than the filter.
            None => return beside(name, Some(start - 1)),
        }
        start = end + 1;
    }
    match wanted.next() {
        None | Some("#") => Next::This,
        // It ends where the filter goes on: what is below it comes later.
        Some(_) => Next::Following,
    }
}

/// Behind everything that is below the part of a name that ends here.
fn beside(name: &str, end: Option<usize>) -> Next {
    end.map_or(Next::None, |end| Next::NotBefore(format!("{}0", &name[..end])))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use bongsu_protocol::message::Time;
    use bongsu_protocol::position::Position;
    use bongsu_protocol::topic::Topic;

    use super::*;

    fn filter(text: &str) -> TopicFilter {
        TopicFilter::parse(text).unwrap()
    }

    #[test]
    fn a_name_that_does_not_match_tells_where_the_next_one_may_be() {
        let to = |text: &str| Next::NotBefore(text.to_owned());
        for (wanted, name, next) in [
            ("a/b", "a/b", Next::This),
            ("a/#", "a", Next::This),
            ("a/#", "a!", to("a/")),
            ("a/#", "a/b/c", Next::This),
            ("a/+", "a/b/c", to("a/b0")),
            ("a/+/c", "a/x", Next::Following),
            ("a/+/c", "a/x/b", to("a/x/c")),
            ("a/+/c", "a/x/c", Next::This),
            ("a/+/c", "a/x/c!", to("a/x0")),
            ("a/+/c/d", "a/x/c!", to("a/x/c/")),
            ("a/+/c", "a/x/c/d", to("a/x/c0")),
            ("a/+/c", "a/x/d", to("a/x0")),
            ("+/b/+", "a/c/d", to("a0")),
            ("a/b/+", "a/c/d", Next::None),
            ("#", "$sys/a", to("%")),
            ("+/a", "$sys/a", to("%")),
            ("$sys/+", "$sys/a", Next::This),
        ] {
            assert_eq!(next_to(&filter(wanted), name), next, "{wanted} at {name}");
        }
    }

    /// Names of up to three levels of few texts, among them such whose order is not that of their levels.
    fn names() -> BTreeSet<String> {
        let levels = ["a", "a!", "a0", "b", "$s"];
        let mut names = BTreeSet::new();
        for one in levels {
            names.insert(one.to_owned());
            for two in levels {
                names.insert(format!("{one}/{two}"));
                names.extend(levels.iter().map(|three| format!("{one}/{two}/{three}")));
            }
        }
        names
    }

    fn query(filter: TopicFilter, prefix: &str, from: String, limit: usize, names_max: usize) -> ListQuery {
        ListQuery { filter: Some(filter), prefix: prefix.to_owned(), from, limit, names_max }
    }

    fn listed(names: &BTreeSet<String>, query: &ListQuery) -> (Listing, usize) {
        let mut walk = Walk::new(query);
        let mut n_statements = 0;
        while let Some(range) = walk.range() {
            n_statements += 1;
            let is_before_end = |name: &&String| range.until.as_ref().is_none_or(|until| *name < until);
            let inside = names.range(range.from.clone()..).take_while(is_before_end);
            let log = |name: &String| {
                let (topic, at) = (Topic::parse(name).unwrap(), Position::new(1, 1));
                LogBounds { topic, first: at, head: at, time: Time(1), bytes: 1 }
            };
            walk.take(inside.take(range.n_names).map(log).collect());
        }
        (walk.finish(), n_statements)
    }

    #[test]
    fn no_name_that_matches_is_stepped_over() {
        let names = names();
        let levels = ["a", "a!", "b", "$s", "zz", "+"];
        let mut filters = vec!["#".to_owned()];
        for one in levels {
            filters.extend([one.to_owned(), format!("{one}/#")]);
            for two in levels {
                filters.extend([format!("{one}/{two}"), format!("{one}/{two}/#")]);
                filters.extend(levels.iter().map(|three| format!("{one}/{two}/{three}")));
            }
        }
        for text in filters {
            for prefix in ["", "a", "a/", "b/a"] {
                let wanted = filter(&text);
                let is_wanted =
                    |name: &&String| name.starts_with(prefix) && wanted.matches(&Topic::parse(name).unwrap());
                let expected: Vec<_> = names.iter().filter(is_wanted).cloned().collect();
                let mut found = Vec::new();
                let mut from = Some(String::new());
                while let Some(start) = from {
                    let (listing, _) = listed(&names, &query(wanted.clone(), prefix, start, 3, 100));
                    found.extend(listing.logs.iter().map(|log| log.topic.as_str().to_owned()));
                    from = listing.next;
                }
                assert_eq!(found, expected, "{text} behind {prefix:?}");
            }
        }
    }

    #[test]
    fn few_names_that_match_among_many_cost_few_statements() {
        let rooms = (0..20).flat_map(|n| (0..5000).map(move |m| format!("room/{n:02}/{m:04}")));
        let query = query(filter("room/+/4999"), "", String::new(), 100, usize::MAX);
        let (listing, n_statements) = listed(&rooms.collect(), &query);
        assert_eq!(listing.logs.len(), 20);
        assert!(n_statements <= 41, "{n_statements} statements for 20 rooms of 5,000 names");
    }

    #[test]
    fn a_look_ends_after_its_names_and_goes_on_there() {
        let name = |n| format!("{n:04}/{}", if n == 4000 { "b" } else { "a" });
        let names: BTreeSet<_> = (0..5000).map(name).collect();
        let mut from = Some(String::new());
        let (mut n_pages, mut n_found) = (0, 0);
        while let Some(start) = from {
            let (listing, n_statements) = listed(&names, &query(filter("+/b"), "", start, 10, 256));
            assert!(n_statements <= 4, "{n_statements} statements");
            (n_pages, n_found, from) = (n_pages + 1, n_found + listing.logs.len(), listing.next);
        }
        assert_eq!(n_found, 1);
        assert!(n_pages > 10, "{n_pages} pages");
    }
}
