//! What becomes of a connection that the node has no place for.
//!
//! A few at a time are served all the same, to tell each client in its own words that it is to come back: see
//! [`http::turned_away`](crate::http::turned_away). More are closed without a byte, which every client takes for a reason to try again; so
//! are connections under TLS that come too fast, since the handshake is what the rate saves.

use std::sync::Arc;

use axum::Router;
use hyper_util::service::TowerToHyperService;
use tokio::sync::Semaphore;

use super::serving::{Accepted, Ways};
use super::{health, websocket};
use crate::http::{self, Why};
use crate::limits::{TURNED_AWAY_AT_ONCE_MAX, TURNED_AWAY_TIME};
use crate::node::Node;
use crate::websocket::handshake::Origins;

/// The lane of those who are turned away.
pub(super) struct Overflow {
    places: Arc<Semaphore>,
    services: [(Why, TowerToHyperService<Router>); 4],
}

impl Overflow {
    pub(super) fn new(node: &Arc<Node>, origins: &Origins) -> Self {
        let own_hosts = websocket::own_hosts(node.settings());
        let service = |why| {
            let routes = health::of_life().merge(http::turned_away(node, origins.clone(), own_hosts, why));
            TowerToHyperService::new(routes.with_state(Arc::clone(node)))
        };
        Self {
            places: Arc::new(Semaphore::new(TURNED_AWAY_AT_ONCE_MAX)),
            services: [Why::Full, Why::TooFast, Why::AddressFull, Why::AddressTooFast]
                .map(|why| (why, service(why))),
        }
    }

    /// Tells a client to come back, or closes its connection.
    pub(super) fn turn_away(&self, node: &Arc<Node>, accepted: Accepted, why: Why) {
        if matches!(why, Why::TooFast | Why::AddressTooFast) && accepted.tls.is_some() {
            return;
        }
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else { return };
        let Some((_, service)) = self.services.iter().find(|(reason, _)| *reason == why) else { return };
        let ways = Ways::new(node, accepted.source, None, service.clone());
        let serving = tokio::time::timeout(TURNED_AWAY_TIME, accepted.serve(ways, false));
        tokio::spawn(async move {
            // Who has not asked by then is not told.
            drop(serving.await);
            drop(place);
        });
    }
}
