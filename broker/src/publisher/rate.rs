//! How fast each topic may be published to: one token bucket per topic that has a rate.

use std::collections::HashMap;
use std::time::Duration;

use bongsu_protocol::topic::Topic;

use crate::config::PublishRate;
use crate::limits::RATED_TOPICS_MAX;
use crate::pace::Pace;

#[derive(Debug, Default)]
pub(super) struct Rates {
    paces: HashMap<Topic, Pace>,
}

impl Rates {
    /// Takes one message's worth, or says how long to wait for it.
    pub(super) fn take(&mut self, topic: &Topic, rate: PublishRate, now: Duration) -> Result<(), Duration> {
        if self.paces.len() >= RATED_TOPICS_MAX {
            self.paces.retain(|_, pace| !pace.is_full(now));
        }
        self.paces.entry(topic.clone()).or_default().take(rate, now)
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
