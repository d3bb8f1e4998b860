//! How fast something may happen: a token bucket that is one number.

use std::time::Duration;

use crate::config::PublishRate;

/// When the bucket would be full again, had nothing more been taken: that says how much is in it. A new one is full.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Pace {
    full_at: Duration,
}

impl Pace {
    /// Takes one, or says how long to wait for it; `now` is on the monotonic clock.
    pub(crate) fn take(&mut self, rate: PublishRate, now: Duration) -> Result<(), Duration> {
        let each = Duration::from_secs(1) / rate.per_second.max(1);
        let whole = each.saturating_mul(rate.burst.max(1));
        let full_at = self.full_at.max(now) + each;
        match full_at.checked_sub(now + whole) {
            Some(wait) if !wait.is_zero() => Err(wait),
            _ => {
                self.full_at = full_at;
                Ok(())
            }
        }
    }

    /// Takes so much of what there is a second's worth of at once, at most. What is more than that passes when nothing else was taken for as
    /// long as it takes itself.
    pub(crate) fn take_amount(
        &mut self,
        amount: u64,
        per_second: u64,
        now: Duration,
    ) -> Result<(), Duration> {
        let nanoseconds = u128::from(amount) * 1_000_000_000 / u128::from(per_second.max(1));
        let cost = Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
        let whole = cost.max(Duration::from_secs(1));
        let full_at = self.full_at.max(now).saturating_add(cost);
        match full_at.checked_sub(now + whole) {
            Some(wait) if !wait.is_zero() => Err(wait),
            _ => {
                self.full_at = full_at;
                Ok(())
            }
        }
    }

    /// Whether it is full: then it says nothing that a new one does not.
    pub(crate) fn is_full(&self, now: Duration) -> bool {
        self.full_at <= now
    }
}
