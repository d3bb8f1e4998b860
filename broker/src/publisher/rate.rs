//! How fast each topic may be published to, by messages and by bytes.

use std::collections::HashMap;
use std::time::Duration;

use bongsu_protocol::topic::Topic;

use crate::config::Policy;
use crate::limits::RATED_TOPICS_MAX;
use crate::metrics::Refusal;
use crate::pace::Pace;
use crate::quota::{Refused, refused};

/// Of one topic.
#[derive(Debug, Default)]
struct Paces {
    messages: Pace,
    bytes: Pace,
}

#[derive(Debug, Default)]
pub(super) struct Rates {
    paces: HashMap<Topic, Paces>,
}

impl Rates {
    /// Takes one message's worth, or says how long to wait for it.
    pub(super) fn take(
        &mut self,
        topic: &Topic,
        policy: &Policy,
        n_bytes: usize,
        now: Duration,
    ) -> Result<(), Refused> {
        if self.paces.len() >= RATED_TOPICS_MAX {
            self.paces.retain(|_, paces| !paces.messages.is_full(now) || !paces.bytes.is_full(now));
        }
        let paces = self.paces.entry(topic.clone()).or_default();
        if let Some(rate) = policy.publish_rate {
            let pause = paces.messages.take(rate, now);
            let text = "this topic takes no more messages right now";
            pause.map_err(|pause| refused(Refusal::TopicPublishRate, pause, text))?;
        }
        if let Some(per_second) = policy.publish_bytes {
            let pause = paces.bytes.take_amount(n_bytes as u64, per_second, now);
            let text = "this topic takes no more bytes right now";
            pause.map_err(|pause| refused(Refusal::TopicPublishBytes, pause, text))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Policies, PublishRate};

    fn policy(publish_rate: Option<PublishRate>, publish_bytes: Option<u64>) -> Policy {
        let policy = Policies::new(&[]).for_topic(&Topic::parse("a").unwrap());
        Policy { publish_rate, publish_bytes, ..(*policy).clone() }
    }

    #[test]
    fn bytes_have_a_rate_of_their_own() {
        let (mut rates, topic, policy) =
            (Rates::default(), Topic::parse("a").unwrap(), policy(None, Some(1000)));
        let mut take = |n_bytes| rates.take(&topic, &policy, n_bytes, Duration::ZERO).is_ok();
        assert!(take(900) && !take(200) && take(100) && !take(1));
    }

    #[test]
    fn burst_passes_and_then_the_rate_holds() {
        let mut rates = Rates::default();
        let topic = Topic::parse("a").unwrap();
        let policy = policy(Some(PublishRate { per_second: 10, burst: 3 }), None);
        let at = Duration::from_millis;
        let mut take = |now| rates.take(&topic, &policy, 1, at(now)).map_err(|refused| refused.retry_after);
        for _ in 0..3 {
            assert_eq!(take(0), Ok(()));
        }
        assert_eq!(take(0), Err(at(100)));
        assert_eq!(take(40), Err(at(60)));
        assert_eq!(take(100), Ok(()));
        assert_eq!(take(100), Err(at(100)));
    }
}
