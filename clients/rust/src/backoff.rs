//! How long to wait before the next attempt to connect. Pure: randomness is an argument.

use std::time::Duration;

use bongsu_protocol::reason::Reconnect;

use crate::limits::RECONNECT_NOW_SPREAD;

/// Growing, jittered pauses.
///
/// Half of each pause is fixed and half random: a fleet that lost its broker at one moment comes back spread over time, and no
/// client hammers.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    min: Duration,
    max: Duration,
    /// Attempts in a row that led to no connection of any length.
    n_failures: u32,
}

impl Backoff {
    pub(crate) const fn new(min: Duration, max: Duration) -> Self {
        Self { min, max, n_failures: 0 }
    }

    /// A connection was proven to work.
    pub(crate) const fn reset(&mut self) {
        self.n_failures = 0;
    }

    /// The pause before the next attempt; `None`: there is none. `random` is in 0..1, `at_least` what the broker asked for.
    pub(crate) fn pause(
        &mut self,
        reconnect: Reconnect,
        at_least: Option<Duration>,
        random: f64,
    ) -> Option<Duration> {
        let full = self.min.saturating_mul(1 << self.n_failures.min(20)).min(self.max);
        let pause = match reconnect {
            Reconnect::Never => return None,
            // Only the first time: a node that keeps saying "at once" is backed off from.
            Reconnect::Now if self.n_failures == 0 => RECONNECT_NOW_SPREAD.mul_f64(random),
            Reconnect::Now | Reconnect::Backoff => full.mul_f64(0.5 + random / 2.0),
        };
        self.n_failures = self.n_failures.saturating_add(1);
        // What the broker asked for is a lower bound, and all of its clients got the same: spread them.
        Some(at_least.map_or(pause, |at_least| at_least + pause.min(RECONNECT_NOW_SPREAD)).max(pause))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN: Duration = Duration::from_millis(100);
    const MAX: Duration = Duration::from_secs(10);

    #[test]
    fn pauses_double_up_to_the_longest_and_start_over_after_a_connection() {
        let mut backoff = Backoff::new(MIN, MAX);
        let mut pause = || backoff.pause(Reconnect::Backoff, None, 1.0).unwrap().as_millis();
        let pauses: Vec<_> = (0..9).map(|_| pause()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        backoff.reset();
        assert_eq!(backoff.pause(Reconnect::Backoff, None, 1.0), Some(MIN));
    }

    #[test]
    fn half_of_a_pause_is_random() {
        assert_eq!(Backoff::new(MIN, MAX).pause(Reconnect::Backoff, None, 0.0), Some(MIN / 2));
    }

    #[test]
    fn at_once_is_spread_over_a_second_and_holds_only_once() {
        let mut backoff = Backoff::new(MIN, MAX);
        assert_eq!(backoff.pause(Reconnect::Now, None, 0.25), Some(Duration::from_millis(250)));
        assert_eq!(backoff.pause(Reconnect::Now, None, 1.0), Some(MIN * 2));
    }

    #[test]
    fn what_the_broker_asks_for_is_kept_and_spread() {
        let mut backoff = Backoff::new(MIN, MAX);
        let asked = Some(Duration::from_secs(60));
        assert_eq!(backoff.pause(Reconnect::Now, asked, 0.5), Some(Duration::from_millis(60_500)));
    }

    #[test]
    fn never_is_never() {
        assert_eq!(Backoff::new(MIN, MAX).pause(Reconnect::Never, Some(MIN), 0.5), None);
    }

    #[test]
    fn a_million_failures_do_not_overflow() {
        let mut backoff = Backoff::new(MIN, MAX);
        backoff.n_failures = u32::MAX;
        assert_eq!(backoff.pause(Reconnect::Backoff, None, 1.0), Some(MAX));
    }
}
