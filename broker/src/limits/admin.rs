//! Limits of what administrators see and change.

use std::time::Duration;

/// Records of the audit log that are read at once: 64, some MiB at the very most.
pub const AUDIT_PAGE: u32 = 64;

/// Records that one question looks at for those that it wants: 10,000. The answer then ends early, and says where to go on.
pub const AUDIT_SCAN_MAX: usize = 10_000;

/// Bytes of what a record says besides who, what and why: 64 KiB as JSON. More is left out, and its size is said.
pub const AUDIT_DETAIL_BYTES_MAX: usize = 64 << 10;

/// How often records that are too old are taken away.
pub const AUDIT_TRIM_INTERVAL: Duration = Duration::from_secs(3600);

/// Logs that the preview of a policy looks at: 10,000, less than a second. The answer says that there may be more.
pub const PREVIEW_LOGS_MAX: usize = 10_000;

/// Logs that a change of policies looks at for topics with history that would lose it: a million. A change that may concern more is refused.
pub const KIND_CHECK_LOGS_MAX: usize = 1_000_000;

/// Keys of administrators: 1,000. Each request with a key is compared with all of them.
pub const KEYS_MAX: usize = 1000;

/// Bytes of a key's name: 64.
pub const KEY_NAME_BYTES_MAX: usize = 64;

/// How exact it is known when a key was used last: to a minute, so that using one does not write every time.
pub const KEY_USED_INTERVAL: Duration = Duration::from_secs(60);
