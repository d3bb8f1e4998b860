//! What a run happens in: the servers, the nodes on top of them, and the proxies between.

use std::ffi::OsString;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use bongsu_testkit::{Postgres, Process, Redis, RedisCluster, RedisSentinel};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::spawn_blocking;

use crate::island::Island;
use crate::ledger::SHORT_FILTER;
use crate::proxy::{Proxy, Way};
use crate::transport::Transport;

/// What the nodes share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Topology {
    /// Nothing: one node on SQLite.
    Alone,
    /// Postgres with a standby, and one Redis.
    Standalone,
    /// Postgres with a standby, and Redis behind Sentinel.
    Sentinel,
    /// Postgres with a standby, and a Redis Cluster with replicas.
    Cluster,
}

/// How many nodes a cluster has here.
pub(crate) const N_NODES: usize = 3;

/// Where the nodes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Network {
    /// All on the loopback interface.
    Loopback,
    /// The last one on an [`Island`], if this machine lets us make one.
    WithIsland,
}

/// Servers, nodes and proxies. What it holds ends with it.
pub(crate) struct World {
    pub(crate) nodes: Vec<Arc<Process>>,
    /// Where clients find each node, past the proxy.
    pub(crate) addresses: Vec<SocketAddr>,
    /// In front of the nodes, in turn.
    pub(crate) front: Proxy,
    /// Where clients of STOMP over TCP find each node.
    stomp_addresses: Vec<SocketAddr>,
    /// In front of these.
    stomp_front: Proxy,
    /// Between each node and Redis, where there is one Redis only: the others tell nodes their own addresses.
    pub(crate) links: Vec<Proxy>,
    pub(crate) bus: BusServer,
    pub(crate) database: Option<Arc<Database>>,
    /// Where the last node is, unless it is with the others.
    pub(crate) island: Option<Arc<Island>>,
}

/// The Redis of a run.
#[derive(Clone)]
pub(crate) enum BusServer {
    None,
    Standalone(Arc<Redis>),
    Sentinel(Arc<RedisSentinel>),
    Cluster(Arc<RedisCluster>),
}

/// Two Postgres servers, one of which is the primary.
pub(crate) struct Database {
    servers: [Postgres; 2],
    primary: Mutex<usize>,
}

impl World {
    /// Starts everything and waits until it serves. Nodes get these settings besides.
    pub(crate) async fn start(
        topology: Topology,
        network: Network,
        broker: &Path,
        more: &[String],
    ) -> anyhow::Result<Self> {
        let (bus, database, island) = spawn_blocking(move || servers(topology, network)).await?;
        let n_nodes = if topology == Topology::Alone { 1 } else { N_NODES };
        let (mut links, mut addresses, mut starts) = (Vec::new(), Vec::new(), Vec::new());
        // Where nodes on both sides of an island's cable find one another.
        let meeting_point = island.as_ref().map(|island| island.gateway());
        for idx in 0..n_nodes {
            let island = island.clone().filter(|_| idx + 1 == n_nodes);
            let mut settings = [&[format!("node.name=node-{}", idx + 1)], more].concat();
            if let BusServer::Standalone(redis) = &bus {
                let gateway = island.as_ref().map_or(LOCALHOST, |island| island.bus_gateway());
                links.push(Proxy::start(gateway, vec![at(redis.port())]).await?);
            }
            settings.extend(bus.url(links.get(idx)).map(|url| format!("redis.url={url}")));
            if let Some(database) = &database {
                settings.push(format!("postgres.url={}", database.url(island.as_deref()).await?));
            }
            if let Some(gateway) = meeting_point {
                let here = island.as_ref().map_or(gateway, |island| island.address());
                settings.push(format!("cluster.listen={here}:0"));
                // To the node on the island, clients come from another address than to the others.
                settings.push("sockjs.pin_address=false".to_owned());
            }
            let broker = broker.to_owned();
            // All at once, as on a real start: they have one set of migrations to run.
            starts.push(spawn_blocking(move || {
                let address = island.as_ref().map_or(LOCALHOST, |island| island.address());
                let node = node(&broker, &settings, island.as_deref());
                (SocketAddr::new(address, node.port()), Arc::new(node))
            }));
        }
        let mut nodes = Vec::new();
        for start in starts {
            let (address, node) = start.await.context("a node does not start")?;
            addresses.push(address);
            nodes.push(node);
        }
        let front = Proxy::start(LOCALHOST, addresses.clone()).await?;
        let stomp_addresses: Vec<SocketAddr> =
            addresses.iter().map(|address| stomp_address(*address)).collect();
        let stomp_front = Proxy::start(LOCALHOST, stomp_addresses.clone()).await?;
        Ok(Self { nodes, addresses, front, stomp_addresses, stomp_front, links, bus, database, island })
    }

