//! The bus over Redis, or a server that speaks like it.
//!
//! A `link::Link` is the way to one server. `routes::Routes` say which link a channel goes through: one server alone, the
//! master that sentinels name, one of several that know nothing of each other, or the masters of a Redis Cluster.
//! `subscriptions::Subscriptions` decide what to ask a server for, and are pure.
//!
//! `docs/redis.md` has what an operator must know.

mod access;
mod address;
mod cluster;
mod commands;
mod link;
mod routes;
mod sentinel;
mod servers;
mod session;
mod slots;
mod subscriptions;
#[cfg(test)]
mod subscriptions_model;
mod wire;

use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::{self, BoxFuture};
use tokio::sync::Notify;

use self::address::{Kind, Server};
use self::link::{Common, Link};
use self::routes::Routes;
use self::sentinel::Sentinels;
use self::session::Source;
use self::wire::{Dialect, Wire};
use super::health::Board;
use super::{Bounds, Bus, Channel, Error, Frame, Inbox};

pub use commands::{Commands, Script};
pub use servers::{Servers, SettingsError};

/// Carries frames over Redis' pub/sub.
///
/// It keeps its connections until it and every [`Commands`] of it are dropped.
#[derive(Debug)]
pub struct RedisBus {
    routes: Arc<Routes>,
}

impl RedisBus {
    /// Begins to connect. Waits for nobody: until there is a connection, the bus is [degraded](super::Health::Degraded).
    #[must_use]
    pub fn start(servers: Servers) -> (Self, Inbox) {
        let (intake, inbox) = Inbox::new(Bounds::default());
        let intake = Arc::new(intake);
        let board = Arc::new(Board::new(Arc::clone(&intake)));
        let Servers { kind, access, sentinel_access, cluster } = servers;
        let dialect = if matches!(kind, Kind::Cluster(_)) { Dialect::Sharded } else { Dialect::Plain };
        let wire = Arc::new(Wire::new(&cluster, dialect));
        let common = Common { intake, board, wire, remap: Arc::new(Notify::new()) };
        let link = |server: Server| {
            let source = Source::Fixed { access: access.clone(), server: server.clone() };
            Arc::new(Link::start(server.to_string(), source, common.clone()))
        };
        let links = match kind {
            Kind::Cluster(seeds) => {
                return (Self { routes: cluster::start(access, seeds, &common) }, inbox);
            }
            Kind::Standalone(server) => vec![link(server)],
            Kind::Sharded(servers) => servers.into_iter().map(link).collect(),
            Kind::Sentinel { sentinels, master } => {
                let sentinels = Sentinels::new(sentinel_access, master.clone(), sentinels);
                let source = Source::Sentinel { access, sentinels };
                vec![Arc::new(Link::start(format!("master {master}"), source, common.clone()))]
            }
        };
        (Self { routes: Arc::new(Routes::fixed(common, links)) }, inbox)
    }

    /// A handle for commands to the same servers.
    #[must_use]
    pub fn commands(&self) -> Commands {
        Commands::new(Arc::clone(&self.routes))
    }
}

impl Bus for RedisBus {
    fn publish(&self, frames: Vec<Frame>) -> BoxFuture<'_, Result<(), Error>> {
        let publish = async move {
            let parts = self.routes.split_frames(frames);
            let calls = parts.into_iter().map(|(link, frames)| async move { link.publish(frames).await });
            // Every part is tried to its end: one server that is away is no reason to keep frames from the others.
            future::join_all(calls).await.into_iter().collect()
        };
        publish.boxed()
    }

    fn subscribe(&self, channels: Vec<Channel>) -> BoxFuture<'_, Result<(), Error>> {
        let waiting = self.routes.want(channels);
        async move { future::try_join_all(waiting.into_iter().map(link::Waiting::wait)).await.map(drop) }
            .boxed()
    }

    fn unsubscribe(&self, channels: Vec<Channel>) {
        self.routes.unwant(channels);
    }
}
