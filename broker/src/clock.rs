//! The only place that reads the time.
//!
//! It is tokio's time, so that whoever stops a runtime's clock stops this one, too.

use std::cell::Cell;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bongsu_protocol::message::Time;
use tokio::time::Instant;

/// When this process first looked at the clock.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

thread_local! {
    static SIMULATED: Cell<Option<Simulated>> = const { Cell::new(None) };
}

/// The clocks of a process that is simulated by the thread that runs it.
#[derive(Debug, Clone, Copy)]
pub struct Simulated {
    /// When the process began, on the clock of its runtime.
    pub start: Instant,
    /// What the operating system believed then.
    pub wall: Time,
}

/// Lets the clocks of this thread be those of a simulated process until the next call; `None` is the real one. For simulations,
/// which run several processes in one thread: to be called before each of them goes on.
pub fn simulate(clocks: Option<Simulated>) {
    SIMULATED.set(clocks);
}

/// The time since this process began: never goes back. For pauses and deadlines.
#[must_use]
pub fn monotonic() -> Duration {
    Instant::now().saturating_duration_since(start())
}

/// Milliseconds since 1970, as the operating system believes. For messages; the store keeps it from going back within a log.
#[must_use]
pub fn wall() -> Time {
    if let Some(Simulated { wall, .. }) = SIMULATED.get() {
        return Time(wall.0 + milliseconds(monotonic()));
    }
    Time(milliseconds(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()))
}

/// Nanoseconds since 1970, as the operating system believes. For telemetry, which is compared with that of other machines.
#[must_use]
pub fn wall_nanos() -> u64 {
    let since = match SIMULATED.get() {
        Some(Simulated { wall, .. }) => Duration::from_millis(wall.0) + monotonic(),
        None => SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
    };
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// The [`Instant`] of a time that [`monotonic`] gave or will give.
#[must_use]
pub fn instant(at: Duration) -> Instant {
    start() + at
}

fn start() -> Instant {
    SIMULATED.get().map_or_else(|| *START, |simulated| simulated.start)
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
