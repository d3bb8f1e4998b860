//! A node from start to end.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bongsu_persistence::memory::MemoryStore;
use bongsu_persistence::postgres::{PostgresOptions, PostgresStore};
use bongsu_persistence::sqlite::{self, SqliteOptions, SqliteStore};
use bongsu_persistence::store::Store;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::bus;
use crate::clock;
use crate::config::{Loaded, Settings, StorageKind, Synchronous};
use crate::listener::{AdminListener, Listener};
use crate::node::Node;
use crate::retention;
use crate::telemetry::{MeasuredStore, Telemetry};

/// The file in the data directory that holds the logs.
const FILE: &str = "bongsu.db";

/// Runs a node until SIGTERM or SIGINT, and drains it then. A second signal ends it at once.
///
/// Says on standard output where it listens, once it does.
///
/// # Errors
/// What keeps it from starting, or, at the end, what it had to abandon; with what to do.
pub async fn serve(loaded: Loaded) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    let settings = loaded.settings;
    let (store, sqlite) = open_store(&settings).await?;
    let store: Arc<dyn Store> = Arc::new(MeasuredStore::new(store));
    let cluster = bus::connect(&settings)?.map(|joined| (joined.bus, joined.inbox));
    let node = Node::start(settings, Arc::clone(&store), cluster);
    let listener = Listener::bind(&node)?;
    let admin = AdminListener::bind(&node).await?;
    greet(&listener.url()?);
    if let Some(admin) = &admin {
        greet_administrators(&admin.url()?);
    }
    let admin = admin.map(|admin| tokio::spawn(admin.serve(Arc::clone(&node))));
    tracing::info!(node = node.name(), listen = %listener.url()?, "serving");
    let measured = Arc::clone(&node);
    let telemetry = Telemetry::start(node.settings(), move || measured.measure());
    let retention = tokio::spawn(retention::run(store, Arc::clone(node.policies())));
    let serving = tokio::spawn(listener.serve(Arc::clone(&node)));
    signals.next().await;
    node.drain().begin();
    let drained = tokio::select! {
        biased;
        () = signals.next() => Err(anyhow::anyhow!("ended by a second signal with {} connections open", node.connections())),
        drained = drain(&node) => drained,
    };
    retention.abort();
    let _ = serving.await;
    if let Some(sqlite) = sqlite {
        sqlite.close().await;
    }
    if let Some(telemetry) = telemetry {
        telemetry.flush().await;
    }
    if let Some(admin) = admin {
        admin.abort();
    }
    drained
}

/// Waits until every client has left and everything that was taken is stored.
async fn drain(node: &Node) -> anyhow::Result<()> {
    let grace = node.settings().drain.grace;
    tracing::info!(connections = node.connections(), ?grace, "draining");
    let began = clock::monotonic();
    let mut polls = tokio::time::interval(Duration::from_millis(20));
    while node.connections() > 0 && clock::monotonic() - began < grace {
        polls.tick().await;
    }
    let left = node.connections();
    let rest = grace.saturating_sub(clock::monotonic() - began).max(Duration::from_secs(1));
    let stored = tokio::time::timeout(rest, node.publisher().close()).await;
    anyhow::ensure!(
        stored.is_ok(),
        "the store did not take what was published before the end of drain.grace"
    );
    anyhow::ensure!(left == 0, "{left} connections were still open at the end of drain.grace");
    tracing::info!("drained");
    Ok(())
}

async fn open_store(settings: &Settings) -> anyhow::Result<(Arc<dyn Store>, Option<Arc<SqliteStore>>)> {
    match settings.storage.kind {
        StorageKind::Postgres => {
            let url = settings
                .postgres
                .url
                .as_ref()
                .context("postgres.url is not set: say where the database is")?;
            let store = PostgresStore::open(PostgresOptions::new(url.reveal())).await?;
            Ok((Arc::new(store), None))
        }
        StorageKind::Memory => Ok((Arc::new(MemoryStore::default()), None)),
        StorageKind::Sqlite => {
            let directory = &settings.data;
            std::fs::create_dir_all(directory).with_context(|| {
                format!("cannot make the data directory {}: choose another with --data", directory.display())
            })?;
            let synchronous = match settings.storage.synchronous {
                Synchronous::Full => sqlite::Synchronous::Full,
                Synchronous::Normal => sqlite::Synchronous::Normal,
            };
            let options = SqliteOptions { synchronous, ..SqliteOptions::new(directory.join(FILE)) };
            let store = Arc::new(SqliteStore::open(options).await?);
            Ok((Arc::<SqliteStore>::clone(&store), Some(store)))
        }
    }
}

/// Where to look, and a line to try.
#[expect(clippy::print_stdout, reason = "this is what the command prints")]
fn greet(url: &str) {
    println!("bongsu listens on {url}");
    println!(
        "open it in a browser, or try: bongsu sub 'chat/#'   and in another window: bongsu pub chat/1 hello"
    );
}

#[expect(clippy::print_stdout, reason = "this is what the command prints")]
fn greet_administrators(url: &str) {
    println!("health and metrics are on {url}");
}

/// The signals that end a node.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
