//! Limits between the nodes that answer for one another.

use std::time::Duration;

use super::{HTTP_HEADER_BYTES_MAX, NODES_MAX};

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

/// Milliseconds by which a forwarded request's time may differ from this node's: 30 s. Nodes whose clocks are [`CLOCKS_APART_MAX_MS`](super::CLOCKS_APART_MAX_MS) apart
/// complain long before.
pub const PEER_CLOCK_SKEW_MS: u64 = 30_000;

/// Numbers of one other node's requests that are remembered, so that none is taken twice: the newest 65,536, 8 KiB. Older ones are refused.
pub const PEER_NUMBERS_REMEMBERED: u64 = 1 << 16;

/// Bytes of the secret that nodes share, at least: 16. A shorter one could be guessed.
pub const PEER_SECRET_BYTES_MIN: usize = 16;

/// Bytes of the file with that secret, at most: 4 KiB.
pub const PEER_SECRET_BYTES_MAX: u64 = 4 << 10;

/// How long another node may take to answer a question of an administrator: 2 s. Then it is named as missing.
pub const PEER_ASK_DEADLINE: Duration = Duration::from_secs(2);

/// Bytes of one node's answer to such a question, at most: 4 MiB, a page of the largest entries. A longer one counts as none.
pub const PEER_ANSWER_BYTES_MAX: usize = 4 << 20;

/// Other nodes that are asked at the same time for one request of an administrator: 16, so that their answers take 64 MiB at most.
pub const PEERS_ASKED_AT_ONCE: usize = 16;

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
