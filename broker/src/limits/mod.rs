//! The broker's limits that cannot be configured, each with its unit, its reason and what happens when it is reached.
//!
//! What an operator may choose stands in [`config::settings`](crate::config::settings) with its default and its bounds,
//! and never goes past `bongsu_protocol::limits`, which hold for every peer.

mod access;
mod admin;
mod auth;
mod followers;
mod http;
mod peers;
mod registers;
mod removals;
mod topics;

use std::time::Duration;

pub use access::*;
pub use admin::*;
pub use auth::*;
pub use followers::*;
pub use http::*;
pub use peers::*;
pub use registers::*;
pub use removals::*;
pub use topics::*;

/// Bytes of a configuration file: 1 MiB, some thousand policies. A larger file is refused at start: it is not a
/// configuration, and reading it whole must not cost memory without end (`/dev/zero` is a file too).
pub const CONFIG_FILE_BYTES_MAX: u64 = 1 << 20;

/// Entries of a list in the settings (policies, tokens, filters of one token). Each new topic walks the policies and
/// each handshake the tokens, so both walks stay short. More are refused at start.
pub const LIST_ENTRIES_MAX: usize = 1024;

/// Bytes that one read of a socket takes at most: 64 KiB, one buffer per thread, shared by all of its connections.
pub const READ_BUFFER_BYTES: usize = 64 << 10;

/// Frames that one system call writes at most: 64. Measured equal to one contiguous buffer, and far below `IOV_MAX`.
pub const FRAMES_PER_WRITE_MAX: usize = 64;

/// Messages of one topic that a connection is offered before its socket is written: as many as one write carries.
pub const MESSAGES_PER_RUN_MAX: usize = FRAMES_PER_WRITE_MAX;

/// Sockets that a shard writes before it lets others of its core work: 1,024, some milliseconds at the most.
pub const FLUSHES_PER_TURN_MAX: usize = 1024;

/// Commands that wait for a shard, each a batch of the appender at most. Full: whoever publishes or watches waits.
pub const SHARD_COMMANDS_MAX: usize = 256;

/// Topics of one shard, before those that only patterns need are forgotten. Their next message makes them again.
pub const SHARD_IDLE_TOPICS_MAX: usize = 100_000;

/// Milliseconds by which the time that a subscription is told to resume from lies back: longer than any message is under way
/// between being given its time and being offered, which [`STORE_DEADLINE`] bounds.
pub const SINCE_MARGIN_MS: u64 = 10_000;

/// How long one call to the store may take: 10 s. Past it, publishers and readers are told `unavailable`.
pub const STORE_DEADLINE: Duration = Duration::from_secs(10);

/// How often the outbox of messages that are published in SQL is looked into, where no notification comes: 250 ms. A look that finds
/// nothing is one round trip.
pub const OUTBOX_POLL_INTERVAL: Duration = Duration::from_millis(250);

/// Looks into the outbox between two attempts to listen to the database: 20, which are 5 s.
pub const OUTBOX_LISTEN_RETRY_TICKS: u32 = 20;

/// Messages that leave the outbox in one transaction: 1,024, some 10 ms. The others wait for the next one.
pub const OUTBOX_BATCH_MAX: usize = 1024;

/// Milliseconds that a client is asked to wait after `unavailable`.
pub const UNAVAILABLE_RETRY_MS: u64 = 1000;

/// Messages that wait for the live lane. Full: their publishers wait.
pub const LIVE_LANE_MESSAGES_MAX: usize = 4096;

/// KiB of messages that wait for the live lane: 16 MiB. Full: their publishers wait.
pub const LIVE_LANE_KIB_MAX: usize = 16 << 10;

/// Messages that the live lane hands to the hub at once.
pub const LIVE_BATCH_MAX: usize = 256;

/// Topics whose publish rate is remembered, before those that are at rest are forgotten.
pub const RATED_TOPICS_MAX: usize = 100_000;

/// Commands that wait for the presence task. Full: the connection that asks waits.
pub const PRESENCE_COMMANDS_MAX: usize = 1024;

/// Topics that one session is present on. More are refused with `too_many`.
pub const PRESENT_TOPICS_MAX: usize = 256;

/// Memberships that a node writes to the cluster's registry in one step: 128, at most some 170 KiB. Others wait for the next one.
pub const PRESENCE_BATCH_MAX: usize = 128;

