//! The broker's limits that cannot be configured, each with its unit, its reason and what happens when it is reached.
//!
//! What an operator may choose stands in [`config::settings`](crate::config::settings) with its default and its bounds,
//! and never goes past `bongsu_protocol::limits`, which hold for every peer.

use std::time::Duration;

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

/// Connections that the kernel holds until they are accepted: what Linux allows by default (`net.core.somaxconn`).
pub const LISTEN_BACKLOG: i32 = 4096;

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
/// ([`STORE_DEADLINE`]), the next question to the store which logs changed ([`CHANGES_INTERVAL`]), clocks that are apart, and as much again.
pub const EVENT_SOURCE_CHECKPOINT_MARGIN_MS: u64 = 30_000;

/// How long a request waits whose messages a SockJS session does not take yet: 10 s. Then it is answered with 503.
pub const SOCKJS_SEND_PATIENCE: Duration = Duration::from_secs(10);

/// How long a request waits that brings messages for a session which is not known yet: 100 ms. The request that begins it came just before,
/// perhaps to another node.
pub const SOCKJS_OWNER_PATIENCE: Duration = Duration::from_millis(100);

/// Bytes of the name of a SockJS session; clients make them of 8 characters, Spring of 32. A longer one is answered with 404.
pub const SOCKJS_NAME_BYTES_MAX: usize = 128;

/// Bytes of a `JSESSIONID` cookie that is sent back. A longer one is answered with a new one.
pub const SOCKJS_COOKIE_BYTES_MAX: usize = 256;

/// How long connecting to another node may take, until it has proved that it is one of the cluster: 1 s. A SockJS client gives a connection
/// some 600 ms in all, so whoever waits longer waits for nothing.
pub const PEER_CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a node that could not be reached is not tried again: 1 s. Requests for it fail at once meanwhile.
pub const PEER_RETRY_PAUSE: Duration = Duration::from_secs(1);

/// The pause between two pings on a connection to another node: 5 s.
pub const PEER_PING_INTERVAL: Duration = Duration::from_secs(5);

/// How long another node may take to answer a ping: 5 s. Then the connection ends, and every request on it with it. A node whose process
/// ended is known at once; this finds those that are frozen or cut off.
pub const PEER_PING_TIMEOUT: Duration = Duration::from_secs(5);

/// Requests that one node has under way at one other: 16,384, most of them parked polls of a few KiB. More are refused.
pub const PEER_REQUESTS_MAX: usize = 1 << 14;

/// Bytes of one request's body, and of its answer's, that wait on the way between two nodes: 64 KiB. Then whoever writes it waits.
pub const PEER_STREAM_WINDOW_BYTES: u32 = 64 << 10;

/// Bytes that wait on one connection between two nodes: as many as all of its requests may have, so that readers that are slow hold up
/// nobody but themselves.
pub const PEER_CONNECTION_WINDOW_BYTES: u32 = PEER_STREAM_WINDOW_BYTES * PEER_REQUESTS_MAX as u32;

/// Requests on one connection between nodes that were given up before the other side looked at them: as many as there may be. HTTP/2's usual
/// bound of 20 would end the connection when a load balancer ends, which gives up all of its clients' requests at once.
pub const PEER_RESETS_MAX: usize = PEER_REQUESTS_MAX;

/// Connections to the port for nodes: one for each other node, and as many that are being made. More are closed at once.
pub const PEER_CONNECTIONS_MAX: usize = 2 * NODES_MAX;

/// How long whoever connects to the port for nodes may take to prove that it is one: 5 s. Then the connection is closed.
pub const PEER_INTRODUCTION_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes of a forwarded request's header: a client's longest, and what nodes add to it. A longer one is answered with 431.
pub const PEER_HEADER_BYTES_MAX: usize = HTTP_HEADER_BYTES_MAX + (8 << 10);

/// Milliseconds by which a forwarded request's time may differ from this node's: 30 s. Nodes whose clocks are [`CLOCKS_APART_MAX_MS`] apart
/// complain long before.
pub const PEER_CLOCK_SKEW_MS: u64 = 30_000;

/// Numbers of one other node's requests that are remembered, so that none is taken twice: the newest 65,536, 8 KiB. Older ones are refused.
pub const PEER_NUMBERS_REMEMBERED: u64 = 1 << 16;

/// Bytes of the secret that nodes share, at least: 16. A shorter one could be guessed.
pub const PEER_SECRET_BYTES_MIN: usize = 16;

/// Bytes of the file with that secret, at most: 4 KiB.
pub const PEER_SECRET_BYTES_MAX: u64 = 4 << 10;

/// How long the owner of a session may take to end an answer that goes through a node which drains, after `drain.spread`: 1 s. Then that node
/// ends it.
pub const PEER_RELEASE_PATIENCE: Duration = Duration::from_secs(1);

/// How long it may take to find out which node has an HTTP session: 150 ms. A SockJS client gives a connection some 600 ms in all.
pub const OWNER_DEADLINE: Duration = Duration::from_millis(150);

/// The pause between two looks for the owner of a session that is about to be claimed: 20 ms.
pub const OWNER_POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Owners of sessions elsewhere that a node remembers, some 100 bytes each. With more, those not asked for lately are forgotten.
pub const OWNERS_REMEMBERED_MAX: usize = 1 << 14;

/// How long the owner of a session elsewhere is remembered: 30 s. A session has one owner as long as it lives, and says so itself when it has
/// ended.
pub const OWNERS_REMEMBERED_FOR: Duration = Duration::from_secs(30);

/// How long Redis keeps the owner of a session after its node last said so: 10 min. It only takes away what dead nodes left: who is alive is
/// known within [`cluster.lease`](crate::config::settings::Cluster::lease).
pub const OWNER_LIFETIME: Duration = Duration::from_secs(600);

/// How often a node says again which sessions it has: four times in [`OWNER_LIFETIME`].
pub const OWNER_RENEWAL: Duration = Duration::from_secs(150);

/// Sessions whose owner is written to Redis in one step: 256, less than a millisecond of Redis' time.
pub const OWNERS_BATCH_MAX: usize = 256;

/// Sessions that ended and are yet to be taken out of Redis. More are left to [`OWNER_LIFETIME`].
pub const OWNERS_RELEASED_MAX: usize = 1 << 16;
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
