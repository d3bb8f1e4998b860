//! Limits of removals that every node is told of.

use std::time::Duration;

/// For how long nothing of a topic is remembered after something of it was removed: 30 s, longer than a read of the log
/// ([`STORE_DEADLINE`](super::STORE_DEADLINE)) or a frame of another node that began before may be under way. Reads go to the store meanwhile,
/// equal ones still as one.
pub const REMOVAL_DISTRUST: Duration = Duration::from_secs(30);

/// Topics of that kind: 4,096, less than 2 MiB. Where there are more, nothing at all is remembered for that long.
pub const REMOVAL_TOPICS_MAX: usize = 4096;

/// Removals that wait for those who keep something made of logs: 256. Whoever falls behind is told that anything may be gone.
pub const REMOVALS_TOLD_MAX: usize = 256;

/// How often a node looks for removals though nobody told it of one: every 800 ms, so that with the look itself nothing that was removed
/// is read from a node's memory after a second. Each look is one read of a short log.
pub const REMOVALS_INTERVAL: Duration = Duration::from_millis(800);

/// Removals that are read at once.
pub const REMOVALS_PAGE: u32 = 128;

/// How long removals are kept: an hour. A node that was cut off from the store for longer forgets everything that it remembers.
pub const REMOVALS_RETENTION: Duration = Duration::from_secs(3600);

/// How often removals past that are taken away.
pub const REMOVALS_TRIM_INTERVAL: Duration = Duration::from_secs(600);