/// Answers to who is present that a node has under way, each of at most some 1.3 MiB. Other topics wait.
pub const MEMBERS_READS_MAX: usize = 16;

/// How long the other side may take to answer a close frame. Then the socket is closed as it is.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a STOMP client may take to send its first frame: 10 s, as RabbitMQ has it. Then it gets an ERROR frame and is closed.
pub const STOMP_LOGIN_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a STOMP client that said DISCONNECT may take to close. Then the broker does.
pub const STOMP_LINGER: Duration = Duration::from_secs(2);

/// How long a bare TCP connection may be silent before the kernel asks the other side whether it is there: 60 s. It asks four times a
/// minute, and gives up where Linux does by default, after nine questions.
pub const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);

/// How long a TLS handshake or an upgrade may take. Then the socket is closed.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of a header of the PROXY protocol: 4 KiB. Addresses take 52, and a proxy's further fields, a TLS certificate's name among them, some
/// hundred. A connection with a longer one is closed.
pub const PROXY_HEADER_BYTES_MAX: usize = 4 << 10;

/// How long a trusted proxy may take for that header: 5 s. It sends it at once; HAProxy itself waits for 3 s. Then the connection is closed.
pub const PROXY_HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// Connections that the kernel holds until they are accepted: what Linux allows by default (`net.core.somaxconn`).
pub const LISTEN_BACKLOG: i32 = 4096;

/// The pause between two looks at the files of a TLS certificate: 2 s. A look reads some KiB from the kernel's memory.
pub const TLS_LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// Bytes of a file with a TLS certificate or its key: 1 MiB, far more than any chain. A longer one is refused.
pub const TLS_FILE_BYTES_MAX: u64 = 1 << 20;

/// Addresses and users whose rates a node remembers, some 150 bytes each: 100,000. Those that find no room are not paced.
pub const QUOTA_ENTRIES_MAX: usize = 100_000;

/// The pause between two looks for addresses and users that are at rest, where there is no room for more: 1 s. A look takes milliseconds.
pub const QUOTA_PRUNE_PAUSE: Duration = Duration::from_secs(1);

/// How long a client is asked to wait whose address or user has as many connections as it may have: 5 s. That is seldom over in one.
pub const QUOTA_RETRY: Duration = Duration::from_secs(5);

/// Bytes of an HTTP request's header: hyper's buffer for it. A longer one is answered with 431.
pub const HTTP_HEADER_BYTES_MAX: usize = 32 << 10;

/// Seconds that a client is asked to wait after it was turned away.
pub const TURNED_AWAY_RETRY_SECONDS: &str = "1";

/// Connections without a place that are told so at the same time: 256, some 10 MiB. More are closed without a byte.
pub const TURNED_AWAY_AT_ONCE_MAX: usize = 256;

/// How long a connection without a place has for its handshake and its request: 5 s. Then it is closed.
pub const TURNED_AWAY_TIME: Duration = Duration::from_secs(5);

/// Bytes that are read of a connection while a request of it waits: 4 KiB, some pipelined requests. More stay in the kernel.
pub const PARKED_AHEAD_BYTES_MAX: usize = 4 << 10;

/// Frames that wait in the inbox of the bus: 65,536, a second of what one node takes at its best. Full: frames are dropped and
/// an interruption takes their place, which costs the reader one query of the store.
pub const BUS_INBOX_FRAMES_MAX: usize = 65_536;

/// Bytes of frames that wait in the inbox of the bus: 32 MiB. Full: as [`BUS_INBOX_FRAMES_MAX`].
pub const BUS_INBOX_BYTES_MAX: usize = 32 << 20;

/// Bytes of frames that are on their way to one Redis: 16 MiB. Full: a publish on the bus is refused, and other nodes repair
/// from the store.
pub const BUS_PUBLISH_BYTES_MAX: usize = 16 << 20;

/// Calls that wait for the answer of one Redis: 1,024. More are refused as full; each would keep its place in a row of commands,
/// which must not have to wait, or their order would be lost.
pub const REDIS_CALLS_MAX: usize = 1024;

/// Channels that one command subscribes to or unsubscribes from: 512. Some ten KiB, so that Redis serves others between two.
pub const BUS_SUBSCRIBE_BATCH_MAX: usize = 512;

