//! Where nodes join: the servers behind a bus. Tests share them, since each has clusters of its own.

use std::collections::HashMap;
use std::net::TcpListener;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};

use bongsu::bus::{self, LocalNetwork};
use bongsu::config::{self, Settings, SettingsArgs};
use bongsu_testkit::{Redis, RedisCluster, RedisSentinel};

use crate::node::Node;

/// Servers, or none.
pub(crate) struct World {
    kind: Kind,
    /// Tells the clusters of one test from those of all others.
    test: u64,
}

enum Kind {
    Local(Mutex<HashMap<String, LocalNetwork>>),
    /// Settings of `redis`.
    Redis(Vec<String>),
}

static TESTS: AtomicU64 = AtomicU64::new(0);

impl World {
    pub(crate) fn local() -> Self {
        Self::new(Kind::Local(Mutex::default()))
    }

    pub(crate) fn standalone() -> Self {
        static SERVER: OnceLock<Redis> = OnceLock::new();
        Self::redis(&[&format!("redis.url={}", SERVER.get_or_init(Redis::start).url())])
    }

    pub(crate) fn sharded() -> Self {
        static SERVERS: OnceLock<[Redis; 3]> = OnceLock::new();
        let servers = SERVERS.get_or_init(|| [Redis::start(), Redis::start(), Redis::start()]);
        Self::redis(&[&format!("redis.url=redis+sharded://{}", addresses(servers))])
    }

    pub(crate) fn sentinel() -> Self {
        static SERVERS: OnceLock<RedisSentinel> = OnceLock::new();
        Self::redis(&[&sentinel_url(SERVERS.get_or_init(RedisSentinel::start))])
    }

    pub(crate) fn cluster() -> Self {
        static SERVERS: OnceLock<RedisCluster> = OnceLock::new();
        let servers = SERVERS.get_or_init(RedisCluster::start);
        Self::redis(&[&format!("redis.url=redis+cluster://{}", addresses(servers.nodes()))])
    }

    /// A server that only lets a user in who may do what `docs/redis.md` says, over TLS.
    pub(crate) fn tls_and_acl() -> Self {
        static SERVER: OnceLock<Redis> = OnceLock::new();
        let server = SERVER.get_or_init(|| {
            let server = Redis::start_with_tls();
            crate::acl::set_user(&server, "*");
            server
        });
        let ca = server.tls().unwrap().certificate;
        let url = server.url().replace("://", &format!("://bongsu:{}@", crate::acl::PASSWORD));
        Self::redis(&[&format!("redis.url={url}"), &format!("redis.ca={}", ca.display())])
    }

    /// The servers that these settings name.
    pub(crate) fn redis(settings: &[&str]) -> Self {
        Self::new(Kind::Redis(settings.iter().map(|setting| (*setting).to_owned()).collect()))
    }

    fn new(kind: Kind) -> Self {
        Self { kind, test: TESTS.fetch_add(1, Ordering::Relaxed) }
    }

    /// A node of the cluster `a`, once its bus is live.
    pub(crate) async fn join(&self) -> Node {
        self.join_cluster("a").await
    }

    /// A node of this cluster, once its bus is live.
    pub(crate) async fn join_cluster(&self, cluster: &str) -> Node {
        let mut node = match &self.kind {
            Kind::Local(networks) => {
                let network = networks.lock().unwrap().entry(cluster.to_owned()).or_default().clone();
                let (bus, inbox) = network.join();
                Node::new(std::sync::Arc::new(bus), inbox, None)
            }
            Kind::Redis(_) => self.begin_to_join(cluster),
        };
        node.live().await;
        node
    }

    /// A node of this cluster, which need not have a connection yet.
    pub(crate) fn begin_to_join(&self, cluster: &str) -> Node {
        let joined = bus::connect(&self.settings(cluster)).unwrap().unwrap();
        Node::new(joined.bus, joined.inbox, Some(joined.commands))
    }

    fn settings(&self, cluster: &str) -> Settings {
        let Kind::Redis(redis) = &self.kind else { panic!("a node that is alone has no such settings") };
        let process = std::process::id();
        let mut set = vec![format!("cluster.name={process}:{}:{cluster}", self.test)];
        set.extend(redis.iter().cloned());
        settings(set)
    }

    /// A node whose servers take connections and never answer, if there are servers at all.
    pub(crate) fn join_nowhere(&self) -> Option<Node> {
        let Kind::Redis(redis) = &self.kind else { return None };
        static SILENT: OnceLock<TcpListener> = OnceLock::new();
        let silent = SILENT.get_or_init(|| TcpListener::bind("127.0.0.1:0").unwrap());
        let silent = silent.local_addr().unwrap().to_string();
        let set = redis.iter().map(|setting| match setting.strip_prefix("redis.url=") {
            Some(url) => {
                let (scheme, rest) = url.split_once("://").unwrap();
                let hosts = rest.rsplit_once('@').map_or(rest, |(_, hosts)| hosts);
                let path = hosts.split_once('/').map_or("", |(_, path)| path);
                format!("redis.url={scheme}://{silent}/{path}")
            }
            None => setting.clone(),
        });
        let joined = bus::connect(&settings(set.collect())).unwrap().unwrap();
        Some(Node::new(joined.bus, joined.inbox, Some(joined.commands)))
    }
}

/// The defaults and these.
pub(crate) fn settings(mut set: Vec<String>) -> Settings {
    // Nodes with a Redis must name a Postgres. Nobody connects to it here.
    set.push("postgres.url=postgres://localhost/none".to_owned());
    config::load_with(&SettingsArgs { set, ..SettingsArgs::default() }, []).unwrap().settings
}

/// The setting for these.
pub(crate) fn sentinel_url(servers: &RedisSentinel) -> String {
    let sentinels: Vec<_> = servers.sentinel_ports().iter().map(|port| format!("127.0.0.1:{port}")).collect();
    format!("redis.url=redis+sentinel://{}/{}", sentinels.join(","), RedisSentinel::NAME)
}

/// `127.0.0.1:port,127.0.0.1:port,…`
pub(crate) fn addresses(servers: &[Redis]) -> String {
    let addresses: Vec<_> = servers.iter().map(|server| format!("127.0.0.1:{}", server.port())).collect();
    addresses.join(",")
}
