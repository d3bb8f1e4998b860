//! The administrators' port: the console, the admin API, health and metrics for probes and scrapers, and nothing for clients.
//!
//! It has connections of its own, so that a node whose port of clients is full still tells how it is, and it answers until the process
//! ends, so that a node that drains can be watched.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::body::Body;
use bongsu_admin_api::{Gatekeeper, Shared};
use hyper::server::conn::http1;
use hyper::service::Service as _;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::health::{self, Audience};
use super::{introduced, tls};
use crate::admin::{self, Admin};
use crate::config::Port;
use crate::connection::Duplex;
use crate::limits::{ADMIN_CONNECTIONS_MAX, HANDSHAKE_TIMEOUT, HTTP_HEADER_BYTES_MAX};
use crate::node::Node;
use crate::peers::Source;

/// Who said which port it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdminPort {
    /// The operator: if it is taken, the node does not start.
    Chosen,
    /// Nobody: if it is taken, a free one does as well.
    Derived,
}

/// A bound port for administrators, not yet served.
#[derive(Debug)]
pub struct AdminListener {
    tcp: TcpListener,
    tls: Option<tls::Acceptor>,
}

impl AdminListener {
    /// Binds `admin.listen`; `None` if there is none.
    ///
    /// # Errors
    /// The address is taken, or none of this machine's; the files are no certificate and key.
    pub fn bind(node: &Node, port: AdminPort) -> anyhow::Result<Option<Self>> {
        let settings = node.settings();
        let Some(address) = settings.admin.listen else { return Ok(None) };
        let tls = if settings.admin.tls {
            tls::Acceptor::from_settings(&settings.tls, &[b"http/1.1"])?
        } else {
            None
        };
        let tcp = match super::bind(address) {
            Err(error) if port == AdminPort::Derived && error.kind() == ErrorKind::AddrInUse => {
                tracing::warn!(%address, "another process has the port of administrators: this node takes a free one; see admin.listen");
                super::bind(SocketAddr::new(address.ip(), 0))
            }
            bound => bound,
        };
        let tcp = tcp.with_context(|| {
            format!("cannot listen on {address}: choose another address with --set admin.listen=…")
        })?;
        Ok(Some(Self { tcp, tls }))
    }

    /// Where it is found.
    ///
    /// # Errors
    /// The operating system's.
    pub fn url(&self) -> anyhow::Result<String> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        Ok(format!("{scheme}://{}/", self.tcp.local_addr()?))
    }

    /// Answers until it is aborted.
    pub async fn serve(self, node: Arc<Node>) {
        let service = TowerToHyperService::new(routes(&node));
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
            let answering =
                Box::pin(begin(stream, peer, self.tls.clone(), service.clone(), Arc::clone(&node)));
            tokio::spawn(async move {
                answering.await;
                drop(place);
            });
        }
    }
}

/// Health and metrics for everybody, the API behind its gate.
fn routes(node: &Arc<Node>) -> Router {
    let control: Shared = Arc::new(Admin::new(Arc::clone(node)));
    let gatekeeper: Arc<dyn Gatekeeper> =
        Arc::new(admin::Gatekeeper::new(node.settings(), node.decisions().keys().clone()).with_issuers(node));
    health::routes(Audience::Operators)
        .with_state(Arc::clone(node))
        .merge(bongsu_admin_api::router(control, &gatekeeper))
}

/// Answers one connection's requests, with TLS or without.
async fn begin(
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<tls::Acceptor>,
    service: TowerToHyperService<Router>,
    node: Arc<Node>,
) {
    let source = Source::direct(peer, tls.is_some());
    let (stream, source) = if node.proxies().introduces(Port::Admin, peer) {
        let Some(introduced) = introduced(&node, stream, source).await else { return };
        introduced
    } else {
        (stream, source)
    };
    match tls {
        None => answer(stream, source, service, node).await,
        Some(tls) => match tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
            Ok(Ok(stream)) => answer(stream, source, service, node).await,
            Ok(Err(error)) => tracing::debug!(%error, %peer, "a TLS handshake of an administrator failed"),
            Err(_) => tracing::debug!(%peer, "a TLS handshake of an administrator took too long"),
        },
    }
}

/// Answers one connection's requests. A client that sends none in time is cut off, also between two of them: a prober comes again.
async fn answer<T: Duplex + 'static>(
    stream: T,
    source: Source,
    service: TowerToHyperService<Router>,
    node: Arc<Node>,
) {
    let timeout = node.settings().http.header_timeout;
    let service = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
        let mut request = request.map(Body::new);
        let source = node.proxies().source(source, request.headers());
        request.extensions_mut().insert(source);
        service.call(request)
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(timeout)
        .max_buf_size(HTTP_HEADER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, peer = %source.address, "a connection of an administrator ended early");
    }
}
