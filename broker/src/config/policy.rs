//! What holds for a topic.

use std::sync::Arc;
use std::time::Duration;

use ::config::{Map, Value};
use bongsu_persistence::store::Retention;
use bongsu_protocol::topic::{Topic, TopicFilter};
use tokio::sync::watch;

use super::live::LivePolicies;
use super::schema::{Reader, Setting, Spec};
use super::settings::TopicPolicy;
use super::value::ByteSize;
use super::word::{SlowReader, TopicKind};
use crate::limits::TICKETS_KEPT;

/// The topics on which the broker tells of itself: like any others to their readers.
pub const TOLD: &str = "$sys/#";

/// What holds for the topics under a filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Which topics; `None` for the policy of all that nothing matches.
    pub filter: Option<TopicFilter>,
    /// Whether they keep history, and what belongs to that.
    pub kind: Kind,
    /// Bytes of one message's payload.
    pub message_bytes: usize,
    /// How fast a topic may be published to; `None` bounds nothing.
    pub publish_rate: Option<PublishRate>,
    /// Bytes of payload a second that a topic may be published; `None` bounds nothing.
    pub publish_bytes: Option<u64>,
    /// Whether members can be seen.
    pub presence: bool,
}

/// Whether topics keep history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// They do.
    Durable {
        /// How much of it.
        retention: Retention,
        /// How long a message's id guards against a second one; zero is not at all.
        idempotency_window: Duration,
    },
    /// They do not.
    Live {
        /// What a reader gets that cannot keep up.
        slow_reader: SlowReader,
    },
}

/// A token bucket's figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublishRate {
    /// Messages a second, at least 1.
    pub per_second: u32,
    /// Messages at once, at least 1.
    pub burst: u32,
}

/// The ordered policies. The first whose filter matches holds. Those of the settings stay as they are; those that operators change while the
/// node runs go before them.
#[derive(Debug)]
pub struct Policies {
    /// How many of the first are the broker's own.
    n_own: usize,
    /// Those of the settings, and what is behind them: for the topics of sessions, and for all that nothing matches.
    fixed: Vec<Arc<Policy>>,
    /// All of them, in order. The last matches everything.
    ordered: watch::Sender<Vec<Arc<Policy>>>,
}

impl Policies {
    /// Takes the policies as they stand in the settings.
    #[must_use]
    pub fn new(topics: &[TopicPolicy]) -> Self {
        let rest = Policy::unmatched();
        let filter = TopicFilter::parse("user-queue/#").expect("it is a filter");
        let kind = Kind::Live { slow_reader: SlowReader::DropOldest };
        // What Spring makes of its users' destinations: each is one session's, read by it alone and gone with it, so nothing is kept.
        let of_sessions = Policy { filter: Some(filter), kind, ..rest };
        let fixed = topics.iter().map(Policy::from).chain([of_sessions, rest]);
        let fixed: Vec<_> = fixed.map(Arc::new).collect();
        Self { n_own: 0, ordered: watch::Sender::new(fixed.clone()), fixed }
    }

    /// What the broker tells on topics of its own is durable, is kept for a time, and is no operator's to shape otherwise.
    #[must_use]
    pub fn telling(self, age: Duration) -> Self {
        self.with_own(TOLD, age)
    }

    /// Connect tickets are kept as long as it matters that they were used, and some more.
    #[must_use]
    pub fn keeping_tickets(self) -> Self {
        self.with_own("$tickets", TICKETS_KEPT)
    }

    fn with_own(mut self, filter: &str, age: Duration) -> Self {
        let filter = TopicFilter::parse(filter).expect("it is a filter");
        let retention = Retention { age: Some(age), ..Retention::default() };
        let kind = Kind::Durable { retention, idempotency_window: Duration::ZERO };
        let told = Policy { filter: Some(filter), kind, ..Policy::unmatched() };
        self.ordered.send_modify(|ordered| ordered.insert(0, Arc::new(told)));
        self.n_own += 1;
        self
    }

