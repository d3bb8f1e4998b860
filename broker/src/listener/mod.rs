//! Where clients connect: one port for HTTP/1.1, HTTP/2, WebSocket over either, and TLS around them; and those of STOMP over TCP.

mod admin;
mod health;
mod pages;
mod peers;
pub mod sockjs;
mod stomp;
mod tls;
mod websocket;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::body::Body;
use hyper::service::Service as _;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OwnedSemaphorePermit;

use crate::clock;
use crate::config::PublishRate;
use crate::connection::Duplex;
use crate::drain::Phase;
use crate::limits::{HANDSHAKE_TIMEOUT, HTTP_HEADER_BYTES_MAX, LISTEN_BACKLOG, TURNED_AWAY_RETRY_SECONDS};
use crate::metrics::METRICS;
use crate::node::Node;
use crate::pace::Pace;
use crate::peers::Source;
use crate::websocket::handshake::Origins;

pub use admin::AdminListener;
pub use stomp::StompListener;

use sockjs::{Admitted, Service};

/// A bound socket, not yet served.
#[derive(Debug)]
pub struct Listener {
    tcp: TcpListener,
    tls: Option<tls::Acceptor>,
    /// Whose pages may connect.
    origins: Origins,
    /// The SockJS services.
    services: Vec<Service>,
    /// Where other nodes forward to.
    peers: Option<TcpListener>,
}

impl Listener {
    /// Binds the address of the settings and reads the certificate, if there is one.
    ///
    /// # Errors
    /// With what to do: the address is taken, the files are no certificate and key, an allowed origin is none.
    pub fn bind(node: &Node) -> anyhow::Result<Self> {
        let settings = node.settings();
        // RFC 7301: HTTP/2 for clients that open many streams, HTTP/1.1 for all others.
        let tls = tls::Acceptor::from_settings(&settings.tls, &[b"h2", b"http/1.1"])?;
        let origins = websocket::origins(&settings.http.allowed_origins)?;
        let address = settings.listen;
        let tcp = bind(address)
            .with_context(|| format!("cannot listen on {address}: choose another address with --listen"))?;
        let services = Service::of_settings(node);
        let peers = node.peers().take_gate().map(TcpListener::from_std).transpose()?;
        Ok(Self { tcp, tls, origins, services, peers })
    }

    /// The same with these SockJS services, instead of those of the settings.
    #[must_use]
    pub fn with_services(self, services: Vec<Service>) -> Self {
        Self { services, ..self }
    }

    /// Where clients find it.
    ///
    /// # Errors
    /// The operating system's.
    pub fn url(&self) -> anyhow::Result<String> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        Ok(format!("{scheme}://{}/", self.tcp.local_addr()?))
    }

    /// Accepts connections until the node drains.
    pub async fn serve(self, node: Arc<Node>) {
        let Self { tcp, tls, origins, services, peers } = self;
        let service = TowerToHyperService::new(routes(&node, origins, services));
        if let Some(gate) = peers {
            // Until the process ends: sessions of this node are sent away through other nodes, too.
            tokio::spawn(peers::serve(gate, Arc::clone(&node), service.clone()));
        }
        let refuse = |why| match why {
            TurnedAway::TooFast => http_refusal("429 Too Many Requests"),
            TurnedAway::Full => http_refusal("503 Service Unavailable"),
        };
        accept(tcp, &node, refuse, |accepted| {
            tokio::spawn(accepted.serve(Arc::clone(&node), tls.clone(), service.clone()));
        })
        .await;
    }
}

