//! When a queue's task may call the store again.

use std::time::Duration;

use crate::chance;
use crate::limits::{QUEUE_CONTENTION_MAX, QUEUE_RETRY_MAX, QUEUE_RETRY_MIN};

/// How a task's last appends went.
///
/// Of nodes that write to the same log at once, one wins, and the others read what it wrote and try again. Each then waits for a random time that
/// grows with every conflict, the winner as well: otherwise it, which need not read, would win again and again. Alone, nobody waits.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// How contended the log is.
    level: u32,
    /// Failures in a row.
    n_failures: u32,
    /// Nothing before this time.
    pub(super) not_before: Duration,
}

impl Pace {
    /// An append was kept.
    pub(super) fn note_kept(&mut self, now: Duration) {
        self.n_failures = 0;
        self.not_before = now + pause(self.level);
        self.level = self.level.saturating_sub(1);
    }

    /// Another node's append came first.
    pub(super) fn note_conflict(&mut self, now: Duration) {
        self.n_failures = 0;
        self.level = (self.level + 1).min(QUEUE_CONTENTION_MAX);
        self.not_before = now + pause(self.level);
    }

    /// The store answered, and it was no append.
    pub(super) const fn note_answer(&mut self) {
        self.n_failures = 0;
    }

    /// The store did not do it.
    pub(super) fn note_failure(&mut self, now: Duration) {
        self.not_before = now + retry_pause(self.n_failures);
        self.n_failures = self.n_failures.saturating_add(1);
    }
}

/// The pause after so many failures in a row before this one.
pub(super) fn retry_pause(n_failures: u32) -> Duration {
    let longest = QUEUE_RETRY_MIN.saturating_mul(1 << n_failures.min(16)).min(QUEUE_RETRY_MAX);
    longest.mul_f64(chance::range(0.5..=1.0))
}

fn pause(level: u32) -> Duration {
    if level == 0 {
        return Duration::ZERO;
    }
    Duration::from_micros(chance::range(0..=1000_u64 << level))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_alone_never_waits_and_who_is_not_waits_longer_each_time() {
        let mut pace = Pace::default();
        let now = Duration::from_secs(1);
        pace.note_kept(now);
        assert_eq!(pace.not_before, now);
        for _ in 0..20 {
            pace.note_conflict(now);
        }
        assert!(pace.not_before <= now + Duration::from_millis(64));
        for _ in 0..=QUEUE_CONTENTION_MAX {
            pace.note_kept(now);
        }
        assert_eq!(pace.not_before, now, "others stopped");
    }
}