/// How long Redis may take to answer a command, and to confirm a subscription: 2 s. Past it the caller is told `unavailable`.
pub const REDIS_DEADLINE: Duration = Duration::from_secs(2);

/// How long connecting to Redis may take, from the name's look-up to the greeting: 3 s. Then it is tried again.
pub const REDIS_CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// The pause between two probes of a Redis: 250 ms. A probe is some hundred bytes there and back.
pub const BUS_PROBE_INTERVAL: Duration = Duration::from_millis(250);

/// The age at which a probe that did not come back makes the bus degraded: 500 ms. Nodes ask the store meanwhile, so that a
/// silent Redis delays nobody by more than a second.
pub const BUS_PROBE_LATE: Duration = Duration::from_millis(500);

/// The age at which a probe that did not come back ends the connection: 2 s. Longer than the pauses of a server that is busy.
pub const BUS_PROBE_DEADLINE: Duration = Duration::from_secs(2);

/// The pause before the first attempt to connect to Redis again: 50 ms. It doubles up to [`REDIS_RETRY_MAX`], and each is shortened
/// by up to a half at random, so that nodes do not all come back at once.
pub const REDIS_RETRY_MIN: Duration = Duration::from_millis(50);

/// The longest pause before an attempt to connect to Redis again: 2 s.
pub const REDIS_RETRY_MAX: Duration = Duration::from_secs(2);

/// The pause between two looks at a Redis' role: 1 s. A master that became a replica hears no publish of the new master's.
pub const REDIS_ROLE_INTERVAL: Duration = Duration::from_secs(1);

/// The pause between two rounds of questions to sentinels: 1 s.
pub const REDIS_SENTINEL_INTERVAL: Duration = Duration::from_secs(1);

/// How long a sentinel may take to answer, connecting included: 1 s. Others know as well.
pub const REDIS_SENTINEL_DEADLINE: Duration = Duration::from_secs(1);

/// The pause between two looks at a Redis Cluster's map while all is well: 5 s. Changes show earlier, by what servers push and answer.
pub const REDIS_MAP_INTERVAL: Duration = Duration::from_secs(5);

/// The pause before another look at a map that is not whole, or that nobody could tell: 500 ms.
pub const REDIS_MAP_RETRY: Duration = Duration::from_millis(500);

/// The least pause between two looks at the map, and after channels were refused: 100 ms. A Redis Cluster in turmoil is not asked for
/// every refusal.
pub const REDIS_MAP_PAUSE: Duration = Duration::from_millis(100);

/// Names that are tried for a probe's channel until one is in a slot of the server: 2^18. A server with one of the 16,384 slots is missed
/// once in ten million times, and asked for again then.
pub const REDIS_PROBE_NAMES_MAX: usize = 1 << 18;

/// Bytes that wait to be written to a Redis before callers wait: 64 KiB, some dozens of frames in one system call. The library's own 8 KiB
/// would make more calls.
pub const REDIS_WRITE_BUFFER_BYTES: usize = 64 << 10;

/// How long bytes to a Redis may stay without the kernel's acknowledgment: 10 s (`TCP_USER_TIMEOUT`). Probes end connections
/// earlier; this frees what they leave behind.
pub const REDIS_USER_TIMEOUT: Duration = Duration::from_secs(10);

/// Calls of a link's own task that wait for an answer at the same time: probes and a question for the role. They add to
/// [`REDIS_CALLS_MAX`].
pub const REDIS_OWN_CALLS_MAX: usize = 16;

/// The pause between rounds of retention.
pub const RETENTION_INTERVAL: Duration = Duration::from_secs(60);

/// Logs that retention looks at before it lets others use the store.
pub const RETENTION_LOGS_PER_STEP: usize = 256;

/// Commands of connections that wait for the task that knows the channels. Full: the connection that asks waits.
pub const INTEREST_COMMANDS_MAX: usize = 1024;

/// Channels that are subscribed or given up together.
pub const INTEREST_BATCH_MAX: usize = 512;

/// How long a channel that nobody needs stays subscribed, so that reconnecting clients find it.
pub const INTEREST_LINGER: Duration = Duration::from_secs(10);

