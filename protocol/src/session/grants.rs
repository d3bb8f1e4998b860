//! What a client may do.

use crate::topic::{Topic, TopicFilter};

/// The first level of the topics on which joins and leaves are told.
pub const PRESENCE_PREFIX: &str = "$presence/";

/// Who a client is and what it may do: filters for each action. A topic or filter outside them is refused.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Grants {
    /// The token's subject; empty for an anonymous client.
    pub subject: String,
    /// Topics of which may be read what comes from now on.
    pub subscribe: Vec<TopicFilter>,
    /// Topics of which may be read what is kept: pages, and every start but with the next message.
    pub history: Vec<TopicFilter>,
    /// Topics that may be published to.
    pub publish: Vec<TopicFilter>,
    /// Topics whose members may be seen, and on which the client may be a member.
    pub presence: Vec<TopicFilter>,
}

impl Grants {
    /// Everything, for an anonymous client: right only where nobody else can connect.
    #[must_use]
    pub fn everything() -> Self {
        let all = || TopicFilter::parse("#").into_iter().collect::<Vec<_>>();
        Self { subject: String::new(), subscribe: all(), history: all(), publish: all(), presence: all() }
    }

    /// Whether nothing at all is allowed, so that the client must authenticate first.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        let Self { subject: _, subscribe, history, publish, presence } = self;
        subscribe.is_empty() && history.is_empty() && publish.is_empty() && presence.is_empty()
    }

    /// Whether of all topics under the filter may be read what comes from now on: one granted filter covers all of it.
    #[must_use]
    pub fn may_subscribe(&self, filter: &TopicFilter) -> bool {
        self.may_read(&self.subscribe, filter)
    }

    /// Whether of all topics under the filter may be read what is kept. Who goes on after a position reads what is kept, too.
    #[must_use]
    pub fn may_read_history(&self, filter: &TopicFilter) -> bool {
        self.may_read(&self.history, filter)
    }

    /// What is told of members is read by whoever may see them.
    fn may_read(&self, granted: &[TopicFilter], filter: &TopicFilter) -> bool {
        match filter.as_str().strip_prefix(PRESENCE_PREFIX).map(TopicFilter::parse) {
            Some(Ok(watched)) => self.presence.iter().any(|granted| granted.covers(&watched)),
            Some(Err(_)) => false,
            None => granted.iter().any(|granted| granted.covers(filter)),
        }
    }

    /// Whether the topic may be published to.
    #[must_use]
    pub fn may_publish(&self, topic: &Topic) -> bool {
        !topic.is_reserved() && self.publish.iter().any(|granted| granted.matches(topic))
    }

    /// Whether the topic's members may be seen and joined.
    #[must_use]
    pub fn may_be_present(&self, topic: &Topic) -> bool {
        !topic.is_reserved() && self.presence.iter().any(|granted| granted.matches(topic))
    }
}