/// A socket that waits for connections.
fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(LISTEN_BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Why a connection gets no place.
#[derive(Debug, Clone, Copy)]
enum TurnedAway {
    /// Too many came in the last second.
    TooFast,
    /// The node has as many as it takes.
    Full,
}

/// Accepts connections until the node drains. Those that have a place are `take`n; others are sent what `refuse` says and closed, without
/// a task or anything else: what a node does when it has no room for either.
async fn accept(
    tcp: TcpListener,
    node: &Node,
    refuse: impl Fn(TurnedAway) -> String,
    mut take: impl FnMut(Accepted),
) {
    let mut phase = node.drain().subscribe();
    let rate = at_most_a_second_at_once(node.settings().limits.connect_rate);
    let mut pace = Pace::default();
    let turn_away = |stream: &TcpStream, why| {
        METRICS.turned_away.add(1);
        // A fresh socket has room for this; one that has not loses only the reason.
        let _ = SockRef::from(stream).send(refuse(why).as_bytes());
    };
    loop {
        let accepted = tokio::select! {
            biased;
            _ = phase.wait_for(|phase| *phase == Phase::Draining) => return,
            accepted = tcp.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of open files, mostly: the connections there are go on, and some will end.
                tracing::warn!(%error, "accepting a connection failed");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        METRICS.accepted.add(1);
        if pace.take(rate, clock::monotonic()).is_err() {
            turn_away(&stream, TurnedAway::TooFast);
            continue;
        }
        let Some(admission) = node.admit() else {
            turn_away(&stream, TurnedAway::Full);
            continue;
        };
        take(Accepted { stream, peer, admission });
    }
}

/// A connection that has a place, before it said what it wants.
struct Accepted {
    stream: TcpStream,
    peer: SocketAddr,
    admission: OwnedSemaphorePermit,
}

impl Accepted {
    async fn serve(self, node: Arc<Node>, tls: Option<tls::Acceptor>, service: TowerToHyperService<Router>) {
        let Self { stream, peer, admission } = self;
        if let Err(error) = tune(&stream, &node) {
            tracing::debug!(%error, %peer, "a socket could not be set up");
            return;
        }
        let admission = Arc::new(std::sync::Mutex::new(Some(admission)));
        match tls {
            // Boxed, so that a connection without TLS does not hold the place for one with it.
            None => {
                let source = Source { address: peer, is_tls: false };
                Box::pin(serve_http(&node, stream, source, &admission, service)).await;
            }
            Some(tls) => match tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
                Ok(Ok(stream)) => {
                    let source = Source { address: peer, is_tls: true };
                    Box::pin(serve_http(&node, stream, source, &admission, service)).await;
                }
                Ok(Err(error)) => tracing::debug!(%error, %peer, "a TLS handshake failed"),
                Err(_) => tracing::debug!(%peer, "a TLS handshake took too long"),
            },
        }
    }
}

/// The place of a connection, until a WebSocket takes it over; an extension of each request.
type Admission = Arc<std::sync::Mutex<Option<OwnedSemaphorePermit>>>;

async fn serve_http(
    node: &Node,
    stream: impl Duplex + 'static,
    source: Source,
    admission: &Admission,
    service: TowerToHyperService<Router>,
) {
    let peer = source.address;
    let admission = Arc::clone(admission);
    let header_timeout = node.settings().http.header_timeout;
    let has_request = Arc::new(AtomicBool::new(false));
    // hyper's own timer begins with the first bytes of HTTP/1.1: who sends none, or half of HTTP/2's, would stay for ever.
    let is_late = has_no_request_after(header_timeout, Arc::clone(&has_request));
    let service = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
        has_request.store(true, Ordering::Relaxed);
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(source);
        request.extensions_mut().insert(Arc::clone(&admission));
        service.call(request)
    });
    let mut server = auto::Builder::new(TokioExecutor::new());
    server
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_buf_size(HTTP_HEADER_BYTES_MAX)
        .http2()
        .timer(TokioTimer::new())
        // RFC 8441: WebSocket over HTTP/2.
        .enable_connect_protocol()
        .keep_alive_interval(Some(node.settings().websocket.ping_interval))
        .max_concurrent_streams(100)
        .max_header_list_size(u32::try_from(HTTP_HEADER_BYTES_MAX).unwrap_or(u32::MAX));
    let connection = server.serve_connection_with_upgrades(TokioIo::new(stream), service);
    let mut phase = node.drain().subscribe();
    tokio::pin!(connection);
    tokio::select! {
        biased;
        _ = phase.wait_for(|phase| *phase == Phase::Draining) => connection.as_mut().graceful_shutdown(),
        result = connection.as_mut() => return note_end(result.as_ref().err().map(AsRef::as_ref), peer),
        () = is_late => {
            METRICS.header_timeouts.add(1);
            return tracing::debug!(%peer, "no request came in time");
        }
    }
    let result = connection.await;
    note_end(result.as_ref().err().map(AsRef::as_ref), peer);
}

/// Waits until a connection has had its time without a request; for ever, if one came by then.
async fn has_no_request_after(timeout: Duration, has_request: Arc<AtomicBool>) {
    tokio::time::sleep(timeout).await;
    if has_request.load(Ordering::Relaxed) {
        std::future::pending().await
    }
}

fn note_end(error: Option<&(dyn std::error::Error + Send + Sync + 'static)>, peer: SocketAddr) {
    if let Some(error) = error {
        if error.downcast_ref().is_some_and(hyper::Error::is_timeout) {
            METRICS.header_timeouts.add(1);
        }
        tracing::debug!(%error, %peer, "an HTTP connection ended early");
    }
}

fn routes(node: &Arc<Node>, origins: Origins, services: Vec<Service>) -> Router {
    let own_hosts = websocket::own_hosts(node.settings());
    let bodies = Arc::default();
    let http = crate::http::routes(node, origins.clone(), own_hosts, &bodies);
    let admitted = Admitted { origins: origins.clone(), own_hosts };
    let sockjs = sockjs::routes(node, services, &admitted, &bodies);
    let websocket = websocket::routes(node, origins);
    let health = health::routes(health::Audience::Clients);
    Router::new()
        .merge(pages::routes())
        .merge(health)
        .merge(websocket)
        .merge(http)
        .merge(sockjs)
        .with_state(Arc::clone(node))
}

/// Sets what every connection's socket needs.
fn tune(stream: &TcpStream, node: &Node) -> std::io::Result<()> {
    let websocket = &node.settings().websocket;
    // Without it, a small message may wait 40 ms for the acknowledgment of the one before.
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_send_buffer_size(websocket.send_buffer_bytes.as_usize())?;
    // A peer that vanished is noticed by the kernel, also where nothing is read; later than by us, who know the reason.
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(websocket.write_timeout.saturating_mul(2)))?;
    Ok(())
}

fn http_refusal(status: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nretry-after: {TURNED_AWAY_RETRY_SECONDS}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
    )
}

/// How fast connections are admitted: at most a second's worth at once.
const fn at_most_a_second_at_once(per_second: u32) -> PublishRate {
    PublishRate { per_second, burst: per_second }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_past_the_rate_are_turned_away() {
        let rate = at_most_a_second_at_once(10);
        let mut pace = Pace::default();
        let admitted = (0..20).filter(|_| pace.take(rate, Duration::from_secs(5)).is_ok()).count();
        assert_eq!(admitted, 10);
        assert!(pace.take(rate, Duration::from_millis(5100)).is_ok());
        assert!(pace.take(rate, Duration::from_millis(5100)).is_err());
    }
}