    /// Changes the way between a node and its clients.
    pub(crate) fn set_way_of_clients(&self, node: usize, way: Way) {
        self.front.set(node, way);
        self.stomp_front.set(node, way);
    }

    /// Where clients of a transport find each node.
    pub(crate) fn addresses_for(&self, transport: Transport) -> &[SocketAddr] {
        if transport == Transport::StompTcp { &self.stomp_addresses } else { &self.addresses }
    }

    /// Where clients of a transport find some node.
    pub(crate) fn front_of(&self, transport: Transport) -> SocketAddr {
        let front = if transport == Transport::StompTcp { &self.stomp_front } else { &self.front };
        front.address()
    }

    /// A counter of a node, from its `/metrics`.
    pub(crate) async fn metric(&self, node: usize, name: &str) -> anyhow::Result<u64> {
        let mut stream = TcpStream::connect(self.addresses[node]).await?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(value.with_context(|| format!("node {node} has no metric {name}"))?.trim().parse::<f64>()? as u64)
    }

    /// Puts the nodes' logs where they outlive the run, for whoever asks why it failed.
    pub(crate) fn keep_logs(&self, directory: &Path) -> anyhow::Result<()> {
        fs::create_dir_all(directory)?;
        for (idx, node) in self.nodes.iter().enumerate() {
            fs::write(directory.join(format!("node-{}.log", idx + 1)), node.full_log())?;
        }
        Ok(())
    }
}

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

const fn at(port: u16) -> SocketAddr {
    SocketAddr::new(LOCALHOST, port)
}

fn servers(topology: Topology, network: Network) -> (BusServer, Option<Arc<Database>>, Option<Arc<Island>>) {
    let bus = match topology {
        Topology::Alone => BusServer::None,
        Topology::Standalone => BusServer::Standalone(Arc::new(Redis::start())),
        Topology::Sentinel => BusServer::Sentinel(Arc::new(RedisSentinel::start())),
        Topology::Cluster => BusServer::Cluster(Arc::new(RedisCluster::start_with_replicas())),
    };
    let database = (topology != Topology::Alone).then(|| Arc::new(Database::start()));
    // Other servers than a single Redis tell nodes addresses that an island does not reach.
    let wants_island = network == Network::WithIsland && topology == Topology::Standalone;
    let island = wants_island.then(Island::make).and_then(|made| match made {
        Ok(island) => Some(Arc::new(island)),
        Err(error) => {
            eprintln!("no network namespace for a node ({error:#}): its cable to Redis stays in");
            None
        }
    });
    (bus, database, island)
}

/// The address of a node's second port, which is as free as its first one: on loopback at another address of it, elsewhere beside it.
fn stomp_address(address: SocketAddr) -> SocketAddr {
    if address.ip().is_loopback() {
        SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)), address.port())
    } else {
        SocketAddr::new(address.ip(), address.port() + 1)
    }
}

