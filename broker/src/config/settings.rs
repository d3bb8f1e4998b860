//! Every setting: its type, its default, its bounds and its meaning.
//!
//! This is the one place to change a setting. `docs/configuration.md` is made from it by `cargo xtask docs`, and the
//! documentation of each field below is that file's text.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bongsu_protocol::topic::{Topic, TopicFilter};

pub use super::auth::{Anonymous, Auth, Issuer, Token};
use super::network::Network;
use super::prefix::PathPrefix;
use super::ratio::Ratio;
use super::schema::{Tables, settings};
use super::url::ServerUrl;
use super::value::{AllowedOrigin, ByteSize, LogFilter, Name, Sha256};
use super::web::ScriptUrl;
use super::word::{
    AdminRole, Dots, Forwarding, LogFormat, Port, SessionEvents, SlowReader, StorageKind, Synchronous,
    TopicKind,
};

settings! {
    /// All settings of a node.
    pub struct Settings {
        /// This node.
        pub node: Node;
        /// Where clients connect. Anything but loopback needs `auth.tokens` or `auth.anonymous`: a broker that everybody
        /// can reach and use is never the default.
        pub listen: SocketAddr = "127.0.0.1:8080";
        /// The port of administrators.
        pub admin: Admin;
        /// TLS in process.
        pub tls: Tls;
        /// Proxies before this node.
        pub proxy: Proxy;
        /// The directory of the SQLite file, made at start if there is none.
        pub data: PathBuf = "./bongsu-data";
        /// Where logs are kept.
        pub storage: Storage;
        /// The Postgres that nodes of a cluster keep their logs in.
        pub postgres: Postgres;
        /// The Redis that nodes of a cluster speak to each other through. Without one, this node is alone.
        pub redis: Redis;
        /// The cluster that this node belongs to.
        pub cluster: Cluster;
        /// What the process writes to standard error.
        pub log: Log;
        /// What the process tells an OpenTelemetry collector.
        pub telemetry: Telemetry;
        /// Who may do what.
        pub auth: Auth;
        /// Every HTTP request, handshakes among them.
        pub http: Http;
        /// WebSocket connections.
        pub websocket: Websocket;
        /// STOMP over WebSocket, and over bare TCP.
        pub stomp: Stomp;
        /// SockJS services.
        pub sockjs: Sockjs;
        /// What one node, one connection or one topic may take.
        pub limits: Limits;
        /// Work queues.
        pub queues: Queues;
        /// What is told of sessions.
        pub events: Events;
        /// Who is told of messages by HTTP; see [events.md](events.md).
        pub webhooks: Tables<Webhook>;
        /// How the process ends on SIGTERM.
        pub drain: Drain;
        /// What holds for topics, by filter; the first match wins. Topics that nothing matches get the defaults below.
        pub topics: Tables<TopicPolicy>;
    }

    /// This node.
    pub struct Node {
        /// The node's name, in every welcome, log line and metric. Unique in a cluster.
        pub name: Name = "node-1" shown "the host's name, else `node-1`";
    }

    /// The port of administrators: the console, the admin API, health and metrics. See [admin.md](admin.md).
    pub struct Admin {
        /// Where it is. It takes no clients, and keeps answering where the port of clients is full. `/metrics`, `/livez`, `/readyz` and
        /// `/healthz` are for whoever reaches it. Without `admin.tokens`, everything else is for this machine only.
        pub listen: Option<SocketAddr> = "none" shown "the port after `listen` where that is loopback, or a free one if it is taken; else none";
        /// Whether it speaks TLS, by `tls.certificate`.
        pub tls: bool = "false";
        /// Who may administer. With any of them, every request for the console's data and the API shows one, also from this machine.
        pub tokens: Tables<AdminToken>;
        /// How long the records of what administrators changed are kept.
        pub audit_retention: Duration = "365d" in "1d"..="36500d";
    }

    /// A token of an administrator.
    pub struct AdminToken {
        /// Who it is, in the audit log.
        pub name: Name;
        /// The token's digest.
        pub sha256: Sha256;
        /// What its bearer may do: `viewer` reads metadata; `operator` also reads and publishes messages, disconnects, revokes, blocks and
        /// traces; `admin` does everything.
        pub role: AdminRole = "viewer";
    }

    /// TLS in process, versions 1.2 and 1.3. Both files or none; with none the listener speaks plain HTTP, for loopback or behind a proxy that
    /// ends TLS. The files are looked at every 2 s: what they hold then is what new handshakes see, and connections go on. Where it cannot
    /// be used, the certificate before stays.
    pub struct Tls {
        /// The certificate chain, PEM, the node's own first.
        pub certificate: Option<PathBuf> = "none";
        /// The certificate's private key, PEM.
        pub key: Option<PathBuf> = "none";
    }

    /// Proxies before this node, and how they tell of clients. Limits, pins, logs and session events see the client that they tell of.
    pub struct Proxy {
        /// Addresses and networks of proxies that are believed. What anybody else sends of the kinds below is ignored.
        pub trusted: Vec<Network> = "[]";
        /// The header in which they tell of the client of each request: `forwarded` (RFC 7239), or `x-forwarded-for` with
        /// `X-Forwarded-Proto`. The last address in it that is not trusted itself counts. They must write it for every request.
        pub headers: Forwarding = "none";
        /// Ports on which they begin each connection with the PROXY protocol, version 1 or 2, within 5 s: `clients`, `stomp`, `stomp-tls`,
        /// `admin`. A trusted proxy that does not is cut off, its checks of health included; whoever else does is refused.
        pub protocol: Vec<Port> = "[]";
    }

    /// Where logs are kept.
    pub struct Storage {
        /// `postgres` keeps them where `postgres.url` says, for any number of nodes; `sqlite` keeps them in the data directory, for
        /// one node; `memory` forgets them when the process ends.
        pub kind: StorageKind = "sqlite" shown "`postgres` where `postgres.url` or `postgres.url_file` is set, else `sqlite`";
        /// What an acknowledged publish survives: `full` a power cut, `normal` a crash of the process only.
        pub synchronous: Synchronous = "full";
    }

    /// The Postgres that nodes of a cluster keep their logs in: version 14 or newer.
    pub struct Postgres {
        /// Its address: `postgres://user:password@host:5432/database?sslmode=verify-full`. The environment variable
        /// `BONGSU_POSTGRES__URL` keeps the password out of the process list. Several hosts stand between commas,
        /// `one:5432,two:5432`: the one that is a primary is used.
        pub url: Option<ServerUrl> = "none";
        /// A file that holds the address, as secrets are mounted. It is read at start, where `postgres.url` says nothing.
        pub url_file: Option<PathBuf> = "none";
        /// The address of a copy that history is read from. It may lag: what it does not have yet is read from `postgres.url`.
        pub replica_url: Option<ServerUrl> = "none";
        /// Connections of this node to each of the two. When all are in use, publishers and readers wait.
        pub connections: usize = "16" in "2"..="1000";
        /// Transactions of publishers that this node runs at the same time, each with its share of the topics. Each keeps a connection busy.
        pub lanes: usize = "4" in "1"..="64";
        /// How long a statement may run, a connection may be waited for, and one may take to come about. Then the call fails, and whoever
        /// made it is told `unavailable`. At most as long as publishers wait.
        pub deadline: Duration = "8s" in "100ms"..="9s";
        /// Whether a proxy that pools transactions, such as PgBouncer, stands between. Each call costs more round trips then, and
        /// messages that are published in SQL are looked for four times a second.
        pub pooler: bool = "false";
        /// The time that one partition of the messages is for: what is removed for its age leaves the disk a partition at a time. Shorter ones
        /// free it sooner and make more tables. A change holds from the next partition on.
        pub partition: Duration = "24h" in "1h"..="31d";
    }

    /// The Redis that nodes of a cluster speak to each other through. It carries hints only: nothing that was acknowledged is lost
    /// without it.
    pub struct Redis {
        /// Where it is, and how: one of `redis://host:6379`, `redis+sentinel://sentinel:26379,sentinel:26379/master-name`,
        /// `redis+cluster://host:6379,host:6379` and `redis+sharded://host:6379,host:6379`, each with `rediss` in the place of `redis`
        /// for TLS, and with `user:password@` before the hosts. The environment variable `BONGSU_REDIS__URL` keeps the password
        /// out of the process list. See [redis.md](redis.md).
        pub url: Option<ServerUrl> = "none";
        /// A file with that URL in it and nothing else, in the place of `redis.url`: how secrets are often mounted.
        pub url_file: Option<PathBuf> = "none";
        /// Who may sign the servers' certificates, PEM. Without it, who Mozilla trusts.
        pub ca: Option<PathBuf> = "none";
        /// The certificate chain that this node shows to the servers, PEM, its own first. With `redis.key` or not at all.
        pub certificate: Option<PathBuf> = "none";
        /// That certificate's private key, PEM.
        pub key: Option<PathBuf> = "none";
        /// The user that sentinels know this node by. Without it, their default user.
        pub sentinel_user: Option<Name> = "none";
        /// A file with the password for the sentinels in it. Without it, none: that of `redis.url` is for the servers only.
        pub sentinel_password_file: Option<PathBuf> = "none";
    }

    /// The cluster that this node belongs to.
    pub struct Cluster {
        /// Its name, the first part of everything that it keeps in Redis: clusters with different names share one Redis.
        pub name: Name = "bongsu";
        /// How long a node that was not heard of still counts as alive. Afterwards those who were present through it are gone.
        pub lease: Duration = "10s" in "1s"..="5m";
        /// Where other nodes forward requests of HTTP sessions that are this node's: a port of its own, which takes nothing from clients. The
        /// default reaches nodes on the same machine only. See [cluster.md](cluster.md).
        pub listen: Option<SocketAddr> = "none" shown "`127.0.0.1:0` where `redis.url` or `redis.url_file` is set, else none";
        /// Where other nodes find that port: `http://10.1.2.3:7946`. Needed where `cluster.listen` is every address of the machine.
        pub advertise: Option<ServerUrl> = "none" shown "the address of `cluster.listen`";
        /// A file with a secret in it that all nodes share, of 16 to 4,096 bytes: by it, they know each other. Without it, they agree on a
        /// random one in Redis.
        pub secret_file: Option<PathBuf> = "none";
    }

    /// What the process writes to standard error.
    pub struct Log {
        /// Lines for people or JSON for machines.
        pub format: LogFormat = "text";
        /// Which lines.
        pub level: LogFilter = "info";
    }

    /// What the process tells an OpenTelemetry collector. `/metrics` is there without any of it.
    pub struct Telemetry {
        /// A collector that takes OTLP over HTTP: `http://127.0.0.1:4318`, or `https://`. Metrics are sent to `/v1/metrics` under it and
        /// traces to `/v1/traces`. What it does not take in time is dropped and counted.
        pub otlp_endpoint: Option<ServerUrl> = "none";
        /// The share of publishes that are traced, from 0 to 1, besides those whose message carries a sampled `traceparent`, which always are.
        pub traces_ratio: Ratio = "0.0" in "0.0"..="1.0";
        /// How often metrics are sent. Traces are sent as often, or sooner where there are many.
        pub interval: Duration = "10s" in "1s"..="10m";
    }

    /// Every HTTP request, handshakes among them.
    pub struct Http {
        /// Sites whose pages may connect, besides the node's own host; `*` is every site. Clients that send no `Origin` are
        /// not browsers and pass. On loopback without `auth.tokens`, the node's own host is `localhost`, a name under it, 127.0.0.0/8
        /// or `[::1]`, since a stranger can let any other name point to this machine; behind a proxy, list the site.
        pub allowed_origins: Vec<AllowedOrigin> = "[]";
        /// How long a connection may take to send a request's header. Then it is closed.
        pub header_timeout: Duration = "10s" in "1s"..="5m";
        /// How long a long poll waits for something new. Proxies tend to cut silent requests after 30 or 60 seconds.
        pub long_poll_timeout: Duration = "25s" in "1s"..="10m";
        /// Whether a stream is looked up in the store for each read and append. Without it, a node of a cluster answers from memory, and
        /// may not know for some milliseconds what another node has acknowledged. Costs two reads for each request.
        pub streams_ask_store: bool = "false";
    }

    /// WebSocket connections.
    pub struct Websocket {
        /// A connection that sent nothing for this long, give or take a tenth, gets a ping. Proxies tend to cut silent
        /// connections after 30 or 60 seconds.
        pub ping_interval: Duration = "25s" in "1s"..="10m";
        /// A connection that sends nothing for this long after a ping is closed as dead. Long enough for a client that reads
        /// 10 KB a second to get through what its socket holds before the ping.
        pub pong_timeout: Duration = "40s" in "1s"..="10m";
        /// A connection whose peer takes no byte of what waits for it for this long is closed as slow.
        pub write_timeout: Duration = "60s" in "1s"..="1h";
        /// Whether clients may negotiate permessage-deflate. A message is compressed once for all who did.
        pub compression: bool = "true";
        /// Connections with permessage-deflate. A client past this many gets an uncompressed connection.
        pub compression_connections_max: usize = "10000" in "0"..="1000000";
        /// Bytes that wait for one connection's socket. Past this the connection takes no more deliveries until the socket drains:
        /// readers of durable topics continue from history, those of live topics as their policy says.
        pub outbound_bytes: ByteSize = "256KiB" in "16KiB"..="64MiB";
        /// Bytes of one socket's send buffer in the kernel (SO_SNDBUF; Linux keeps twice as much). It adds to
        /// `outbound_bytes`, outside of the process.
        pub send_buffer_bytes: ByteSize = "128KiB" in "4KiB"..="16MiB";
    }

    /// STOMP 1.0, 1.1 and 1.2. See [stomp.md](stomp.md).
    pub struct Stomp {
        /// Paths at which WebSockets speak STOMP. Below each of them is SockJS that does.
        pub prefixes: Vec<PathPrefix> = "[\"/stomp\", \"/ws\"]";
        /// Where clients that speak STOMP over bare TCP connect, Spring's broker relay among them: by convention port 61613. Anything
        /// but loopback needs `auth.tokens` or `auth.anonymous`.
        pub listen: Option<SocketAddr> = "none";
        /// The same with TLS, by `tls.certificate`: by convention port 61614.
        pub tls_listen: Option<SocketAddr> = "none";
        /// What clients may give as `host`; a client that gives none is welcome. With an empty list any name is.
        pub hosts: Vec<Name> = "[]";
        /// How often this node sends and wants heart-beats at the most. A client that asks for fewer gets fewer, and one that names no
        /// interval none. A client that is silent for twice what it agreed to is closed as dead.
        pub heart_beat: Duration = "1s" in "100ms"..="10m";
        /// Messages of a queue that a consumer may hold unsettled, where its SUBSCRIBE has no `prefetch-count`.
        pub prefetch: u32 = "100" in "1"..="1000";
        /// What a dot below `/topic` is, in a destination without a further slash: with `separate`, `/topic/chat.room` is the topic
        /// `chat/room`; with `literal` it is `chat.room`.
        pub dots: Dots = "separate";
        /// Whether a destination without a known prefix is the topic of that name. Otherwise it is refused.
        pub plain_names: bool = "false";
    }

    /// SockJS services: the transports of the SockJS protocol 0.3.3, for unmodified clients. See [sockjs.md](sockjs.md).
    pub struct Sockjs {
        /// Where services are that carry the native protocol in JSON: `new SockJS('/sockjs')` in a page. None: no such service.
        pub prefixes: Vec<PathPrefix> = "[\"/sockjs\"]";
        /// Whether SockJS sessions may use WebSockets. Without, clients use the other transports at once.
        pub websocket: bool = "true";
        /// Whether answers carry the cookie `JSESSIONID`, for load balancers that want one. No node of this broker does.
        pub cookie_needed: bool = "false";
        /// The client library that the iframe page loads. It must be the version that pages themselves load.
        pub client_url: ScriptUrl = "https://cdn.jsdelivr.net/npm/sockjs-client@1/dist/sockjs.min.js";
        /// Bytes of one streaming answer, after which it ends and the client asks for the next: browsers keep all of an answer.
        pub response_bytes: ByteSize = "128KiB" in "1KiB"..="16MiB";
        /// A session that was sent nothing for this long gets a heartbeat. Clients that poll by scripts give up after 35 seconds.
        pub heartbeat: Duration = "25s" in "1s"..="30s";
        /// How long a session that is not over WebSocket waits for the next receiving request. Then it is over.
        pub disconnect_delay: Duration = "5s" in "1s"..="5m";
        /// Whether all requests of a session without a token must come from the address that the first came from; others get 404.
        /// Turn it off where clients change their address, as telephones do. Behind a proxy, say with `proxy.trusted` and
        /// `proxy.headers` how it tells the address, or all clients have the proxy's.
        pub pin_address: bool = "true";
    }

    /// What one node, one connection or one topic may take.
    pub struct Limits {
        /// Connections of this node. More are answered with 503 and a time to wait. Each takes an open file; the
        /// process's limit must leave room for them.
        pub connections: usize = "50000" in "1"..="10000000";
        /// New connections a second. Faster ones are told to come back, each in its protocol's own words, or closed.
        pub connect_rate: u32 = "2000" in "1"..="1000000";
        /// Connections from one address to this node; of IPv6, from one network of 64 bits. More are refused until one ends. Leave it out
        /// where clients come through a proxy that `proxy` says nothing of: they would all be one.
        pub connections_per_address: Option<u32> = "unlimited" in "1"..="10000000";
        /// New connections a second from one address to this node. Faster ones are told to come back.
        pub connect_rate_per_address: Option<u32> = "unlimited" in "1"..="1000000";
        /// Sessions of one user on this node, whatever carries them. More are refused until one ends. A token may say less.
        pub connections_per_user: Option<u32> = "unlimited" in "1"..="10000000";
        /// Messages a second that one user publishes through this node. Faster ones are refused with `rate_limited` and a time to wait.
        pub publish_rate_per_user: Option<u32> = "unlimited" in "1"..="1000000";
        /// Bytes of payload a second that one user publishes through this node. What is more is refused as above.
        pub publish_bytes_per_user: Option<ByteSize> = "unlimited" in "1KiB"..="1TiB";
        /// Messages a second of one connection. Faster ones are refused as above. A token may say less.
        pub publish_rate_per_connection: Option<u32> = "unlimited" in "1"..="1000000";
        /// Bytes of payload a second of one connection. What is more is refused as above. A token may say less.
        pub publish_bytes_per_connection: Option<ByteSize> = "unlimited" in "1KiB"..="1TiB";
        /// Filters that one connection subscribes to. More are refused with `too_many`.
        pub subscriptions_per_connection: usize = "1024" in "1"..="1000000";
        /// Topics that one connection reads, those under its wildcards among them. A subscription that comes to more ends with `too_many`.
        pub topics_per_connection: usize = "4096" in "1"..="1000000";
        /// Requests of one connection that wait for their reply. Past this the node reads no more of that socket until one is answered.
        pub requests_in_flight: usize = "64" in "1"..="65536";
        /// Bytes of messages of this node that wait for their commit. Past this publishers wait.
        pub publish_bytes_in_flight: ByteSize = "64MiB" in "4MiB"..="16GiB";
        /// Bytes of newest messages that this node keeps in memory, so that readers that are a little behind cost no query. The
        /// oldest go first.
        pub tail_cache_bytes: ByteSize = "4MiB" in "1MiB"..="64GiB";
        /// Pages that this node reads from the store at the same time. Further readers wait; equal reads are made once.
        pub history_reads: usize = "8" in "1"..="1024";
        /// Members of one topic. More are refused with `too_many`.
        pub members_per_topic: usize = "10000" in "1"..="1000000";
    }

    /// Work queues. See [queues.md](queues.md).
    pub struct Queues {
        /// A message that so many consumers gave back, or were lost with, goes to the dead-letter topic instead of to another one.
        pub tries_max: u32 = "16" in "1"..="1000000";
        /// The first levels of dead-letter topics: what dies in a queue over `jobs` is kept on `dead/jobs`. What dies there is dropped.
        pub dead_letter_prefix: Topic = "dead";
    }

    /// What is told of sessions, on the topics `$sys/sessions/{node}`; see [events.md](events.md).
    pub struct Events {
        /// `all` tells of sessions that begin, subscribe, unsubscribe and end; `connections` only of those that begin and end; `off` of nothing.
        pub sessions: SessionEvents = "all";
        /// How long what is told on topics under `$sys` is kept. A back end that was away for longer misses some.
        pub retention: Duration = "24h" in "1m"..="365d";
    }

    /// A receiver that is told of messages by HTTP, each at least once and in the order of its topic.
    pub struct Webhook {
        /// Its name: letters, digits, `-` and `_`, at most 64. What is known of how far it came belongs to it: another name begins anew.
        pub name: Name;
        /// Where messages are posted to: `http://` or `https://`. Redirects are not followed. An address of a private network is one like any
        /// other, since only operators write it here.
        pub url: ServerUrl;
        /// Which topics; those without history are not told of. Dead letters of webhooks never are.
        pub topics: Vec<TopicFilter>;
        /// A file with the secret that signs, as Standard Webhooks has it: `whsec_` and base64. Two lines with one each while one replaces
        /// the other, the new one first. It is read again as it changes.
        pub secret_file: PathBuf;
        /// How long one request may take.
        pub timeout: Duration = "15s" in "100ms"..="5m";
        /// Requests at a time, each of another topic.
        pub concurrency: usize = "8" in "1"..="256";
        /// How often a message is sent before it is a dead letter.
        pub attempts: u32 = "20" in "1"..="1000000";
        /// The longest pause between two attempts. They begin with a second and double.
        pub retry_max: Duration = "5m" in "100ms"..="1d";
    }

    /// How the process ends on SIGTERM.
    pub struct Drain {
        /// How long all of it may take. Then the process ends, says what it abandoned and exits with an error.
        pub grace: Duration = "30s" in "0s"..="1h";
        /// The time over which clients are sent away, so that they do not all connect elsewhere at once. At most `drain.grace`.
        pub spread: Duration = "5s" in "0s"..="1h";
    }

    /// What holds for the topics under a filter.
    pub struct TopicPolicy {
        /// Which topics. As in MQTT, a wildcard in the first level matches no topic that begins with `$`.
        pub filter: TopicFilter;
        /// `durable` topics keep history and lose nothing within it; `live` topics keep none.
        pub kind: TopicKind = "durable";
        /// How much history a durable topic keeps. A message goes as soon as one of the bounds is passed.
        pub retention: RetentionPolicy;
        /// How long a message's id guards a durable topic against a second one. `0s` is not at all.
        pub idempotency_window: Duration = "5m" in "0s"..="7d";
        /// Bytes of one message's payload. A larger one is refused with `too_large`.
        pub message_bytes: ByteSize = "1MiB" in "1B"..="1MiB";
        /// Messages a second to one topic on one node. Faster publishes are refused with `rate_limited` and a time to wait.
        pub publish_rate: Option<u32> = "unlimited" in "1"..="1000000";
        /// Messages that may come at once before `publish_rate` holds.
        pub publish_burst: u32 = "100" in "1"..="1000000";
        /// Bytes of payload a second to one topic on one node, a second's worth at once. What is more is refused as above.
        pub publish_bytes: Option<ByteSize> = "unlimited" in "1KiB"..="1TiB";
        /// What a live topic does for a reader that cannot keep up: `drop_oldest`, `conflate` (keep the newest) or
        /// `disconnect`, each counted and told. Readers of a durable topic continue from history, so it takes no such setting.
        pub slow_reader: SlowReader = "drop_oldest";
        /// Whether the topic's members can be seen.
        pub presence: bool = "true";
    }

    /// How much history a durable topic keeps.
    pub struct RetentionPolicy {
        /// Messages older than this go.
        pub age: Option<Duration> = "7d" in "1s"..="36500d";
        /// At most this many messages stay, the newest.
        pub count: Option<u64> = "unlimited" in "1"..="1000000000000";
        /// At most this many bytes of messages stay, the newest. The newest message always stays.
        pub bytes: Option<ByteSize> = "1GiB" in "1KiB"..="1024TiB";
    }
}
