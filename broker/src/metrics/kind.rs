//! What a metric can be: a number that grows, a level, or how often which sizes occurred. All are atomics, and none has a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A number that only grows. A level that moves fast is two of them: what came and what went.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub(super) const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Counts.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// What was counted.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A level that somebody looks at now and then: it is set where it is read, right before.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    pub(super) const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Says how it stands.
    pub fn set(&self, level: u64) {
        self.0.store(level, Ordering::Relaxed);
    }

    /// How it stood when somebody last looked.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Buckets of a histogram, the last of which has no bound.
const N_BUCKETS: usize = 17;

/// What a histogram counts in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Times: kept in nanoseconds, shown in seconds. Bounds from 100 µs to 10 s, three to a factor of ten, so that a percentile
    /// that is read from them is off by a factor of 2.5 at most.
    Seconds,
    /// Things in one batch. Bounds from 1 to 32,768, each twice the one before.
    Count,
}

const MICROSECOND: u64 = 1000;
const MILLISECOND: u64 = 1000 * MICROSECOND;
const SECOND: u64 = 1000 * MILLISECOND;

/// In nanoseconds.
const TIMES: [u64; N_BUCKETS - 1] = [
    100 * MICROSECOND,
    250 * MICROSECOND,
    500 * MICROSECOND,
    MILLISECOND,
    2_500 * MICROSECOND,
    5 * MILLISECOND,
    10 * MILLISECOND,
    25 * MILLISECOND,
    50 * MILLISECOND,
    100 * MILLISECOND,
    250 * MILLISECOND,
    500 * MILLISECOND,
    SECOND,
    2_500 * MILLISECOND,
    5 * SECOND,
    10 * SECOND,
];

const SIZES: [u64; N_BUCKETS - 1] =
    [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16_384, 32_768];

impl Unit {
    /// Upper bounds of the buckets but the last, in what is kept.
    #[must_use]
    pub const fn bounds(self) -> &'static [u64; N_BUCKETS - 1] {
        match self {
            Self::Seconds => &TIMES,
            Self::Count => &SIZES,
        }
    }

    /// An amount as it is shown.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "what is shown is an estimate from 2^53 on")]
    pub fn shown(self, amount: u64) -> f64 {
        match self {
            Self::Seconds => amount as f64 / SECOND as f64,
            Self::Count => amount as f64,
        }
    }
}

/// How often which sizes occurred. Recording costs a search among 16 bounds and two relaxed additions.
#[derive(Debug)]
pub struct Histogram {
    unit: Unit,
    buckets: [AtomicU64; N_BUCKETS],
    sum: AtomicU64,
}

impl Histogram {
    pub(super) const fn new(unit: Unit) -> Self {
        Self { unit, buckets: [const { AtomicU64::new(0) }; N_BUCKETS], sum: AtomicU64::new(0) }
    }

    /// Records how long something took. Only for histograms of [`Unit::Seconds`].
    pub fn record_time(&self, took: Duration) {
        debug_assert_eq!(self.unit, Unit::Seconds, "this histogram counts times");
        self.record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Records how many there were. Only for histograms of [`Unit::Count`].
    pub fn record_count(&self, n: usize) {
        debug_assert_eq!(self.unit, Unit::Count, "this histogram counts things");
        self.record(n as u64);
    }

    fn record(&self, amount: u64) {
        let place = self.unit.bounds().partition_point(|bound| *bound < amount);
        self.buckets[place].fetch_add(1, Ordering::Relaxed);
        // Wraps after 584 years of waiting, which many connections may reach together; readers take that for a restart.
        self.sum.fetch_add(amount, Ordering::Relaxed);
    }

    /// What was recorded. Buckets and sum are read one after the other, so that under load they may differ by what came in between.
    #[must_use]
    pub fn get(&self) -> Recorded {
        Recorded {
            unit: self.unit,
            buckets: self.buckets.each_ref().map(|bucket| bucket.load(Ordering::Relaxed)),
            sum: self.sum.load(Ordering::Relaxed),
        }
    }
}

/// What a histogram has recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// What it counts in.
    pub unit: Unit,
    /// How often each bucket was met; not cumulated.
    pub buckets: [u64; N_BUCKETS],
    /// Of all that was recorded.
    pub sum: u64,
}

impl Recorded {
    /// How much was recorded.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_falls_into_the_first_bucket_that_is_not_below_it() {
        let histogram = Histogram::new(Unit::Seconds);
        for micros in [0, 100, 101, 10_000_000, 10_000_001] {
            histogram.record_time(Duration::from_micros(micros));
        }
        let recorded = histogram.get();
        assert_eq!((recorded.buckets[0], recorded.buckets[1]), (2, 1));
        assert_eq!((recorded.buckets[N_BUCKETS - 2], recorded.buckets[N_BUCKETS - 1]), (1, 1));
        assert_eq!(recorded.count(), 5);
        assert_eq!(recorded.sum, 20_000_202_000);
    }

    #[test]
    fn bounds_grow() {
        for unit in [Unit::Seconds, Unit::Count] {
            assert!(unit.bounds().is_sorted_by(|one, next| one < next), "{unit:?}");
        }
    }
}
