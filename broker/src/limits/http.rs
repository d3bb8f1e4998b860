//! Limits of plain HTTP and of SockJS.

use std::time::Duration;

/// Topics of one poll: 256. More are refused with 400; they are for several polls, or an event stream.
pub const POLL_TOPICS_MAX: usize = 256;

/// Seconds between two polls that do not wait, as clients are told: a topic whose reader wants to know sooner is for a long poll.
pub const POLL_INTERVAL_SECONDS: u64 = 5;

/// Idempotent producers of one stream that are remembered. More make those forgotten that were silent for longest, which
/// count as new when they come again. They are part of a register's message: 512 of some hundred bytes stay far below its limit.
pub const STREAM_PRODUCERS_MAX: usize = 512;

/// Streams that a node knows by heart at the same time. More are refused with 503 until others were not asked for in a while.
pub const STREAMS_MAX: usize = 50_000;

/// How long a stream stays known by heart after it was last asked for.
pub const STREAM_LINGER: Duration = Duration::from_secs(30);

/// Bytes of one request's body: 8 MiB. A longer one is refused with 413.
pub const HTTP_BODY_BYTES_MAX: usize = 8 << 20;

/// Bytes of a body that is too long which are received all the same, and thrown away, so that its client reads the refusal instead
/// of a reset: 32 MiB. Past it the connection is closed.
pub const HTTP_BODY_DISCARDED_BYTES_MAX: usize = 32 << 20;

/// KiB of bodies that are received at the same time on one node: 64 MiB. More wait.
pub const HTTP_BODIES_KIB_MAX: usize = 64 << 10;

/// How long a request's body may take. Then the request is refused with 408.
pub const HTTP_BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// Bytes of messages in one answer of a stream, from which on no further message is added: 1 MiB.
pub const STREAM_CHUNK_BYTES: usize = 1 << 20;

/// Answers of streams that are kept for others who ask for the same: 64, so 128 MiB at the very most and a few KiB as a rule.
pub const STREAM_CHUNKS_MAX: usize = 64;

/// Messages of a stream after which what they say of their writers is written down, so that whoever comes later need not read
/// them all.
pub const STREAM_CHECKPOINT_MESSAGES: u64 = 1024;

/// How often an append is tried again because other writers came before it. Then it is refused with 503.
pub const STREAM_APPEND_TRIES: usize = 64;

/// Forks of one stream. More are refused with 409.
pub const STREAM_FORKS_MAX: usize = 1000;

/// How deep forks of forks go. Deeper ones are refused with 400.
pub const STREAM_FORK_DEPTH_MAX: usize = 16;

/// How long a stream's event source lasts. The protocol recommends a minute, so that new readers meet at a cache.
pub const STREAM_SSE_LIFETIME: Duration = Duration::from_secs(60);

/// How often a silent event source sends a comment, so that nobody on the way takes it for dead.
pub const EVENT_SOURCE_HEARTBEAT: Duration = Duration::from_secs(15);

/// How often streams that ended by time are looked for and removed.
pub const STREAM_REAP_INTERVAL: Duration = Duration::from_secs(60);

/// How long the maker of a stream may take for its first messages. Past it, somebody else may begin anew.
pub const STREAM_CREATE_PATIENCE: Duration = Duration::from_secs(60);

/// Milliseconds after which an event source connects again, at least; at most twice as many.
pub const EVENT_SOURCE_RETRY_MS: u64 = 1000;

/// Milliseconds after which an event source that a node had no room for comes back, at least; at most twice as many. Long: that a
/// node is full is seldom over in a second.
pub const EVENT_SOURCE_BUSY_RETRY_MS: u64 = 5000;

/// Events that are made for one reader before its socket is asked: 64.
pub const EVENTS_PER_TURN_MAX: usize = 64;

/// Milliseconds after which a message that was taken anywhere has reached every reader that is at the head: its commit
/// ([`STORE_DEADLINE`](super::STORE_DEADLINE)), the next question to the store which logs changed ([`CHANGES_INTERVAL`](super::CHANGES_INTERVAL)), clocks that are apart, and as much again.
pub const EVENT_SOURCE_CHECKPOINT_MARGIN_MS: u64 = 30_000;

/// Streamed and waiting requests of self-tests that a node answers at the same time: 64. More are answered with 503.
pub const SELFTESTS_MAX: usize = 64;

/// How long a self-test may want to be kept waiting: 2 min, longer than any proxy's usual patience.
pub const SELFTEST_WAIT_MAX: Duration = Duration::from_secs(120);

/// How long a request waits whose messages a SockJS session does not take yet: 10 s. Then it is answered with 503.
pub const SOCKJS_SEND_PATIENCE: Duration = Duration::from_secs(10);

/// How long a request waits that brings messages for a session which is not known yet: 100 ms. The request that begins it came just before,
/// perhaps to another node.
pub const SOCKJS_OWNER_PATIENCE: Duration = Duration::from_millis(100);

/// Bytes of the name of a SockJS session; clients make them of 8 characters, Spring of 32. A longer one is answered with 404.
pub const SOCKJS_NAME_BYTES_MAX: usize = 128;

/// Bytes of a `JSESSIONID` cookie that is sent back. A longer one is answered with a new one.
pub const SOCKJS_COOKIE_BYTES_MAX: usize = 256;
