//! A node from start to end.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bongsu_persistence::memory::MemoryStore;
use bongsu_persistence::postgres::{PostgresOptions, PostgresStore};
use bongsu_persistence::sqlite::{self, SqliteOptions, SqliteStore};
use bongsu_persistence::store::Store;
use futures_util::FutureExt as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::bus;
use crate::clock;
use crate::config::{Loaded, ServerUrl, Settings, StorageKind, Synchronous};
use crate::limits::{REGISTRATION_PATIENCE, STORE_DEADLINE};
use crate::listener::{AdminListener, AdminPort, Listener, StompListener};
use crate::node::Node;
use crate::peers::Gate;
use crate::telemetry::{MeasuredStore, Telemetry};
use crate::webhooks::Webhooks;
use crate::{outbox, retention};

/// The file in the data directory that holds the logs.
const FILE: &str = "bongsu.db";

/// Runs a node until SIGTERM or SIGINT, and drains it then. A second signal ends it at once.
///
/// Says on standard output where it listens, once it does.
///
/// # Errors
/// What keeps it from starting, or, at the end, what it had to abandon; with what to do.
pub async fn serve(loaded: Loaded) -> anyhow::Result<()> {
    serve_and_tell(loaded, greet).await
}

/// As [`serve`], for programs that have a node in them: instead of saying where it listens, it is told to `listening`, once it does.
///
/// # Errors
/// As [`serve`].
pub async fn serve_and_tell(loaded: Loaded, listening: impl FnOnce(&str)) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    let Loaded { settings, origins } = loaded;
    let opened = open_store(&settings).await?;
    let store: Arc<dyn Store> = Arc::new(MeasuredStore::new(Arc::clone(&opened.store)));
    let node = match bus::connect(&settings)? {
        Some(joined) => {
            let gate = Gate::bind(&settings)?;
            Node::join(settings, Arc::clone(&store), joined, gate)
        }
        None => Node::start(settings, Arc::clone(&store), None),
    };
    let unknown = node.authenticator().without_keys();
    anyhow::ensure!(
        unknown.is_empty(),
        "auth.issuers: the keys of {unknown:?} cannot be read, as told above"
    );
    let listener = Listener::bind(&node)?;
    let admin = AdminListener::bind(
        &node,
        if origins.is_given("admin.listen") { AdminPort::Chosen } else { AdminPort::Derived },
    )?;
    let stomp = StompListener::bind(&node)?;
    // Sessions that begin afterwards are those that no earlier command means. A store that does not answer holds nobody up.
    let _ = tokio::time::timeout(STORE_DEADLINE, node.caught_up()).await;
    let _ = tokio::time::timeout(REGISTRATION_PATIENCE, node.cluster().registered()).await;
    listening(&listener.url()?);
    if let Some(admin) = &admin {
        greet_administrators(&admin.url()?);
    }
    for listener in &stomp {
        greet_stomp(&listener.url()?);
    }
    let admin = admin.map(|admin| tokio::spawn(admin.serve(Arc::clone(&node))));
    tracing::info!(node = node.name(), listen = %listener.url()?, "serving");
    let measured = Arc::clone(&node);
    let telemetry = Telemetry::start(node.settings(), move || measured.measure());
    let retention = tokio::spawn(retention::run(store, Arc::clone(node.policies())));
    let outbox =
        opened.postgres.clone().map(|postgres| tokio::spawn(move_outbox(postgres, Arc::clone(&node))));
    let keys = Arc::clone(&node);
    let keys = tokio::spawn(async move { keys.authenticator().keep_keys().await });
    let webhooks = start_webhooks(&node, &opened.store);
    let serving = tokio::spawn(listener.serve(Arc::clone(&node)));
    for listener in stomp {
        tokio::spawn(listener.serve(Arc::clone(&node)));
    }
    signals.next().await;
    node.drain().begin();
    let drained = tokio::select! {
        biased;
        () = signals.next() => Err(anyhow::anyhow!("ended by a second signal with {} connections open", node.connections())),
        drained = drain(&node) => drained,
    };
    // Where the store is away, their registers run out instead.
    let _ = tokio::time::timeout(STORE_DEADLINE, webhooks.stop()).await;
    retention.abort();
    keys.abort();
    if let Some(outbox) = outbox {
        outbox.abort();
    }
    let _ = serving.await;
    opened.close().await;
    if let Some(telemetry) = telemetry {
        telemetry.flush().await;
    }
    if let Some(admin) = admin {
        admin.abort();
    }
    drained
}

