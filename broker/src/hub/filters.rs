//! Patterns of one shard, found by topic.

use std::collections::HashMap;
use std::sync::Arc;

use bongsu_protocol::topic::{Topic, TopicFilter};
use indexmap::IndexMap;

use crate::outbound::{ConnectionId, Outbound};

/// Connections by the patterns that they watch: a tree of levels, so that a topic is matched in steps of its own levels,
/// however many patterns there are.
#[derive(Debug, Default)]
pub(super) struct Filters {
    root: Level,
    n_watches: usize,
}

#[derive(Debug, Default)]
struct Level {
    below: HashMap<Box<str>, Self>,
    here: IndexMap<ConnectionId, Arc<Outbound>>,
}

impl Level {
    fn is_empty(&self) -> bool {
        self.below.is_empty() && self.here.is_empty()
    }
}

impl Filters {
    pub(super) const fn is_empty(&self) -> bool {
        self.n_watches == 0
    }

    pub(super) fn insert(&mut self, filter: &TopicFilter, outbound: Arc<Outbound>) {
        let level =
            filter.levels().fold(&mut self.root, |level, name| level.below.entry(name.into()).or_default());
        if level.here.insert(outbound.id(), outbound).is_none() {
            self.n_watches += 1;
        }
    }

    pub(super) fn remove(&mut self, filter: &TopicFilter, id: ConnectionId) {
        let levels: Vec<&str> = filter.levels().collect();
        if remove_below(&mut self.root, &levels, id) {
            self.n_watches -= 1;
        }
    }

    /// Calls `found` with each connection, once per pattern that it watches.
    pub(super) fn all(&self, mut found: impl FnMut(&Arc<Outbound>)) {
        let mut open = vec![&self.root];
        while let Some(level) = open.pop() {
            level.here.values().for_each(&mut found);
            open.extend(level.below.values());
        }
    }

    /// Calls `found` with each connection that watches the topic, once per pattern that matches.
    pub(super) fn matching(&self, topic: &Topic, mut found: impl FnMut(&Arc<Outbound>)) {
        let levels: Vec<&str> = topic.levels().collect();
        // Wildcards in the first level do not match the broker's own topics (MQTT 5.0, 4.7.2).
        let mut open: Vec<(&Level, usize, bool)> = vec![(&self.root, 0, !topic.is_reserved())];
        while let Some((level, depth, wildcards)) = open.pop() {
            if wildcards && let Some(rest) = level.below.get("#") {
                rest.here.values().for_each(&mut found);
            }
            let Some(name) = levels.get(depth) else {
                level.here.values().for_each(&mut found);
                continue;
            };
            if wildcards && let Some(any) = level.below.get("+") {
                open.push((any, depth + 1, true));
            }
            if let Some(exact) = level.below.get(*name) {
                open.push((exact, depth + 1, true));
            }
        }
    }
}

/// Removes and prunes. Recursion is bounded by the levels of a filter, at most 32.
fn remove_below(level: &mut Level, levels: &[&str], id: ConnectionId) -> bool {
    let Some((name, rest)) = levels.split_first() else { return level.here.swap_remove(&id).is_some() };
    let Some(below) = level.below.get_mut(*name) else { return false };
    let removed = remove_below(below, rest, id);
    if below.is_empty() {
        level.below.remove(*name);
    }
    removed
}
