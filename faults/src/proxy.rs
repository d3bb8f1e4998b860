//! TCP proxies that can be cut and frozen: one in front of the nodes, and one between each node and Redis.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// How the way to one target is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Bytes go through.
    Open,
    /// Bytes go nowhere, and nobody is told: what a cable that was pulled looks like.
    Frozen,
    /// Connections are closed, and new ones as well.
    Cut,
}

/// A listener that passes each connection to the next target in turn, past those that are not there.
pub(crate) struct Proxy {
    address: SocketAddr,
    /// The task that accepts holds it as well: ways stay as they are where nobody wants to change them.
    ways: Arc<Vec<watch::Sender<Way>>>,
}

impl Proxy {
    /// Listens on a free port of an address, for as long as the runtime lives.
    pub(crate) async fn start(here: IpAddr, targets: Vec<SocketAddr>) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((here, 0)).await?;
        let address = listener.local_addr()?;
        let ways: Vec<_> = targets.iter().map(|_| watch::channel(Way::Open).0).collect();
        let states: Vec<_> = ways.iter().map(watch::Sender::subscribe).collect();
        let ways = Arc::new(ways);
        let kept = Arc::clone(&ways);
        let targets: Arc<Vec<_>> = Arc::new(targets.into_iter().zip(states).collect());
        let turn = Arc::new(AtomicUsize::new(0));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (targets, turn) = (Arc::clone(&targets), Arc::clone(&turn));
                tokio::spawn(async move {
                    if let Some((upstream, way)) = next_target(&targets, &turn).await {
                        pass(client, upstream, way).await;
                    }
                });
            }
            drop(kept);
        });
        Ok(Self { address, ways })
    }

    /// Where clients connect.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes the way to one target, for connections that are open and for new ones.
    pub(crate) fn set(&self, target: usize, way: Way) {
        self.ways[target].send_replace(way);
    }
}

async fn next_target(
    targets: &[(SocketAddr, watch::Receiver<Way>)],
    turn: &AtomicUsize,
) -> Option<(TcpStream, watch::Receiver<Way>)> {
    for _ in 0..targets.len() {
        let (target, way) = &targets[turn.fetch_add(1, Ordering::Relaxed) % targets.len()];
        if *way.borrow() == Way::Cut {
            continue;
        }
        if let Ok(upstream) = TcpStream::connect(target).await {
            return Some((upstream, way.clone()));
        }
    }
    None
}

/// Passes bytes both ways until one side ends or the way is cut.
async fn pass(client: TcpStream, upstream: TcpStream, mut way: watch::Receiver<Way>) {
    // A failure shows at the next read.
    let _ = (client.set_nodelay(true), upstream.set_nodelay(true));
    let (client_read, client_write) = client.into_split();
    let (upstream_read, upstream_write) = upstream.into_split();
    let mut cut = way.clone();
    tokio::select! {
        biased;
        _ = cut.wait_for(|way| *way == Way::Cut) => {}
        () = pump(client_read, upstream_write, way.clone()) => {}
        () = pump(upstream_read, client_write, way.clone()) => {}
    }
    // What ends while the cable is out shows when it is in again.
    let _ = way.wait_for(|way| *way != Way::Frozen).await;
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut way: watch::Receiver<Way>) {
    let mut bytes = vec![0; 16 * 1024];
    while let Ok(n_bytes) = from.read(&mut bytes).await {
        if n_bytes == 0 || way.wait_for(|way| *way == Way::Open).await.is_err() {
            return;
        }
        if to.write_all(&bytes[..n_bytes]).await.is_err() {
            return;
        }
    }
}
