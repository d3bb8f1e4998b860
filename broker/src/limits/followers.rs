//! Limits of what follows logs on behalf of others: queues, events of sessions, webhooks.

use std::time::Duration;

/// Transactions of clients that the store has at the same time, each of four of the largest messages at most. Others wait.
pub const TRANSACTIONS_AT_ONCE_MAX: usize = 8;

/// Work queues that a node's clients consume at the same time, each some ten KiB. More are refused with `too_many`.
pub const QUEUES_MAX: usize = 50_000;

/// Messages that a queue hands to consumers before it does something else.
pub const QUEUE_DELIVERIES_PER_TURN_MAX: usize = 256;

/// Messages that a queue reads at once to hand them to consumers.
pub const QUEUE_PAGE: u32 = 128;

/// Messages of a queue's state log after which all but the newest go.
pub const QUEUE_STATES_KEPT: u64 = 64;

/// The pause of a queue's task before it tries again what the store did not do: 100 ms. It doubles up to [`QUEUE_RETRY_MAX`], and each is
/// shortened by up to a half at random.
pub const QUEUE_RETRY_MIN: Duration = Duration::from_millis(100);

/// The longest such pause: 2 s.
pub const QUEUE_RETRY_MAX: Duration = Duration::from_secs(2);

/// The longest pause of a queue's task between two appends to a state log that other nodes write to as well: 100 ms. What comes meanwhile
/// goes along with the next one.
pub const QUEUE_PAUSE_MAX: Duration = Duration::from_millis(100);

/// How long after another node's last append to a state log such pauses are made: 1 s.
pub const QUEUE_RIVAL_MEMORY: Duration = Duration::from_secs(1);

/// How long a dead letter's id guards against a second one, should the node that published it die before it could note that: 24 hours.
pub const DEAD_LETTER_WINDOW: Duration = Duration::from_secs(24 * 3600);

/// Bytes of news of its logs that wait for a queue's task: 256 KiB. More are read from the store.
pub const QUEUE_NEWS_BYTES_MAX: usize = 256 << 10;

/// Bytes of events of sessions that wait to be told: 8 MiB, some 20,000. Past it they are counted instead, which is told, and the sessions
/// that are open are told by their state. The end of a session whose beginning was taken is taken in any case.
pub const EVENT_BACKLOG_BYTES_MAX: usize = 8 << 20;

/// Events of sessions that are told in one transaction: 512, and [`EVENT_BATCH_BYTES`]. The others wait for the next one.
pub const EVENT_BATCH_MAX: usize = 512;

/// Bytes of events of sessions that are told in one transaction: 256 KiB.
pub const EVENT_BATCH_BYTES: usize = 256 << 10;

/// Topic filters in one event of a session: 64. What is subscribed to beyond is told in another one.
pub const EVENT_TOPICS_MAX: usize = 64;

/// Messages of a register of sessions that are read at once: 64, each of at most some 256 KiB.
pub const EVENT_REGISTER_PAGE: u32 = 64;

/// Bytes of a register of sessions after which a checkpoint is written: 512 KiB, or as much as the last checkpoint if that was more. So
/// checkpoints are at most half of what is written, and whoever reads a register reads little more than what is open.
pub const EVENT_CHECKPOINT_BYTES: usize = 512 << 10;

/// Bytes of one part of a checkpoint: 256 KiB.
pub const EVENT_PART_BYTES: usize = 256 << 10;

/// The pause before events of sessions are tried to be told again: 100 ms. It doubles up to [`EVENT_RETRY_MAX`].
pub const EVENT_RETRY_MIN: Duration = Duration::from_millis(100);

/// The longest pause before events of sessions are tried to be told again: 2 s.
pub const EVENT_RETRY_MAX: Duration = Duration::from_secs(2);

/// How much longer the id of an event keeps it from being told twice than the event itself is kept: 1 h. Whoever finds an event in a
/// register that may not have been told tells it, up to that age.
pub const EVENT_WINDOW_MARGIN: Duration = Duration::from_secs(3600);

/// Secrets of one webhook: 2, the new one and the one that it replaces.
pub const WEBHOOK_SECRETS_MAX: usize = 2;

/// How long what a webhook's secret file said holds: 10 s. So a new secret signs within that time.
pub const WEBHOOK_SECRETS_INTERVAL: Duration = Duration::from_secs(10);

/// How often a webhook asks the store which logs changed, and writes down how far it came: 250 ms.
pub const WEBHOOK_INTERVAL: Duration = Duration::from_millis(250);

/// How often a node looks whether it should deliver a webhook that another one delivers: 1 s.
pub const WEBHOOK_WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// How long a webhook's register may be silent before another node takes over: 5 s. The node that delivers writes three times as often.
pub const WEBHOOK_LEASE: Duration = Duration::from_secs(5);

/// Messages of one topic that a webhook delivers before another topic has its turn: 16. After a crash so many may be sent again.
pub const WEBHOOK_PAGE: u32 = 16;

/// Messages of a webhook's register that are read at once.
pub const WEBHOOK_REGISTER_PAGE: u32 = 64;

/// Bytes of a webhook's register after which all of it is written anew and what is before is removed: 512 KiB.
pub const WEBHOOK_CHECKPOINT_BYTES: usize = 512 << 10;

/// Topics that wait to be delivered by one webhook: 10,000. Of more it only knows that there are some, and finds them by listing logs.
pub const WEBHOOK_PENDING_MAX: usize = 10_000;

/// Milliseconds after which a message that was taken anywhere has been committed, and is found by asking which logs changed.
pub const WEBHOOK_FLOOR_MARGIN_MS: u64 = 30_000;

/// The pause before a webhook's second attempt: 1 s, shortened by up to a half at random. It doubles with each further one.
pub const WEBHOOK_RETRY_MIN: Duration = Duration::from_secs(1);

/// The longest `Retry-After` that a webhook waits for: 1 h.
pub const WEBHOOK_RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// How long a dead letter is not written twice: 1 h, far longer than any two nodes could be at the same message.
pub const WEBHOOK_DEAD_LETTER_WINDOW: Duration = Duration::from_secs(3600);

/// Attempts of a webhook that wait to be written down: 256. With more, the oldest are dropped.
pub const DELIVERIES_WAITING_MAX: usize = 256;

/// Messages with attempts that are kept of a webhook: 512, each with those of a quarter of a second. Older ones go.
pub const DELIVERIES_KEPT: u64 = 512;

/// Bytes of them: 4 MiB.
pub const DELIVERIES_BYTES_KEPT: u64 = 4 << 20;

/// Writes after which older ones go.
pub const DELIVERIES_TRIM_EVERY: u64 = 32;
