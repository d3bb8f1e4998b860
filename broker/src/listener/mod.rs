//! Where clients connect: one port for HTTP/1.1, HTTP/2, WebSocket over either, and TLS around them; and those of STOMP over TCP.

mod admin;
mod health;
mod http1;
mod overflow;
mod pages;
mod peers;
mod selftest;
mod serving;
mod socket;
pub mod sockjs;
mod stomp;
mod tls;
mod websocket;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use hyper_util::service::TowerToHyperService;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::clock;
use crate::config::{Port, PublishRate};
use crate::drain::Phase;
use crate::http::Why;
use crate::limits::{LISTEN_BACKLOG, TURNED_AWAY_AT_ONCE_MAX};
use crate::metrics::{METRICS, Refusal};
use crate::node::Node;
use crate::pace::Pace;
use crate::peers::Source;
use crate::quota::Seat;
use crate::websocket::handshake::Origins;

use overflow::Overflow;
use serving::{Accepted, Admission, Ways};

pub use admin::{AdminListener, AdminPort};
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
        let service = TowerToHyperService::new(routes(&node, origins.clone(), services));
        if let Some(gate) = peers {
            // Until the process ends: sessions of this node are sent away through other nodes, too.
            tokio::spawn(peers::serve(gate, Arc::clone(&node), service.clone()));
        }
        let overflow = Arc::new(Overflow::new(&node, &origins));
        let (port, is_tls) = (Port::Clients, tls.is_some());
        let taker = Arc::clone(&node);
        accept(tcp, &node, Door { port, is_tls }, move |stream, source, place| {
            let accepted = Accepted { stream, source, tls: tls.clone() };
            match place {
                Ok(admission) => {
                    let ways = Ways::new(&taker, source, Some(admission), service.clone());
                    tokio::spawn(accepted.serve(ways, true));
                }
                Err(why) => overflow.turn_away(&taker, accepted, why),
            }
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

/// What is known of every connection that a port accepts.
#[derive(Debug, Clone, Copy)]
struct Door {
    port: Port,
    is_tls: bool,
}

/// Accepts connections until the node drains, each with where it comes from, and its place among the node's connections or the reason why it
/// has none.
async fn accept<T>(tcp: TcpListener, node: &Arc<Node>, door: Door, take: T)
where
    T: Fn(TcpStream, Source, Result<Seat, Why>) + Clone + Send + 'static,
{
    let strangers = Arc::new(Semaphore::new(TURNED_AWAY_AT_ONCE_MAX));
    let mut phase = node.drain().subscribe();
    let rate = at_most_a_second_at_once(node.settings().limits.connect_rate);
    let mut pace = Pace::default();
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
        let place = match pace.take(rate, clock::monotonic()) {
            Ok(()) => node.admit().ok_or(Why::Full),
            Err(_) => Err(Why::TooFast),
        };
        if let Err(why) = place {
            METRICS.turned_away.add(1);
            METRICS.count_refused(match why {
                Why::Full => Refusal::NodeConnections,
                _ => Refusal::NodeConnectRate,
            });
        }
        let source = Source::direct(peer, door.is_tls);
        if !node.proxies().introduces(door.port, peer) {
            take(stream, source, place.and_then(|seat| seated(node, seat, source)));
            continue;
        }
        // Those without a place wait for what their proxy says as others do, but only a few of them.
        let stranger = Arc::clone(&strangers).try_acquire_owned();
        if place.is_err() && stranger.is_err() {
            continue;
        }
        let stranger = stranger.ok().filter(|_| place.is_err());
        let (node, take) = (Arc::clone(node), take.clone());
        tokio::spawn(async move {
            if let Some((stream, source)) = introduced(&node, stream, source).await {
                take(stream, source, place.and_then(|seat| seated(&node, seat, source)));
            }
            drop(stranger);
        });
    }
}

/// The place of a connection among those of its address, unless it is a proxy's that carries those of many.
fn seated(node: &Node, seat: Seat, source: Source) -> Result<Seat, Why> {
    if node.proxies().carries_others(source) {
        return Ok(seat);
    }
    seat.at(node.quotas(), source.address.ip()).map_err(|refused| {
        METRICS.turned_away.add(1);
        match refused.reason {
            Refusal::AddressConnectRate => Why::AddressTooFast,
            _ => Why::AddressFull,
        }
    })
}

/// The connection of a trusted proxy after it said whose it is.
async fn introduced(node: &Node, mut stream: TcpStream, source: Source) -> Option<(TcpStream, Source)> {
    match node.proxies().read_introduction(&mut stream, source).await {
        Ok(told) => Some((stream, told)),
        Err(error) => {
            METRICS.count_refused(Refusal::ProxyProtocol);
            // Of a proxy that is not set up as this node is, none of its clients gets through.
            tracing::warn!(proxy = %source.address, %error, "a trusted proxy did not say whose connection it is");
            None
        }
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
        .merge(selftest::routes())
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
