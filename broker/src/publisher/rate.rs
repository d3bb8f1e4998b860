//! How fast each topic may be published to: one token bucket per topic that has a rate.

use std::collections::HashMap;
use std::time::Duration;

use bongsu_protocol::topic::Topic;

use crate::config::PublishRate;
use crate::limits::RATED_TOPICS_MAX;

#[derive(Debug, Default)]
pub(super) struct Rates {
    buckets: HashMap<Topic, Bucket>,
}

/// When the bucket would be full again, had nothing more been taken: one number says how much is in it.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    full_at: Duration,
}

impl Rates {
    /// Takes one message's worth, or says how long to wait for it.
    pub(super) fn take(&mut self, topic: &Topic, rate: PublishRate, now: Duration) -> Result<(), Duration> {
        if self.buckets.len() >= RATED_TOPICS_MAX {
            // A full bucket says nothing that a missing one does not.
            self.buckets.retain(|_, bucket| bucket.full_at > now);
        }
        let each = Duration::from_secs(1) / rate.per_second.max(1);
        let whole = each.saturating_mul(rate.burst.max(1));
        let bucket = self.buckets.entry(topic.clone()).or_insert(Bucket { full_at: now });
        let full_at = bucket.full_at.max(now) + each;
        match full_at.checked_sub(now + whole) {
            Some(wait) if !wait.is_zero() => Err(wait),
            _ => {
                bucket.full_at = full_at;
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burst_passes_and_then_the_rate_holds() {
        let mut rates = Rates::default();
        let topic = Topic::parse("a").unwrap();
        let rate = PublishRate { per_second: 10, burst: 3 };
        let at = Duration::from_millis;
        for _ in 0..3 {
            assert_eq!(rates.take(&topic, rate, at(0)), Ok(()));
        }
        assert_eq!(rates.take(&topic, rate, at(0)), Err(at(100)));
        assert_eq!(rates.take(&topic, rate, at(40)), Err(at(60)));
        assert_eq!(rates.take(&topic, rate, at(100)), Ok(()));
        assert_eq!(rates.take(&topic, rate, at(100)), Err(at(100)));
    }
}
