//! When a queue's task may call the store again.

use std::time::Duration;

use crate::chance;
use crate::limits::{QUEUE_PAUSE_MAX, QUEUE_RETRY_MAX, QUEUE_RETRY_MIN, QUEUE_RIVAL_MEMORY};

/// How a task's last appends went.
///
/// Of nodes that write to the same log at once one wins, and the others read what it wrote before they try again. Who won has no need to read,
/// and would win again and again. So while others write as well, each pauses after each append, for a random time that grows with the time
/// that appends take and with the number of nodes; who was refused pauses half as long. Alone, nobody pauses.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// When another node's append was last noticed.
    rival_at: Option<Duration>,
    /// What an append takes, roughly.
    append_takes: Duration,
    /// Failures in a row.
    n_failures: u32,
    /// Nothing before this time.
    pub(super) not_before: Duration,
}

impl Pace {
    /// An append was kept, and took so long. `n_others`: nodes that hold messages of the queue, too.
    pub(super) fn note_kept(&mut self, now: Duration, took: Duration, n_others: usize) {
        self.note_append(took);
        let has_rivals = self.rival_at.is_some_and(|at| now.saturating_sub(at) < QUEUE_RIVAL_MEMORY);
        self.not_before = now + if has_rivals { self.pause(2, n_others) } else { Duration::ZERO };
    }

    /// Another node's append came first.
    pub(super) fn note_conflict(&mut self, now: Duration, took: Duration, n_others: usize) {
        self.note_append(took);
        self.rival_at = Some(now);
        self.not_before = now + self.pause(1, n_others);
    }

    /// Another node appended something.
    pub(super) const fn note_rival(&mut self, now: Duration) {
        self.rival_at = Some(now);
    }

    /// The store answered a read.
    pub(super) const fn note_answer(&mut self) {
        self.n_failures = 0;
    }

    /// The store did not do it.
    pub(super) fn note_failure(&mut self, now: Duration) {
        self.not_before = now + retry_pause(self.n_failures);
        self.n_failures = self.n_failures.saturating_add(1);
    }

    fn note_append(&mut self, took: Duration) {
        self.n_failures = 0;
        self.append_takes = (self.append_takes * 3 + took) / 4;
    }

    /// A random time of up to so many appends for each of the others.
    fn pause(&self, n_appends: u32, n_others: usize) -> Duration {
        let n_others = u32::try_from(n_others).unwrap_or(u32::MAX).max(1);
        let longest = self.append_takes.saturating_mul(n_appends.saturating_mul(n_others));
        longest.min(QUEUE_PAUSE_MAX).mul_f64(chance::range(0.0..=1.0))
    }
}

/// The pause after so many failures in a row before this one.
pub(super) fn retry_pause(n_failures: u32) -> Duration {
    let longest = QUEUE_RETRY_MIN.saturating_mul(1 << n_failures.min(16)).min(QUEUE_RETRY_MAX);
    longest.mul_f64(chance::range(0.5..=1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_alone_never_waits_and_who_is_not_waits_also_after_it_won() {
        let (mut pace, took) = (Pace::default(), Duration::from_millis(8));
        let now = Duration::from_secs(10);
        pace.note_kept(now, took, 3);
        assert_eq!(pace.not_before, now);
        pace.note_rival(now);
        let pauses = (0..50).map(|_| {
            pace.note_kept(now, took, 3);
            pace.not_before - now
        });
        let longest = pauses.max().expect("some");
        assert!(longest > took && longest <= QUEUE_PAUSE_MAX, "{longest:?}");
        pace.note_kept(now + QUEUE_RIVAL_MEMORY, took, 3);
        assert_eq!(pace.not_before, now + QUEUE_RIVAL_MEMORY, "others stopped");
    }
}
