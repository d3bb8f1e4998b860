//! What was removed from logs, and how long that makes what came before unfit to be remembered.

use std::collections::HashMap;
use std::time::Duration;

use bongsu_protocol::position::{Epoch, Offset, Position};
use bongsu_protocol::topic::Topic;

use crate::limits::{REMOVAL_DISTRUST, REMOVAL_TOPICS_MAX};

/// Something that was removed from a log, or is about to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gone {
    /// Whose log.
    pub topic: Topic,
    /// Its incarnation.
    pub epoch: Epoch,
    /// What of it.
    pub part: Part,
}

/// What of a log was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The content of one message, which stays in its place as an erased one.
    Message(Offset),
    /// All messages up to this offset.
    Until(Offset),
    /// The log.
    All,
}

/// What those are told who keep something that was made of logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// This was removed, or is about to be: it is told once more when it was.
    Gone(Gone),
    /// Removals were missed: anything may be gone.
    Anything,
}

/// Topics of which something was removed a moment ago. Reads and messages that were under way then may still bring it, so nothing of
/// them is remembered for a while.
#[derive(Debug, Default)]
pub(super) struct Distrust {
    topics: HashMap<Topic, Doubt>,
    /// No topic is trusted until then.
    everything_until: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Doubt {
    until: Duration,
    /// Logs up to this incarnation were deleted: what is said of them means nothing.
    dead: Epoch,
}

impl Distrust {
    /// Trusts a topic no longer, for a while.
    pub(super) fn add(&mut self, gone: &Gone, now: Duration) {
        let until = now + REMOVAL_DISTRUST;
        if self.topics.len() >= REMOVAL_TOPICS_MAX {
            self.topics.retain(|_, doubt| doubt.until > now);
        }
        if self.topics.len() >= REMOVAL_TOPICS_MAX && !self.topics.contains_key(&gone.topic) {
            self.everything_until = until;
            return;
        }
        let doubt = self.topics.entry(gone.topic.clone()).or_insert(Doubt { until, dead: Epoch(0) });
        doubt.until = until;
        if gone.part == Part::All {
            doubt.dead = doubt.dead.max(gone.epoch);
        }
    }

    /// Trusts nothing, for a while.
    pub(super) fn add_everything(&mut self, now: Duration) {
        self.everything_until = now + REMOVAL_DISTRUST;
    }

    /// Whether nothing of a topic may be remembered.
    pub(super) fn has(&self, topic: &Topic, now: impl FnOnce() -> Duration) -> bool {
        if self.topics.is_empty() && self.everything_until == Duration::ZERO {
            // As nearly always: the clock is not asked.
            return false;
        }
        let now = now();
        now < self.everything_until || self.topics.get(topic).is_some_and(|doubt| now < doubt.until)
    }

    /// Whether a position is of a log that is known to be deleted.
    pub(super) fn is_dead(&self, topic: &Topic, position: Position) -> bool {
        self.topics.get(topic).is_some_and(|doubt| position.epoch <= doubt.dead)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gone(name: &str, part: Part) -> Gone {
        Gone { topic: Topic::parse(name).unwrap(), epoch: Epoch(7), part }
    }

    #[test]
    fn distrust_ends_after_a_while() {
        let mut distrust = Distrust::default();
        let message = gone("a", Part::Message(Offset(1)));
        distrust.add(&message, Duration::from_secs(1));
        let has = |name: &str, now: Duration| distrust.has(&Topic::parse(name).unwrap(), || now);
        assert!(has("a", REMOVAL_DISTRUST));
        assert!(!has("b", REMOVAL_DISTRUST));
        assert!(!has("a", REMOVAL_DISTRUST + Duration::from_secs(1)));
    }

    #[test]
    fn past_the_bound_nothing_is_trusted() {
        let mut distrust = Distrust::default();
        for n in 0..=REMOVAL_TOPICS_MAX {
            distrust.add(&gone(&format!("t/{n}"), Part::All), Duration::from_secs(1));
        }
        assert_eq!(distrust.topics.len(), REMOVAL_TOPICS_MAX);
        assert!(distrust.has(&Topic::parse("other").unwrap(), || Duration::from_secs(2)));
    }

    #[test]
    fn only_logs_up_to_the_deleted_one_are_dead() {
        let mut distrust = Distrust::default();
        distrust.add(&gone("a", Part::All), Duration::ZERO);
        let topic = Topic::parse("a").unwrap();
        assert!(distrust.is_dead(&topic, Position::new(7, 9)));
        assert!(!distrust.is_dead(&topic, Position::new(8, 1)));
    }
}