/// How long whoever begins to watch a pattern waits for the store to say what changed until then. Past it, it may be told of
/// messages from shortly before.
pub const PROBE_PATIENCE: Duration = Duration::from_secs(2);

/// Bytes of messages that wait to be announced to other nodes: 16 MiB. Full: they are not announced, and counted; readers elsewhere find
/// them by asking the store.
pub const ANNOUNCE_BYTES_MAX: usize = 16 << 20;

/// Batches that wait to be announced to other nodes. Full: as above.
pub const ANNOUNCE_BATCHES_MAX: usize = 4096;

/// Bytes of one frame on the bus, unless its one message is larger: 64 KiB. Whoever receives it keeps it as long as any of its messages.
pub const BUS_FRAME_BYTES: usize = 64 << 10;

/// How often the heads of topics that were published to are announced. Each is announced twice, so that even the second time is
/// within a second of the message.
pub const HEADS_INTERVAL: Duration = Duration::from_millis(400);

/// Topics whose heads are announced at a time. More are left to the next poll of the store.
pub const HEADS_MAX: usize = 10_000;

/// How often a node tells the others which shapes of patterns it hears.
pub const SHAPES_INTERVAL: Duration = Duration::from_secs(1);

/// How long the shapes of a node that was not heard of are remembered: long, since one too many costs little.
pub const SHAPES_MEMORY: Duration = Duration::from_secs(60);

/// A node that was not heard of for this long may have missed new shapes.
pub const SHAPES_SILENCE: Duration = Duration::from_secs(3);

/// Shapes that are remembered. More are not routed: their readers find messages by asking the store.
pub const SHAPES_MAX: usize = 256;

/// Nodes of a cluster that a node knows of, some 200 bytes each. Shapes of others are not remembered, and they are not listed.
pub const NODES_MAX: usize = 1024;

/// Topics without history and processes that publish to them, whose last frame is remembered. With more, all are forgotten: then a frame
/// that comes twice is delivered twice.
pub const LIVE_NUMBERS_MAX: usize = 100_000;

/// How often the store is asked for changes while the bus may lose frames.
pub const CHANGES_INTERVAL_DEGRADED: Duration = Duration::from_millis(250);

/// How often the store is asked for changes while all is well: within a second, a message is found that neither the bus nor an announcement
/// of its head brought, such as one of a node that alone is cut off from the bus.
pub const CHANGES_INTERVAL: Duration = Duration::from_millis(900);

/// The shortest time between two questions to the store: those who want to know meanwhile share one.
pub const CHANGES_SPACING: Duration = Duration::from_millis(5);

/// Milliseconds by which the clocks of two nodes may differ before that is told: half of what a subscription is resumed earlier
/// ([`SINCE_MARGIN_MS`]), since a message bears the time of the node that took it.
pub const CLOCKS_APART_MAX_MS: u64 = SINCE_MARGIN_MS / 2;

/// How long the store is asked often after something that other nodes may not know yet: a new shape, a new node.
pub const CHANGES_CARE: Duration = Duration::from_secs(3);

/// How long a message may wait for those before it, which come by another way, until the store is asked for them.
pub const REORDER_GRACE: Duration = Duration::from_millis(5);

/// Logs that one shard reads at the same time to fill gaps.
pub const REPAIRS_MAX: usize = 32;

/// Messages of topics that a pattern just met, which wait until it is known that none came before them; per shard. More are read
/// from the store instead.
pub const UNPROVEN_MESSAGES_MAX: usize = 4096;

/// How long a command of the command line waits for an answer of the admin API: 30 s.
pub const ADMIN_ANSWER_DEADLINE: Duration = Duration::from_secs(30);

/// Connections that ended and are remembered for whoever asks why: the last 4,096 of a node, some 2 MiB.
pub const CLOSES_KEPT_MAX: usize = 4096;

/// How long an administrator waits for who is present on a topic: 5 s.
pub const MEMBERS_DEADLINE: Duration = Duration::from_secs(5);

/// What administrators may follow on one node at the same time: 8 traces.
pub const TRACES_MAX: usize = 8;

/// Events of a trace that wait for its reader: 1,024, some 300 KiB, or 4 MiB with payloads. More are dropped, counted and told.
pub const TRACE_EVENTS_MAX: usize = 1024;

