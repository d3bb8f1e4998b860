//! How large a run is.

use std::time::Duration;

use crate::trace::Keep;

/// What the clocks show when a run begins, in milliseconds since 1970.
pub(crate) const WALL_MS: u64 = 1_800_000_000_000;

/// How large a run is, and what decides everything in it.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Decides everything that is left to chance.
    pub seed: u64,
    /// Nodes of the cluster.
    pub nodes: usize,
    /// Clients that read.
    pub readers: usize,
    /// Clients that publish.
    pub publishers: usize,
    /// How often chaos and calm follow one another.
    pub rounds: u32,
    /// How long each chaos lasts.
    pub chaos: Duration,
    /// How long each silence lasts, in which what the nodes ask of the store is counted.
    pub silence: Duration,
    /// Which lines of the trace to keep.
    pub keep: Keep,
}

impl Plan {
    /// A cluster of three nodes, in chaos for half a minute, twice.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self {
            seed,
            nodes: 3,
            readers: 8,
            publishers: 3,
            rounds: 2,
            chaos: Duration::from_secs(30),
            silence: Duration::from_secs(60),
            keep: Keep::Last(2000),
        }
    }
}