    /// From now on, these go before those of the settings, in the place of those that did. They are asked for while nobody else sets any, so
    /// that of two who do it at the same time the later one's hold.
    pub fn put_before(&self, live: impl FnOnce() -> Arc<LivePolicies>) {
        self.ordered.send_modify(|ordered| {
            let live = live();
            ordered.truncate(self.n_own);
            ordered.extend(live.as_slice().iter().map(|policy| Arc::new(policy.policy())));
            ordered.extend(self.fixed.iter().cloned());
        });
    }

    /// What would hold if these went before those of the settings.
    #[must_use]
    pub fn with(&self, live: &LivePolicies) -> Self {
        let ordered = watch::Sender::new(self.ordered.borrow()[..self.n_own].to_vec());
        let policies = Self { n_own: self.n_own, fixed: self.fixed.clone(), ordered };
        policies.put_before(|| Arc::new(live.clone()));
        policies
    }

    /// Tells of every change from now on.
    #[must_use]
    pub fn changes(&self) -> Changes {
        Changes(self.ordered.subscribe())
    }

    /// What holds for this topic at this moment. Walks the policies, which are at most two lists of settings long.
    #[must_use]
    pub fn for_topic(&self, topic: &Topic) -> Arc<Policy> {
        let holds = |policy: &&Arc<Policy>| policy.filter.as_ref().is_none_or(|filter| filter.matches(topic));
        let policy = self.ordered.borrow().iter().find(holds).map(Arc::clone);
        policy.expect("the last one matches everything")
    }

    /// Whether readers of this topic find it kept. Of the broker's own topics only those are on which it [tells](TOLD) of itself,
    /// whatever the policies say of others.
    #[must_use]
    pub fn keep(&self, topic: &Topic) -> bool {
        let is_told = TOLD.strip_suffix('#').is_some_and(|prefix| topic.as_str().starts_with(prefix));
        (is_told || !topic.is_reserved()) && self.for_topic(topic).is_durable()
    }

    /// Every policy in order; the last is that of all topics that no filter matches.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<Policy>> {
        self.ordered.borrow().clone()
    }
}

/// Tells of changes of policies.
#[derive(Debug)]
pub struct Changes(watch::Receiver<Vec<Arc<Policy>>>);

impl Changes {
    /// Waits for a change since this was asked last; for good, once the policies are gone.
    pub async fn next(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending().await
        }
    }
}

impl Policy {
    /// The defaults of every setting.
    fn unmatched() -> Self {
        let everything = Map::from_iter([("filter".to_owned(), Value::from("#"))]);
        let defaults =
            TopicPolicy::read(&mut Reader::default(), "", Some(&everything.into()), &Spec::SECTION)
                .expect("every setting of a policy but its filter has a default");
        Self { filter: None, ..Self::from(&defaults) }
    }

    /// Whether the topics keep history.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        matches!(self.kind, Kind::Durable { .. })
    }
}

impl From<&TopicPolicy> for Policy {
    fn from(settings: &TopicPolicy) -> Self {
        let kind = match settings.kind {
            TopicKind::Durable => Kind::Durable {
                retention: Retention {
                    age: settings.retention.age,
                    count: settings.retention.count,
                    bytes: settings.retention.bytes.map(ByteSize::as_u64),
                },
                idempotency_window: settings.idempotency_window,
            },
            TopicKind::Live => Kind::Live { slow_reader: settings.slow_reader },
        };
        let rate = |per_second| PublishRate { per_second, burst: settings.publish_burst };
        Self {
            filter: Some(settings.filter.clone()),
            kind,
            message_bytes: settings.message_bytes.as_usize(),
            publish_rate: settings.publish_rate.map(rate),
            publish_bytes: settings.publish_bytes.map(ByteSize::as_u64),
            presence: settings.presence,
        }
    }
}
