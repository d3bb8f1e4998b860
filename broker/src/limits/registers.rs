//! Limits of the broker's own documents.

use std::time::Duration;

/// Bytes of a register's document as JSON: 1 MiB, some thousand entries. It is written and read as a whole. A change that makes it larger is
/// refused.
pub const REGISTER_BYTES_MAX: usize = 1 << 20;

/// Versions of a register that are kept: 1,000. Older ones go with one of the next [`REGISTER_TRIM_EVERY`] changes.
pub const REGISTER_VERSIONS_KEPT: u64 = 1000;

/// Changes after which older versions go: 16.
pub const REGISTER_TRIM_EVERY: u64 = 16;

/// Bytes of a register's versions that are kept: 64 MiB. Older ones go then too, the newest never.
pub const REGISTER_VERSIONS_BYTES_KEPT: u64 = 64 << 20;

/// Bytes of the name of a policy: 64.
pub const POLICY_NAME_BYTES_MAX: usize = 64;

/// Levels of objects and lists in a policy: 4, more than any setting of one has. A deeper one is refused before it is looked at.
pub const POLICY_DEPTH_MAX: usize = 4;

/// Registers that a node looks at: 1,000. There are as many as stand in the code, fewer than ten.
pub const REGISTERS_MAX: usize = 1000;

/// How often a node looks for other versions of registers though nobody told it of any: every 800 ms, so that with the look itself a
/// change holds everywhere within a second. One look lists the newest versions of all registers.
pub const REGISTER_INTERVAL: Duration = Duration::from_millis(800);

/// How often a change is tried again where another node was faster each time. After that it is refused; each round somebody's succeeds.
pub const REGISTER_ATTEMPTS_MAX: usize = 64;

/// Milliseconds of the longest pause before such a try: 10, at random, so that nodes do not stay in step.
pub const REGISTER_PAUSE_MAX_MS: u64 = 10;

/// Versions that a node looks back for one that it can read: 64. Only one that starts among nodes of a later version has to.
pub const REGISTER_LOOK_BACK_MAX: usize = 64;

/// Versions that are read at once to list them: 16, some 16 MiB at the very most.
pub const REGISTER_PAGE: u32 = 16;
