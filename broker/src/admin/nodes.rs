//! The nodes of the cluster, and how each is.

use bongsu_admin_api::Error;
use bongsu_admin_api::resources::nodes::{Counters, Node, NodeList, Nodes, Part, Status};
use bongsu_admin_api::time::Timestamp;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::Admin;
use crate::bus::Health;
use crate::metrics::METRICS;

impl Nodes for Admin {
    fn nodes(&self) -> BoxFuture<'_, Result<NodeList, Error>> {
        async {
            let (own, (mut nodes, missing)) =
                futures_util::future::join(self.status(), self.ask_all::<Node>("/$node/status")).await;
            nodes.push(own);
            nodes.sort_by(|a, b| (&a.name, a.started).cmp(&(&b.name, b.started)));
            Ok(NodeList { nodes, missing })
        }
        .boxed()
    }
}

impl Admin {
    /// How this node is.
    pub(super) async fn status(&self) -> Node {
        let node = &self.node;
        node.measure();
        let unwell = |status, reason| Part { status, reason: Some(reason), latency_ms: None };
        let store = match node.store_latency().await {
            Ok(took) => {
                Part { status: Status::Ok, reason: None, latency_ms: Some(took.as_secs_f64() * 1000.0) }
            }
            Err(reason) => unwell(Status::Unavailable, reason),
        };
        let bus = node.bus_health().map(|health| match health {
            Health::Live => Part { status: Status::Ok, reason: None, latency_ms: None },
            Health::Degraded { reason } => unwell(Status::Degraded, reason),
        });
        Node {
            name: node.name().to_owned(),
            address: node.settings().listen.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: Timestamp::from_millis(node.started_ms()),
            connections: node.connections() as u64,
            connections_max: METRICS.connections_max.get(),
            readers_behind: METRICS.readers_behind.get(),
            queues: METRICS.queues.get(),
            counters: counters(),
            store,
            bus,
            draining: node.drain().has_begun(),
        }
    }
}

fn counters() -> Counters {
    Counters {
        messages_in: METRICS.published.get(),
        messages_out: METRICS.offered.get(),
        messages_refused: METRICS.publish_refused.get(),
        bytes_in: METRICS.bytes_in.get(),
        bytes_out: METRICS.bytes_out.get(),
        accepted: METRICS.accepted.get(),
        turned_away: METRICS.turned_away.get(),
        handshakes_refused: METRICS.handshakes_refused.get(),
        sessions_began: METRICS.opened.get(),
        sessions_ended: METRICS.closed.get(),
        kicked: METRICS.kicked.get(),
        store_errors: METRICS.store_failures.get(),
    }
}
