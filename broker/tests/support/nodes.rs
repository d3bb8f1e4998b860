//! Nodes of a cluster in one process, each with a thread and a runtime of its own, so that one can die or freeze by itself.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc as blocking;
use std::thread::JoinHandle;
use std::time::Duration;

use bongsu::bus;
use bongsu::config::{Name, ServerUrl, SessionEvents, Settings};
use bongsu::listener::Listener;
use bongsu::node::Node;
use bongsu::peers::Gate;
use bongsu::serve;
use bongsu_persistence::store::Store;
use tokio::sync::mpsc;

use super::support::{Client, PATIENCE};

/// A node; it is killed when this is dropped.
pub struct TestNode {
    pub address: SocketAddr,
    pub node: Arc<Node>,
    orders: mpsc::Sender<Order>,
    thread: Option<JoinHandle<()>>,
}

enum Order {
    /// Stand still until the other end is gone.
    Freeze(blocking::Receiver<()>),
    /// End as `kill -9` does: no task gets another turn, and the sockets are closed.
    Kill,
    /// End in good order.
    Drain,
}

impl TestNode {
    /// A node of a cluster whose nodes meet at a Redis.
    pub fn start(name: &str, redis: &str, lease: Duration, store: &Arc<dyn Store>) -> Self {
        let mut settings = settings(name);
        settings.redis.url = Some(ServerUrl::parse(redis).expect("a URL"));
        settings.cluster.lease = lease;
        Self::join(settings, Arc::clone(store))
    }

    /// The same with settings that name the Redis.
    pub fn join(settings: Settings, store: Arc<dyn Store>) -> Self {
        Self::launch(move || {
            let joined = bus::connect(&settings).expect("the settings make sense");
            let gate = Gate::bind(&settings).expect("a free port");
            Node::join(settings, store, joined.expect("a Redis is named"), gate)
        })
    }

    /// A node that somebody else starts, in its own runtime.
    pub fn launch(start_node: impl FnOnce() -> Arc<Node> + Send + 'static) -> Self {
        let (orders, receiver) = mpsc::channel(1);
        let (started, start) = blocking::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("a runtime");
            runtime.block_on(async move {
                let node = start_node();
                node.control().caught_up().await;
                let listener = Listener::bind(&node).expect("a free port");
                let url = listener.url().expect("an address");
                tokio::spawn(listener.serve(Arc::clone(&node)));
                let address = url.trim_start_matches("http://").trim_end_matches('/');
                let address: SocketAddr = address.parse().expect("an address");
                started.send((address, Arc::clone(&node))).expect("somebody waits");
                run(node, receiver).await;
            });
            runtime.shutdown_background();
        });
        let (address, node) = start.recv().expect("the node starts");
        Self { address, node, orders, thread: Some(thread) }
    }

    pub async fn connect(&self) -> Client {
        Client::connect(self.address).await.expect("the node takes connections")
    }

    /// Waits until the node is registered in its cluster.
    pub async fn registered(&self) {
        let mut membership = self.node.cluster().membership();
        let registered = membership.wait_for(|membership| membership.registration.is_some());
        tokio::time::timeout(PATIENCE, registered).await.expect("in time").expect("the node lives");
    }

    /// Stands still until what is returned is dropped.
    pub async fn freeze(&self) -> blocking::Sender<()> {
        let (thaw, wait) = blocking::channel();
        self.orders.send(Order::Freeze(wait)).await.expect("the node lives");
        thaw
    }

    pub async fn kill(mut self) {
        self.orders.send(Order::Kill).await.expect("the node lives");
        self.end();
    }

    pub async fn drain(mut self) {
        self.orders.send(Order::Drain).await.expect("the node lives");
        tokio::task::spawn_blocking(move || self.end()).await.expect("it ends in good order");
    }

    fn end(&mut self) {
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the node did not panic");
        }
    }
}

impl Drop for TestNode {
    fn drop(&mut self) {
        let _ = self.orders.try_send(Order::Kill);
        self.end();
    }
}

pub fn settings(name: &str) -> Settings {
    let mut settings = Settings::default();
    settings.node.name = Name::parse(name).expect("a name");
    settings.listen = "127.0.0.1:0".parse().expect("an address");
    settings.cluster.listen = Some(settings.listen);
    settings.drain.spread = Duration::ZERO;
    // Has tests of its own; here it would come between what is looked at.
    settings.events.sessions = SessionEvents::Off;
    settings
}

async fn run(node: Arc<Node>, mut orders: mpsc::Receiver<Order>) {
    loop {
        match orders.recv().await {
            Some(Order::Freeze(wait)) => {
                // Blocks the only thread that the node has.
                let _ = wait.recv();
            }
            Some(Order::Drain) => {
                node.drain().begin();
                return serve::drain(&node).await.expect("it drains");
            }
            Some(Order::Kill) | None => return,
        }
    }
}
