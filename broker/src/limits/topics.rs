//! Limits of what administrators ask for.

use std::time::Duration;

/// Names that a list of topics looks at: about 8,192, some ten milliseconds. Then the answer says where to go on.
pub const ADMIN_NAMES_MAX: usize = 8192;

/// Topics whose last look is remembered to tell rates: 20,000, some 4 MiB. When full, all are forgotten, and rates are told again after the
/// next two looks.
pub const ADMIN_LOOKS_MAX: usize = 20_000;

/// The shortest time between two looks that a rate is made of: 1 s.
pub const ADMIN_RATE_INTERVAL_MIN: Duration = Duration::from_secs(1);

/// Messages that one search looks at: 10,000. Then the answer says where to go on.
pub const ADMIN_SEARCH_MESSAGES_MAX: u64 = 10_000;

/// How long one search looks: 1 s. Then the answer says where to go on.
pub const ADMIN_SEARCH_TIME_MAX: Duration = Duration::from_secs(1);

/// Messages that a search reads at once.
pub const ADMIN_SEARCH_PAGE: u32 = 256;

/// Bytes of messages in one answer: 8 MiB. The message that reaches it is the last one.
pub const ADMIN_TEXT_BYTES_MAX: usize = 8 << 20;

/// Messages that an export reads at once: 256, 1 MiB at most. The next are read when these were taken.
pub const ADMIN_EXPORT_PAGE: u32 = 256;

/// Messages of an import that are stored together: 512.
pub const ADMIN_IMPORT_BATCH_MAX: usize = 512;

/// Bytes of such messages: 1 MiB. The message that reaches it is the last one.
pub const ADMIN_IMPORT_BATCH_BYTES_MAX: usize = 1 << 20;

/// How long the ids of imported messages guard against second ones: a day, so that an import that was cut off can be begun again.
pub const ADMIN_IMPORT_WINDOW: Duration = Duration::from_secs(24 * 3600);

/// How long an import waits for more of its lines: 30 s. Then it ends.
pub const ADMIN_IMPORT_PATIENCE: Duration = Duration::from_secs(30);

/// How often an import tells how far it is: every second. More would fill the way back to a client that reads only when it has sent all.
pub const ADMIN_PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// Bytes of an answer of the admin API that the commands take: 16 MiB, twice what a page of messages has, for payloads in base64. A longer one
/// is an error.
pub const ADMIN_ANSWER_BYTES_MAX: usize = 16 << 20;
