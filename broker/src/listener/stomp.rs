//! STOMP over bare TCP and over TLS: for clients that have no WebSocket, among them every Spring application whose broker this is.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bongsu_protocol::stomp::conversation;
use bongsu_protocol::stomp::destination::{Dots as DestinationDots, PlainNames, Vocabulary};
use bytes::Bytes;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};

use super::{Door, accept, bind, tls, tune};
use crate::config::{Dots, Port};
use crate::connection::{self, Framing, Io, Opened};
use crate::dialog::Language;
use crate::http::Why;
use crate::limits::KEEPALIVE_AFTER;
use crate::node::Node;
use crate::quota::Seat;

/// A bound port for STOMP, not yet served.
#[derive(Debug)]
pub struct StompListener {
    tcp: TcpListener,
    tls: Option<tls::Acceptor>,
}

impl StompListener {
    /// Binds `stomp.listen` and `stomp.tls_listen`, as far as they are set.
    ///
    /// # Errors
    /// With what to do: an address is taken, the files are no certificate and key.
    pub fn bind(node: &Node) -> anyhow::Result<Vec<Self>> {
        let settings = node.settings();
        let mut listeners = Vec::new();
        if let Some(address) = settings.stomp.listen {
            let tcp = bind(address).with_context(|| {
                format!("cannot listen on {address}: choose another address with --set stomp.listen=…")
            })?;
            listeners.push(Self { tcp, tls: None });
        }
        if let Some(address) = settings.stomp.tls_listen {
            let tls = tls::Acceptor::from_settings(&settings.tls, &[])?;
            anyhow::ensure!(tls.is_some(), "stomp.tls_listen needs tls.certificate and tls.key");
            let tcp = bind(address).with_context(|| {
                format!("cannot listen on {address}: choose another address with --set stomp.tls_listen=…")
            })?;
            listeners.push(Self { tcp, tls });
        }
        Ok(listeners)
    }

    /// Where clients find it: `stomp://` or, with TLS, `stomp+ssl://`.
    ///
    /// # Errors
    /// The operating system's.
    pub fn url(&self) -> anyhow::Result<String> {
        let scheme = if self.tls.is_some() { "stomp+ssl" } else { "stomp" };
        Ok(format!("{scheme}://{}", self.tcp.local_addr()?))
    }

    /// Accepts connections until the node drains.
    pub async fn serve(self, node: Arc<Node>) {
        let Self { tcp, tls } = self;
        let language = Language::Stomp(conversation(&node));
        let (port, is_tls) = (if tls.is_some() { Port::StompTls } else { Port::Stomp }, tls.is_some());
        let taker = Arc::clone(&node);
        accept(tcp, &node, Door { port, is_tls }, move |stream, source, place| match place {
            Ok(admission) => {
                let accepted = Accepted { stream, peer: source.address, admission };
                tokio::spawn(accepted.converse(Arc::clone(&taker), tls.clone(), language.clone()));
            }
            // A fresh socket has room for this; one that has not loses only the reason.
            Err(why) if tls.is_none() => drop(SockRef::from(&stream).send(refusal(why).as_bytes())),
            Err(_) => {}
        })
        .await;
    }
}

/// What a client reads that gets no place.
fn refusal(why: Why) -> String {
    let why = match why {
        Why::TooFast => "too many connections came in the last second",
        Why::Full => "this node has as many connections as it takes",
        Why::AddressTooFast => "connections of this address come too fast",
        Why::AddressFull => "this address has as many connections as one may have",
    };
    let body = format!("{why}: connect again in a second\n");
    let length = body.len();
    format!("ERROR\nmessage:Overloaded\ncontent-type:text/plain\ncontent-length:{length}\n\n{body}\0")
}

/// A connection that has a place.
struct Accepted {
    stream: TcpStream,
    peer: SocketAddr,
    admission: Seat,
}

impl Accepted {
    async fn converse(self, node: Arc<Node>, tls: Option<tls::Acceptor>, language: Language) {
        let Self { stream, peer, admission } = self;
        if let Err(error) = tune(&stream, &node).and_then(|()| keep_alive(&SockRef::from(&stream))) {
            tracing::debug!(%error, %peer, "a socket could not be set up");
            return;
        }
        let io = match tls {
            None => Io::Tcp(Arc::new(stream)),
            Some(tls) => match Box::pin(tls.accept(stream)).await {
                Ok(stream) => Io::Stream(Box::new(stream)),
                Err(error) => return tracing::debug!(%error, %peer, "a TLS handshake failed"),
            },
        };
        // Who the client is stands in its first frame.
        let identity = Ok(Arc::clone(node.authenticator().anonymous()));
        let (read_ahead, framing) = (Bytes::new(), Framing::Bytes);
        let opened = Opened { io, read_ahead, language, framing, identity, peer, admission };
        Box::pin(connection::run(node, opened)).await;
    }
}

/// There are no pings, and a client need not agree to heart-beats: the kernel sees that it is gone.
fn keep_alive(socket: &SockRef<'_>) -> std::io::Result<()> {
    let probes = Duration::from_secs(15);
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(probes))
}

/// What holds for every STOMP client of this node, whatever carries its frames.
pub(super) fn conversation(node: &Node) -> Arc<conversation::Settings> {
    let settings = &node.settings().stomp;
    let vocabulary = Vocabulary {
        dots: match settings.dots {
            Dots::Separate => DestinationDots::Separate,
            Dots::Literal => DestinationDots::Literal,
        },
        plain_names: if settings.plain_names { PlainNames::Accept } else { PlainNames::Refuse },
    };
    Arc::new(conversation::Settings {
        bounds: node.bounds(),
        vocabulary,
        server: concat!("bongsu/", env!("CARGO_PKG_VERSION")).to_owned(),
        beat_every: settings.heart_beat,
        beat_wanted: settings.heart_beat,
        prefetch: settings.prefetch,
    })
}
