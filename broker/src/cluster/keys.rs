//! The names of what is in Redis. All share one hash tag, so that one script may touch any of them, on one server of a Redis Cluster.

use bongsu_protocol::topic::Topic;

use super::owners::SessionKey;

/// The names of one cluster's registry.
#[derive(Debug)]
pub(super) struct Keys {
    base: String,
    /// Sorted set: registration → when its lease ends, in milliseconds of Redis' clock.
    pub(super) leases: String,
    /// Hash: registration → what the node says of itself.
    pub(super) nodes: String,
    /// Hash: registration → number of its newest change.
    pub(super) versions: String,
    /// Hash: the registry's own name and times.
    pub(super) era: String,
    /// Sorted set: registration of a dead node → until when somebody sees to it.
    pub(super) dead: String,
    /// Hash: registration of a dead node → registration of who sees to it.
    pub(super) reapers: String,
    /// Text: the secret by which nodes know each other, where no file has it.
    pub(super) secret: String,
}

impl Keys {
    /// The names behind a prefix.
    pub(super) fn new(prefix: &str) -> Self {
        let base = format!("{prefix}k:{{registry}}:");
        let of = |name: &str| format!("{base}{name}");
        Self {
            leases: of("leases"),
            nodes: of("nodes"),
            versions: of("versions"),
            era: of("era"),
            dead: of("dead"),
            reapers: of("reapers"),
            secret: of("secret"),
            base,
        }
    }

    /// Hash: session → member.
    pub(super) fn members(&self, topic: &str) -> String {
        format!("{}members:{topic}", self.base)
    }

    /// Sorted set: session → since when.
    pub(super) fn order(&self, topic: &str) -> String {
        format!("{}order:{topic}", self.base)
    }

    /// Set of the [places](super::place) that a registration holds.
    pub(super) fn held(&self, registration: &str) -> String {
        format!("{}held:{registration}", self.base)
    }

    /// Text: the node that has an HTTP session. Lives for a time.
    pub(super) fn session(&self, key: SessionKey) -> String {
        format!("{}session:{key}", self.base)
    }

    /// Set of the places of a dead node whose leave is yet to be told.
    pub(super) fn leaving(&self, registration: &str) -> String {
        format!("{}leaving:{registration}", self.base)
    }
}

/// Both keys of a topic, in the order that the scripts expect.
pub(super) fn of_topic(keys: &Keys, topic: &Topic) -> [String; 2] {
    [keys.members(topic.as_str()), keys.order(topic.as_str())]
}