/// Tells receivers of messages by HTTP, in turn with the other nodes of the cluster.
fn start_webhooks(node: &Node, store: &Arc<dyn Store>) -> Webhooks {
    let is_alone = node.settings().storage.kind != StorageKind::Postgres;
    let (webhooks, process) = (&node.settings().webhooks.0, node.sessions().prefix());
    Webhooks::start(webhooks, store, node.publisher(), node.name(), process, is_alone)
}

/// Hands what applications publish in SQL to readers.
async fn move_outbox(store: Arc<PostgresStore>, node: Arc<Node>) {
    let policies = Arc::clone(node.policies());
    let on_stored = move |deliveries| {
        let node = Arc::clone(&node);
        async move { outbox::hand_on(node.publisher(), deliveries).await }.boxed()
    };
    outbox::run(store, policies, on_stored).await;
}

/// Waits until every client has left, which the rest of the cluster knows then, and everything that was taken is stored. To be called
/// after the [drain](crate::drain::Drain) has begun.
///
/// # Errors
/// What was abandoned at the end of `drain.grace`.
pub async fn drain(node: &Node) -> anyhow::Result<()> {
    let grace = node.settings().drain.grace;
    tracing::info!(connections = node.connections(), ?grace, "draining");
    let began = clock::monotonic();
    let mut polls = tokio::time::interval(Duration::from_millis(20));
    while node.connections() > 0 && clock::monotonic() - began < grace {
        polls.tick().await;
    }
    let left = node.connections();
    let rest = grace.saturating_sub(clock::monotonic() - began).max(Duration::from_secs(1));
    // Where the registry is away, the lease runs out instead.
    let _ = tokio::time::timeout(rest, node.presence().settled()).await;
    let rest = grace.saturating_sub(clock::monotonic() - began).max(Duration::from_secs(1));
    // Where the store is away, what consumers held goes to others when this node is known to be gone.
    let _ = tokio::time::timeout(rest, node.queues().settled()).await;
    // Where the store is away, the next process of this node tells it, or another node.
    let _ = tokio::time::timeout(rest, node.events().settled()).await;
    node.cluster().leave().await;
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

/// A store, and what it is: whoever opened it also closes it, and only Postgres has an outbox.
struct Opened {
    store: Arc<dyn Store>,
    sqlite: Option<Arc<SqliteStore>>,
    postgres: Option<Arc<PostgresStore>>,
}

impl Opened {
    async fn close(self) {
        if let Some(sqlite) = self.sqlite {
            sqlite.close().await;
        }
        if let Some(postgres) = self.postgres {
            postgres.close().await;
        }
    }
}

async fn open_store(settings: &Settings) -> anyhow::Result<Opened> {
    match settings.storage.kind {
        StorageKind::Memory => {
            Ok(Opened { store: Arc::new(MemoryStore::default()), sqlite: None, postgres: None })
        }
        StorageKind::Postgres => {
            let store = Arc::new(PostgresStore::open(postgres_options(settings)?).await?);
            Ok(Opened { store: Arc::<PostgresStore>::clone(&store), sqlite: None, postgres: Some(store) })
        }
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
            Ok(Opened { store: Arc::<SqliteStore>::clone(&store), sqlite: Some(store), postgres: None })
        }
    }
}

fn postgres_options(settings: &Settings) -> anyhow::Result<PostgresOptions> {
    let settings = &settings.postgres;
    let url = match (&settings.url, &settings.url_file) {
        (Some(url), _) => url.reveal().to_owned(),
        (None, Some(file)) => {
            let text = std::fs::read_to_string(file)
                .with_context(|| format!("cannot read postgres.url_file {}", file.display()))?;
            let url = ServerUrl::parse(text.trim())
                .with_context(|| format!("postgres.url_file {} holds no URL", file.display()))?;
            url.reveal().to_owned()
        }
        (None, None) => anyhow::bail!("storage.kind is postgres, and postgres.url says not where"),
    };
    Ok(PostgresOptions {
        replica_url: settings.replica_url.as_ref().map(|url| url.reveal().to_owned()),
        connections: settings.connections,
        deadline: settings.deadline,
        pooler: settings.pooler,
        partition: settings.partition,
        ..PostgresOptions::new(url)
    })
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
    println!("administrators find console, API, health and metrics on {url}");
}

#[expect(clippy::print_stdout, reason = "this is what the command prints")]
fn greet_stomp(url: &str) {
    println!("STOMP clients connect to {url}");
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
