//! The administrators' port: health and metrics for probes and scrapers, and nothing for clients.
//!
//! It has connections of its own, so that a node whose port of clients is full still tells how it is, and it answers until the process
//! ends, so that a node that drains can be watched.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::body::Body;
use hyper::server::conn::http1;
use hyper::service::Service as _;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::health::{self, Audience};
use super::introduced;
use crate::config::Port;
use crate::limits::{ADMIN_CONNECTIONS_MAX, HTTP_HEADER_BYTES_MAX};
use crate::node::Node;
use crate::peers::Source;

/// A bound port for administrators, not yet served.
#[derive(Debug)]
pub struct AdminListener {
    tcp: TcpListener,
}

impl AdminListener {
    /// Binds `admin.listen`; `None` if it is not set.
    ///
    /// # Errors
    /// The address is taken, or none of this machine's.
    pub async fn bind(node: &Node) -> anyhow::Result<Option<Self>> {
        let Some(address) = node.settings().admin.listen else { return Ok(None) };
        let tcp = TcpListener::bind(address).await.with_context(|| {
            format!("cannot listen on {address}: choose another address with --set admin.listen=…")
        })?;
        Ok(Some(Self { tcp }))
    }

    /// Where it is found.
    ///
    /// # Errors
    /// The operating system's.
    pub fn url(&self) -> anyhow::Result<String> {
        Ok(format!("http://{}/", self.tcp.local_addr()?))
    }

    /// Answers until it is aborted.
    pub async fn serve(self, node: Arc<Node>) {
        let service =
            TowerToHyperService::new(health::routes(Audience::Operators).with_state(Arc::clone(&node)));
        let places = Arc::new(Semaphore::new(ADMIN_CONNECTIONS_MAX));
        loop {
            let (stream, peer) = match self.tcp.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of open files, mostly.
                    tracing::warn!(%error, "accepting a connection of an administrator failed");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
            let (node, service) = (Arc::clone(&node), service.clone());
            tokio::spawn(async move {
                answer(stream, peer, service, &node).await;
                drop(place);
            });
        }
    }
}

/// Answers one connection's requests. A client that sends none in time is cut off, also between two of them: a prober comes again.
async fn answer(stream: TcpStream, peer: SocketAddr, service: TowerToHyperService<Router>, node: &Arc<Node>) {
    let source = Source::direct(peer, false);
    let (stream, source) = if node.proxies().introduces(Port::Admin, peer) {
        let Some(introduced) = introduced(node, stream, source).await else { return };
        introduced
    } else {
        (stream, source)
    };
    let proxies = Arc::clone(node);
    let service = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
        let mut request = request.map(Body::new);
        let source = proxies.proxies().source(source, request.headers());
        request.extensions_mut().insert(source);
        service.call(request)
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(node.settings().http.header_timeout)
        .max_buf_size(HTTP_HEADER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, %peer, "a connection of an administrator ended early");
    }
}