/// Starts a node on a free port with these settings.
fn node(broker: &Path, settings: &[String], island: Option<&Island>) -> Process {
    let address = island.map_or(LOCALHOST, Island::address);
    Process::launch("node", "bongsu listens on", |directory, port| {
        let file = directory.join("bongsu.toml");
        // Policies are tables, which only a file can hold. Who is not on loopback must say who may do what.
        let contents = format!(
            "[auth.anonymous]\nsubscribe = [\"#\"]\npublish = [\"#\"]\n\
             [[topics]]\nfilter = \"{SHORT_FILTER}\"\nretention = {{ count = 20 }}\n"
        );
        fs::write(&file, contents).expect("the directory is ours");
        let mut command: Vec<OsString> = Vec::new();
        command.extend(island.into_iter().flat_map(Island::prefix).map(OsString::from));
        command.push(broker.into());
        command.extend(["serve", "--listen", &format!("{address}:{port}")].map(OsString::from));
        command.extend(["--config".into(), file.into(), "--data".into(), directory.join("data").into()]);
        // Dead connections are noticed within twice the interval; a farewell need not be spread over a handful of clients.
        let ours = [
            "websocket.ping_interval=2s",
            "limits.connect_rate=1000000",
            "cluster.lease=3s",
            "drain.spread=200ms",
        ];
        let stomp = format!("stomp.listen={}", stomp_address(SocketAddr::new(address, port)));
        for setting in ours.into_iter().map(str::to_owned).chain([stomp]).chain(settings.iter().cloned()) {
            command.extend(["--set".into(), setting.into()]);
        }
        command
    })
}

impl BusServer {
    /// What nodes are told; `link` is the node's own way to a single server.
    fn url(&self, link: Option<&Proxy>) -> Option<String> {
        match (self, link) {
            (Self::None, _) => None,
            (Self::Standalone(redis), None) => Some(redis.url()),
            (Self::Standalone(_), Some(link)) => Some(format!("redis://{}", link.address())),
            (Self::Sentinel(servers), _) => {
                Some(format!("redis+sentinel://{}/{}", hosts(&servers.sentinel_ports()), RedisSentinel::NAME))
            }
            (Self::Cluster(servers), _) => Some(format!(
                "redis+cluster://{}",
                hosts(&servers.nodes().iter().map(Redis::port).collect::<Vec<_>>())
            )),
        }
    }
}

fn hosts(ports: &[u16]) -> String {
    ports.iter().map(|port| format!("127.0.0.1:{port}")).collect::<Vec<_>>().join(",")
}

impl Database {
    fn start() -> Self {
        let primary = Postgres::start();
        let standby = primary.standby();
        Self { servers: [primary, standby], primary: Mutex::new(0) }
    }

    /// Both servers, of which a node finds the one that takes writes. An island reaches them through proxies.
    async fn url(&self, island: Option<&Island>) -> anyhow::Result<String> {
        let mut hosts = Vec::new();
        for server in &self.servers {
            let server = at(server.port());
            hosts.push(match island {
                Some(island) => Proxy::start(island.gateway(), vec![server]).await?.address().to_string(),
                None => server.to_string(),
            });
        }
        Ok(format!("postgres://postgres@{}/postgres", hosts.join(",")))
    }

    /// The server that takes writes.
    pub(crate) fn primary(&self) -> &Postgres {
        &self.servers[*self.primary.lock().unwrap_or_else(PoisonError::into_inner)]
    }

    /// Ends the primary at once and puts the standby in its place, with everything that was acknowledged.
    pub(crate) fn fail_over(&self) {
        let mut primary = self.primary.lock().unwrap_or_else(PoisonError::into_inner);
        self.servers[*primary].kill();
        self.servers[1 - *primary].promote();
        *primary = 1 - *primary;
    }

    /// Makes the server that was ended the standby of the other.
    pub(crate) fn mend(&self) {
        let primary = *self.primary.lock().unwrap_or_else(PoisonError::into_inner);
        self.servers[1 - primary].follow(&self.servers[primary]);
    }
}

/// The broker's binary: `BONGSU_BIN`, or the one beside this program.
///
/// # Errors
/// There is none; what to build.
pub(crate) fn broker() -> anyhow::Result<PathBuf> {
    let this = std::env::current_exe()?;
    // Tests lie one directory below the programs.
    let beside = this.ancestors().skip(1).take(2).map(|directory| directory.join("bongsu"));
    let chosen = std::env::var_os("BONGSU_BIN").map(PathBuf::from);
    let found = chosen.into_iter().chain(beside).find(|path| path.is_file());
    found.context(
        "there is no broker to break: build it with `cargo build -p bongsu`, or name it in BONGSU_BIN",
    )
}
