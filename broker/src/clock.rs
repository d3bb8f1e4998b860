//! The only place that reads the time.

use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bongsu_protocol::message::Time;

/// When this process first looked at the clock.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The time since this process began: never goes back. For pauses and deadlines.
#[must_use]
pub fn monotonic() -> Duration {
    START.elapsed()
}

/// Milliseconds since 1970, as the operating system believes. For messages; the store keeps it from going back within a log.
#[must_use]
pub fn wall() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// The [`Instant`] of a time that [`monotonic`] gave or will give.
#[must_use]
pub fn instant(at: Duration) -> tokio::time::Instant {
    tokio::time::Instant::from_std(*START + at)
}