/// Bytes of a payload in a trace: 4 KiB, the beginning of it.
pub const TRACE_PAYLOAD_BYTES_MAX: usize = 4 << 10;

/// Topics that one event of a trace names: the first ten.
pub const TRACE_TOPICS_MAX: usize = 10;

/// Bytes of one event of another node's trace, at most: 64 KiB, ten times the longest that this version writes.
pub const TRACE_LINE_BYTES_MAX: usize = 64 << 10;

/// Topics of one connection that an administrator is shown: 1,000, some hundred KiB.
pub const READINGS_SHOWN_MAX: usize = 1000;

/// Connections to the administrators' port at a time: 64, far more than probes and scrapers open. More are closed at once.
pub const ADMIN_CONNECTIONS_MAX: usize = 64;

/// How long the node's own tasks may take to answer `/livez`: 10 s. A shard that writes thousands of sockets takes some milliseconds, so
/// one that does not answer by then never will.
pub const LIVENESS_DEADLINE: Duration = Duration::from_secs(10);

/// How long the store may take to answer `/readyz`: 5 s. A slower one is told as one that does not answer.
pub const READINESS_DEADLINE: Duration = Duration::from_secs(5);

/// How long an answer of the store serves everybody who asks `/readyz`: 1 s, so that asking often costs the store nothing.
pub const READINESS_KEPT_FOR: Duration = Duration::from_secs(1);

/// How long `bongsu health` waits for its answer: longer than the node's own deadlines.
pub const HEALTH_DEADLINE: Duration = Duration::from_secs(15);

/// Bytes of an answer that the broker's own HTTP client takes. A longer one is an error.
pub const HTTP_ANSWER_BYTES_MAX: usize = 64 << 10;

/// Spans that wait to be sent: 8,192, some 4 MiB. More are dropped and counted.
pub const SPANS_WAITING_MAX: usize = 8192;

/// Spans in one request to the collector.
pub const SPANS_PER_REQUEST_MAX: usize = 512;

/// Messages of one batch that get spans of their own. Further traced messages of the batch go without.
pub const TRACED_PER_BATCH_MAX: usize = 64;

/// Links from one span to other messages of its batch.
pub const LINKS_PER_SPAN_MAX: usize = 16;

/// How long the collector may take to answer: 5 s. Then what was sent is dropped and counted.
pub const TELEMETRY_DEADLINE: Duration = Duration::from_secs(5);

/// The pause before a node that could not reach the cluster's registry tries again for the first time: 20 ms. It doubles up to [`LEASE_RETRY`].
pub const LEASE_RETRY_MIN: Duration = Duration::from_millis(20);

/// How long a node that starts waits for its registration before it takes clients: 2 s. Where Redis is away it takes them all the same, and what
/// begins there is not found by others until it is back.
pub const REGISTRATION_PATIENCE: Duration = Duration::from_secs(2);

/// The longest pause before a node that could not reach the cluster's registry tries again: 1 s, or a third of the lease if that is less.
pub const LEASE_RETRY: Duration = Duration::from_secs(1);

/// The pause before a node looks at its registration because a call failed: 100 ms. It bounds how often that happens.
pub const LEASE_SUSPECTED_PAUSE: Duration = Duration::from_millis(100);

/// Dead nodes that one node takes on at once. The others are taken on by other nodes, or later.
pub const REAPED_AT_ONCE_MAX: usize = 8;

/// Memberships of a dead node that are taken away in one step: 128, less than a millisecond of Redis' time.
pub const REAP_STEP_MAX: usize = 128;

/// How often a node looks for commands of operators though nobody told it of one. Each look is one read of a short log.
pub const CONTROL_INTERVAL: Duration = Duration::from_secs(1);

/// How long commands of operators are kept: 7 days. A node that was away for longer has no sessions that they could concern.
pub const CONTROL_RETENTION: Duration = Duration::from_secs(7 * 24 * 3600);

/// How often commands past that are taken away.
pub const CONTROL_TRIM_INTERVAL: Duration = Duration::from_secs(3600);

/// Commands that are read at once.
pub const CONTROL_PAGE: u32 = 128;

/// Milliseconds by which nodes' clocks may differ: a session that began so shortly after a kick may be meant by it, on a node that
/// hears of the kick late.
pub const CONTROL_CLOCK_SKEW_MS: u64 = 1000;
