//! The faults: what each does, and when it is over.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use tokio::sync::Notify;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use crate::proxy::Way;
use crate::world::{BusServer, Database, Topology, World};

macro_rules! faults {
    ($($(#[doc = $text:literal])+ $name:ident = $shown:literal;)+) => {
        /// A way to break something.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Fault {
            $($(#[doc = $text])+ $name,)+
        }

        impl Fault {
            /// All of them, in the order of a report.
            pub(crate) const ALL: &[Self] = &[$(Self::$name),+];

            const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $shown,)+
                }
            }
        }
    };
}

faults! {
    /// A node is killed and started again at once.
    KillNode = "`kill -9` of a node";
    /// Two nodes are killed together.
    KillTwoNodes = "`kill -9` of two nodes of three";
    /// A node is ended by SIGTERM and started again, as on a deploy.
    RollNode = "SIGTERM of a node, then a new one";
    /// A node is stopped for some seconds.
    PauseNode = "SIGSTOP of a node";
    /// Clients of one node are cut off, and find another.
    CutClients = "connections of a node's clients cut";
    /// Bytes between one node and its clients go nowhere.
    FreezeClients = "network between a node and its clients dead";
    /// A node's way to Redis swallows everything, while clients and Postgres reach it.
    CutFromRedis = "proxy between a node and Redis dead";
    /// The same for packets, in a network namespace.
    Unplug = "network between a node and Redis cut";
    /// Redis is stopped for some seconds.
    PauseRedis = "SIGSTOP of Redis";
    /// Redis is ended and started again, empty.
    RestartRedis = "Redis restarted";
    /// Everything in Redis is gone.
    FlushRedis = "`FLUSHALL`";
    /// Connections with subscriptions are cut by Redis.
    KillPubSub = "`CLIENT KILL TYPE pubsub`";
    /// All connections are cut by Redis.
    KillRedisClients = "`CLIENT KILL`, all connections";
    /// Redis is frozen and a node killed meanwhile.
    KillNodeWithoutRedis = "`kill -9` of a node while Redis is frozen";
    /// The replica takes over in good order.
    SentinelFailover = "Sentinel failover, ordered";
    /// The primary is killed.
    SentinelLoss = "Sentinel failover, `kill -9` of the primary";
    /// Some slots change their master.
    MoveSlots = "Cluster slots migrated";
    /// A master of the Cluster is killed.
    ClusterLoss = "Cluster master lost";
    /// Postgres is ended in good order and started again.
    RestartPostgres = "Postgres restarted";
    /// Postgres is killed and started again.
    KillPostgres = "`kill -9` of Postgres";
    /// Postgres is stopped for some seconds.
    PausePostgres = "SIGSTOP of Postgres";
    /// The primary is killed and the standby takes its place.
    Promote = "Postgres primary lost, standby promoted";
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl Fault {
    /// Those that a topology can have, more than once those that shall be frequent.
    pub(crate) fn deck(topology: Topology) -> Vec<Self> {
        let on_nodes =
            [Self::KillNode, Self::RollNode, Self::PauseNode, Self::CutClients, Self::FreezeClients];
        let on_postgres = [Self::RestartPostgres, Self::KillPostgres, Self::PausePostgres, Self::Promote];
        let on_redis: &[Self] = match topology {
            Topology::Alone => return on_nodes.to_vec(),
            Topology::Standalone => &[
                Self::CutFromRedis,
                Self::Unplug,
                Self::PauseRedis,
                Self::RestartRedis,
                Self::FlushRedis,
                Self::KillPubSub,
                Self::KillRedisClients,
                Self::KillNodeWithoutRedis,
            ],
            Topology::Sentinel => return vec![Self::SentinelFailover, Self::SentinelLoss, Self::KillNode],
            Topology::Cluster => return vec![Self::MoveSlots, Self::ClusterLoss, Self::KillNode],
        };
        // A node dies more often than anything else.
        let often = [Self::KillNode, Self::KillNode, Self::KillTwoNodes];
        [&often, on_nodes.as_slice(), on_redis, &on_postgres].concat()
    }

    /// Breaks, holds, mends. Tells `struck` at the moment from which recovery counts, unless that is the end.
    pub(crate) async fn inject(
        self,
        world: &World,
        random: &mut StdRng,
        struck: &Arc<Notify>,
    ) -> anyhow::Result<()> {
        let hold = Duration::from_millis(random.random_range(500..2500));
        let node = random.random_range(0..world.nodes.len());
        match self {
            Self::KillNode => world.restart_nodes(&[node], struck).await?,
            Self::KillTwoNodes => {
                let mut nodes: Vec<usize> = (0..world.nodes.len()).collect();
                nodes.shuffle(random);
                world.restart_nodes(&nodes[..2], struck).await?;
            }
            Self::RollNode => {
                let node = Arc::clone(&world.nodes[node]);
                struck.notify_one();
                spawn_blocking(move || {
                    node.stop();
                    node.start_again();
                })
                .await?;
            }
            Self::PauseNode => {
                world.nodes[node].pause();
                sleep(hold).await;
                world.nodes[node].resume();
            }
            Self::CutClients => {
                world.set_way_of_clients(node, Way::Cut);
                struck.notify_one();
                sleep(hold).await;
                world.set_way_of_clients(node, Way::Open);
            }
            Self::FreezeClients => {
                world.set_way_of_clients(node, Way::Frozen);
                sleep(hold).await;
                world.set_way_of_clients(node, Way::Open);
            }
            Self::CutFromRedis => {
                world.links[node].set(0, Way::Frozen);
                sleep(hold).await;
                world.links[node].set(0, Way::Open);
            }
            Self::Unplug => {
                let island = world.island.as_ref().context("no node is on an island")?;
                island.unplug()?;
                sleep(hold).await;
                island.plug()?;
            }
            Self::PauseRedis | Self::KillNodeWithoutRedis => {
                let redis = world.redis();
                redis.pause();
                if self == Self::KillNodeWithoutRedis {
                    world.restart_nodes(&[node], &Arc::new(Notify::new())).await?;
                }
                sleep(hold).await;
                redis.resume();
            }
            Self::RestartRedis | Self::FlushRedis | Self::KillPubSub | Self::KillRedisClients => {
                self.strike_redis(world, struck).await?;
            }
            Self::SentinelFailover | Self::SentinelLoss => self.strike_sentinel(world, struck).await?,
            Self::MoveSlots | Self::ClusterLoss => self.strike_cluster(world, random, struck).await?,
            Self::PausePostgres => {
                let database = world.database()?;
                database.primary().pause();
                sleep(hold).await;
                database.primary().resume();
            }
            Self::RestartPostgres | Self::KillPostgres | Self::Promote => self.strike_postgres(world).await?,
        }
        Ok(())
    }

    /// Whether recovery counts from the end of the fault: while it lasts, somebody can do nothing, or nothing is amiss yet.
    pub(crate) const fn counts_from_its_end(self) -> bool {
        match self {
            Self::KillNode
            | Self::KillTwoNodes
            | Self::RollNode
            | Self::CutClients
            | Self::RestartRedis
            | Self::FlushRedis
            | Self::KillPubSub
            | Self::KillRedisClients
            | Self::SentinelLoss
            | Self::ClusterLoss => false,
            Self::PauseNode
            | Self::FreezeClients
            | Self::CutFromRedis
            | Self::Unplug
            | Self::PauseRedis
            | Self::KillNodeWithoutRedis
            | Self::SentinelFailover
            | Self::MoveSlots
            | Self::RestartPostgres
            | Self::KillPostgres
            | Self::PausePostgres
            | Self::Promote => true,
        }
    }

    async fn strike_redis(self, world: &World, struck: &Arc<Notify>) -> anyhow::Result<()> {
        let (redis, struck) = (world.redis(), Arc::clone(struck));
        spawn_blocking(move || match self {
            Self::RestartRedis => {
                redis.stop();
                struck.notify_one();
                redis.start_again();
            }
            Self::FlushRedis => drop(redis.cli(&["FLUSHALL"])),
            Self::KillPubSub => drop(redis.cli(&["CLIENT", "KILL", "TYPE", "pubsub"])),
            _ => {
                redis.cli(&["CLIENT", "KILL", "TYPE", "pubsub"]);
                redis.cli(&["CLIENT", "KILL", "TYPE", "normal"]);
            }
        })
        .await?;
        Ok(())
    }

    async fn strike_sentinel(self, world: &World, struck: &Arc<Notify>) -> anyhow::Result<()> {
        let BusServer::Sentinel(servers) = world.bus.clone() else { anyhow::bail!("there are no sentinels") };
        let struck = Arc::clone(struck);
        spawn_blocking(move || {
            if self == Self::SentinelFailover {
                servers.failover();
            } else {
                struck.notify_one();
                servers.kill_primary();
                servers.restart_ended();
            }
        })
        .await?;
        Ok(())
    }

    async fn strike_cluster(
        self,
        world: &World,
        random: &mut StdRng,
        struck: &Arc<Notify>,
    ) -> anyhow::Result<()> {
        let BusServer::Cluster(servers) = world.bus.clone() else { anyhow::bail!("there is no Cluster") };
        let (idx, n_slots) = (random.random_range(0..3), random.random_range(50..200));
        let struck = Arc::clone(struck);
        spawn_blocking(move || {
            let masters = servers.masters();
            if self == Self::MoveSlots {
                servers.move_slots(masters[idx], masters[(idx + 1) % masters.len()], n_slots);
            } else {
                struck.notify_one();
                servers.kill_node(masters[idx]);
                servers.restart_node(masters[idx]);
            }
        })
        .await?;
        Ok(())
    }

    async fn strike_postgres(self, world: &World) -> anyhow::Result<()> {
        let database = world.database()?;
        spawn_blocking(move || match self {
            Self::RestartPostgres => database.primary().restart(),
            Self::KillPostgres => {
                database.primary().kill();
                database.primary().start_again();
            }
            _ => database.fail_over(),
        })
        .await?;
        Ok(())
    }

    /// What has to be put in order after recovery was measured, before the next fault.
    pub(crate) async fn clean_up(self, world: &World) -> anyhow::Result<()> {
        if let (Self::Promote, Some(database)) = (self, world.database.clone()) {
            spawn_blocking(move || database.mend()).await?;
        }
        Ok(())
    }
}

impl World {
    /// Kills nodes together, tells `struck`, and starts them again.
    async fn restart_nodes(&self, nodes: &[usize], struck: &Arc<Notify>) -> anyhow::Result<()> {
        let nodes: Vec<_> = nodes.iter().map(|idx| Arc::clone(&self.nodes[*idx])).collect();
        let struck = Arc::clone(struck);
        spawn_blocking(move || {
            nodes.iter().for_each(|node| node.kill());
            struck.notify_one();
            nodes.iter().for_each(|node| node.start_again());
        })
        .await?;
        Ok(())
    }

    fn database(&self) -> anyhow::Result<Arc<Database>> {
        self.database.clone().context("there is no Postgres")
    }

    fn redis(&self) -> Arc<bongsu_testkit::Redis> {
        match &self.bus {
            BusServer::Standalone(redis) => Arc::clone(redis),
            _ => unreachable!("the deck of this topology has no fault of a single Redis"),
        }
    }
}
