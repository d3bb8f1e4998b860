//! Everything that connections of this node share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bongsu_persistence::appender::AppenderLimits;
use bongsu_persistence::store::Store;
use bongsu_protocol::command::Token;
use bongsu_protocol::reason::Error;
use bongsu_protocol::session::Bounds;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};

use crate::access::{Access, Bearer};
use crate::auth::{Authenticator, Identity};
use crate::bus::redis::Commands;
use crate::bus::{Bell, Bus, Health, Inbox, Joined};
use crate::chance;
use crate::clock;
use crate::cluster::{self, Cluster};
use crate::config::{Policies, Settings, StorageKind};

use crate::control::{Connections, Control};
use crate::decisions::Decisions;
use crate::drain::Drain;
use crate::events::Events;
use crate::feed::{self, Announcer, Ends};
use crate::heard::Heard;
use crate::history::History;
use crate::hub::{Hub, Probe};
use crate::interest::{Interest, Reach};
use crate::limits::{READINESS_DEADLINE, READINESS_KEPT_FOR, STORE_DEADLINE};
use crate::metrics::METRICS;
use crate::outbound::ConnectionId;
use crate::peers::{Gate, Peers};
use crate::presence::Presence;
use crate::proxy::Proxies;
use crate::publisher::Publisher;
use crate::queues::{self, Queues};
use crate::quota::{Quotas, Seat};
use crate::registers::Registers;
use crate::removals::Removals;
use crate::webhooks::Desk;

/// When a connection pings, gives up, or is sent away.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// A silent connection gets a ping after this long, give or take a tenth.
    pub ping_interval: Duration,
    /// After a ping, this long without a sign of life is the end.
    pub pong_timeout: Duration,
    /// Without a byte taken by the socket for this long, while bytes wait, is the end.
    pub write_timeout: Duration,
    /// Connections are sent away at a random time within this.
    pub drain_spread: Duration,
}

/// Everything that connections of this node share. Made once, at start.
#[derive(Debug)]
pub struct Node {
    settings: Settings,
    authenticator: Authenticator,
    policies: Arc<Policies>,
    interest: Interest,
    /// How the bus is; `None` on a node that is alone.
    bus_health: Option<watch::Receiver<Health>>,
    history: Arc<History>,
    publisher: Arc<Publisher>,
    presence: Presence,
    queues: Queues,
    events: Events,
    drain: Drain,
    n_connections: AtomicU64,
    /// When the store was last asked whether it answers, and what came of it.
    store_health: tokio::sync::Mutex<Option<StoreAnswer>>,
    connections: Arc<Connections>,
    control: Control,
    registers: Registers,
    removals: Removals,
    decisions: Decisions,
    webhook_desk: Desk,
    cluster: Cluster,
    peers: Peers,
    places: Arc<Semaphore>,
    proxies: Proxies,
    quotas: Arc<Quotas>,
    started_ms: u64,
}

/// What the store said when it was asked whether it answers.
#[derive(Debug, Clone)]
struct StoreAnswer {
    asked_at: Duration,
    /// How long it took.
    took: Duration,
    answer: Result<(), String>,
}

/// The ways that messages take to the readers of this node and of others.
struct Paths {
    interest: Interest,
    hub: Hub,
    history: Arc<History>,
    announcer: Announcer,
}

impl Paths {
    fn lay(
        settings: &Settings,
        store: &Arc<dyn Store>,
        policies: &Arc<Policies>,
        ends: Option<(Arc<dyn Bus>, Inbox)>,
        bell: &Bell,
    ) -> Self {
        let limits = &settings.limits;
        let n_shards = Handle::current().metrics().num_workers();
        let history = |heard: &Arc<Heard>| {
            let tail_bytes = limits.tail_cache_bytes.as_usize();
            History::new(Arc::clone(store), Arc::clone(heard), tail_bytes, limits.history_reads)
        };
        let Some((bus, inbox)) = ends else {
            let history = history(&Arc::new(Heard::everything()));
            let hub = Hub::alone(n_shards, policies);
            let interest = Interest::alone(hub.clone());
            return Self { interest, hub, history, announcer: Announcer::default() };
        };
        let (heard, probe) = (Arc::new(Heard::nothing()), Arc::new(Probe::default()));
        let history = history(&heard);
        let hub = Hub::clustered(n_shards, policies, &history, &probe);
        let reach = Reach {
            bus: Arc::clone(&bus),
            health: inbox.health.clone(),
            history: Arc::clone(&history),
            heard: Arc::clone(&heard),
            probe: Arc::clone(&probe),
        };
        let interest = Interest::spawn(hub.clone(), reach);
        let (history_end, hub_end, control) = (Arc::clone(&history), hub.clone(), bell.clone());
        let ends = Ends { bus, inbox, heard, history: history_end, hub: hub_end, probe, control };
        let announcer = feed::spawn(ends, chance::range(0..=u64::MAX));
        Self { interest, hub, history, announcer }
    }
}

impl Node {
    /// Starts the tasks that connections share, over a store. With a bus, the node hears of others and knows its own members only.
    #[must_use]
    pub fn start(
        settings: Settings,
        store: Arc<dyn Store>,
        ends: Option<(Arc<dyn Bus>, Inbox)>,
    ) -> Arc<Self> {
        Self::launch(settings, store, ends, None, None)
    }

    /// Starts a node of a cluster that meets at a Redis: as [`start`](Self::start), and it registers there, with the gate at which other nodes
    /// find it.
    #[must_use]
    pub fn join(settings: Settings, store: Arc<dyn Store>, joined: Joined, gate: Option<Gate>) -> Arc<Self> {
        let Joined { bus, inbox, commands } = joined;
        Self::launch(settings, store, Some((bus, inbox)), Some(commands), gate)
    }

    fn launch(
        settings: Settings,
        store: Arc<dyn Store>,
        ends: Option<(Arc<dyn Bus>, Inbox)>,
        commands: Option<Commands>,
        gate: Option<Gate>,
    ) -> Arc<Self> {
        let told_for = settings.events.retention;
        let policies = Arc::new(Policies::new(&settings.topics.0).telling(told_for).keeping_tickets());
        let limits = &settings.limits;
        let started_ms = clock::wall().0;
        let bus_health = ends.as_ref().map(|(_, inbox)| inbox.health.clone());
        let bus = ends.as_ref().map(|(bus, _)| Arc::clone(bus));
        let bell = Bell::default();
        let registers = Registers::new(&store, bus.as_ref(), &bell);
        let decisions = Decisions::follow(&registers, &store, &settings, &policies);
        let access = Access::open(&registers);
        let connections = Arc::new(Connections::new(settings.node.name.as_str(), started_ms, access.clone()));
        let control =
            Control::spawn(Arc::clone(&store), bus.clone(), bell.clone(), access, Arc::clone(&connections));
        let Paths { interest, hub, history, announcer } =
            Paths::lay(&settings, &store, &policies, ends, &bell);
        let removals = Removals::spawn(&store, bus, &bell, &history);
        // SQLite writes one transaction after another.
        let lanes = if settings.storage.kind == StorageKind::Postgres { settings.postgres.lanes } else { 1 };
        let appender = AppenderLimits {
            lanes,
            bytes_max: limits.publish_bytes_in_flight.as_usize() / lanes,
            deadline: STORE_DEADLINE,
            ..AppenderLimits::default()
        };
        let quotas = Arc::new(Quotas::new(limits.clone()));
        let followed = Arc::downgrade(&quotas);
        decisions.follow_limits(&settings, move |limits| {
            followed.upgrade().map(|quotas| quotas.set(limits)).is_some()
        });
        let publisher = Arc::new(Publisher::spawn(
            Arc::clone(&store),
            &history,
            &hub,
            &announcer,
            (&policies, &quotas),
            appender,
        ));
        let webhook_desk = Desk::new(&settings.webhooks.0, &store, &publisher, settings.node.name.as_str());
        let drain = Drain::default();
        let (cluster, peers) = match commands {
            None => (Cluster::alone(), Peers::alone()),
            Some(commands) => {
                let identity = identity(&settings, started_ms, gate.as_ref());
                let cluster = Cluster::join(commands, identity.clone(), settings.cluster.lease);
                let spread = settings.drain.spread;
                let peers = Peers::join(cluster.clone(), &identity, gate, &drain, spread);
                (cluster, peers)
            }
        };
        let queues = Queues::new(&queues::Parts {
            cluster: &cluster,
            is_alone: bus_health.is_none(),
            me: queues::holder(settings.node.name.as_str(), started_ms),
            policies: &policies,
            drain: &drain,
            interest: &interest,
            history: &history,
            publisher: &publisher,
            settings: &settings,
        });
        let members_max = limits.members_per_topic;
        let presence =
            Presence::spawn(Arc::clone(&publisher), Arc::clone(&policies), cluster.clone(), members_max);
        let authenticator = Authenticator::new(&settings).with_tickets(Arc::clone(&store));
        let events = Events::spawn(
            &settings.events,
            settings.node.name.as_str(),
            started_ms,
            store,
            Arc::clone(&publisher),
            Arc::clone(&connections),
            &cluster,
        );
        Arc::new(Self {
            authenticator,
            policies,
            interest,
            bus_health,
            history,
            publisher,
            presence,
            queues,
            events,
            drain,
            n_connections: AtomicU64::new(0),
            store_health: tokio::sync::Mutex::new(None),
            connections,
            control,
            registers,
            removals,
            decisions,
            webhook_desk,
            cluster,
            peers,
            places: Arc::new(Semaphore::new(limits.connections.min(Semaphore::MAX_PERMITS))),
            proxies: Proxies::new(&settings),
            quotas,
            started_ms,
            settings,
        })
    }

    /// The node's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.settings.node.name.as_str()
    }

    /// When this process started, in milliseconds since 1970.
    #[must_use]
    pub const fn started_ms(&self) -> u64 {
        self.started_ms
    }

    /// The effective settings.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Who clients are.
    #[must_use]
    pub const fn authenticator(&self) -> &Authenticator {
        &self.authenticator
    }

    /// Whose a token is, if they may come at all: the one way in for whoever shows one.
    ///
    /// # Errors
    /// `unauthenticated` if the token is no good or was revoked: the client needs another one. `forbidden` if its subject is blocked.
    /// `unavailable` if nobody can tell now.
    pub async fn verify(&self, token: &Token) -> Result<Arc<Identity>, Error> {
        let access = self.control.access();
        access.ready().await?;
        let identity = self.authenticator.verify(token).await?;
        let (subject, token_id) = (identity.subject(), identity.token_id.as_deref());
        access.judge(&Bearer { subject, token_id, issued_at: identity.issued_at })?;
        Ok(identity)
    }

    /// What holds for topics.
    #[must_use]
    pub const fn policies(&self) -> &Arc<Policies> {
        &self.policies
    }

    /// Who reads what here.
    #[must_use]
    pub const fn interest(&self) -> &Interest {
        &self.interest
    }

    /// How the bus is; `None` on a node that is alone.
    #[must_use]
    pub fn bus_health(&self) -> Option<Health> {
        Some(self.bus_health.as_ref()?.borrow().clone())
    }

    /// Waits until this node looked at what operators had decided before it started: commands, and the broker's own documents. That may be
    /// never where the store is away: bound it.
    pub async fn caught_up(&self) {
        self.control.caught_up().await;
        self.decisions.caught_up().await;
        self.quotas.set(self.decisions.limits(&self.settings));
    }

    /// Reads of logs.
    #[must_use]
    pub const fn history(&self) -> &Arc<History> {
        &self.history
    }

    /// Where messages go.
    #[must_use]
    pub const fn publisher(&self) -> &Arc<Publisher> {
        &self.publisher
    }

    /// Who is present.
    #[must_use]
    pub const fn presence(&self) -> &Presence {
        &self.presence
    }

    /// Work queues.
    #[must_use]
    pub const fn queues(&self) -> &Queues {
        &self.queues
    }

    /// What is told of sessions.
    #[must_use]
    pub const fn events(&self) -> &Events {
        &self.events
    }

    /// Whether the store answers; the reason in words if not. An answer serves everybody who asks within a moment.
    ///
    /// # Errors
    /// It does not, with the reason.
    pub async fn store_health(&self) -> Result<(), String> {
        self.store_answer().await.answer
    }

    /// As [`store_health`](Self::store_health), with how long the store took to answer.
    ///
    /// # Errors
    /// As [`store_health`](Self::store_health).
    pub async fn store_latency(&self) -> Result<Duration, String> {
        let StoreAnswer { took, answer, .. } = self.store_answer().await;
        answer.map(|()| took)
    }

    async fn store_answer(&self) -> StoreAnswer {
        // Whoever asks while it is asked waits here for the same answer.
        let mut last = self.store_health.lock().await;
        let asked_at = clock::monotonic();
        match &*last {
            Some(last) if asked_at.saturating_sub(last.asked_at) < READINESS_KEPT_FOR => last.clone(),
            _ => {
                let answer = match tokio::time::timeout(READINESS_DEADLINE, self.history.probe()).await {
                    Ok(answer) => answer.map_err(|error| error.to_string()),
                    Err(_) => Err(format!("it did not answer within {READINESS_DEADLINE:?}")),
                };
                let now = clock::monotonic();
                // It holds from when it was given.
                let answer = StoreAnswer { asked_at: now, took: now.saturating_sub(asked_at), answer };
                last.insert(answer).clone()
            }
        }
    }

    /// Whether the tasks that connections share answer. Asks neither the store nor the bus: both may be away for good reasons.
    pub async fn is_alive(&self) -> bool {
        // A node that drains closes its lanes on purpose.
        let runs =
            self.drain.has_begun() || (self.publisher.runs() && self.presence.runs() && self.interest.runs());
        runs && self.interest.hub().answers().await
    }

    /// Sets the gauges in [`METRICS`] to how things stand now.
    pub fn measure(&self) {
        METRICS.connections.set(self.connections() as u64);
        METRICS.connections_max.set(self.settings.limits.connections as u64);
        METRICS.readers_behind.set(METRICS.pages_asked.get().saturating_sub(METRICS.pages.get()));
        METRICS.shard_waiting.set(self.interest.hub().commands_waiting() as u64);
        METRICS.bus_live.set(self.bus_health().is_none_or(|health| health == Health::Live).into());
        METRICS.queues.set(self.queues.count() as u64);
        METRICS.draining.set(self.drain.has_begun().into());
        self.publisher.measure();
        self.history.measure();
    }

    /// How far the end has come.
    #[must_use]
    pub const fn drain(&self) -> &Drain {
        &self.drain
    }

    /// A place among the node's connections; `None` if all are taken.
    #[must_use]
    pub fn admit(&self) -> Option<Seat> {
        Arc::clone(&self.places).try_acquire_owned().ok().map(Seat::new)
    }

    /// Connections that hold a place.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.settings.limits.connections.min(Semaphore::MAX_PERMITS) - self.places.available_permits()
    }

    /// The number of the next connection.
    pub fn next_connection(&self) -> ConnectionId {
        ConnectionId(self.n_connections.fetch_add(1, Ordering::Relaxed))
    }

    /// The connections, for whoever wants to end one.
    #[must_use]
    pub const fn sessions(&self) -> &Arc<Connections> {
        &self.connections
    }

    /// Commands of operators.
    #[must_use]
    pub const fn control(&self) -> &Control {
        &self.control
    }

    /// The broker's own documents, which every node follows.
    #[must_use]
    pub const fn registers(&self) -> &Registers {
        &self.registers
    }

    /// What is removed from logs on command.
    #[must_use]
    pub const fn removals(&self) -> &Removals {
        &self.removals
    }

    /// What operators decide while nodes run.
    #[must_use]
    pub const fn decisions(&self) -> &Decisions {
        &self.decisions
    }

    /// How webhooks' deliveries went.
    #[must_use]
    pub const fn webhook_desk(&self) -> &Desk {
        &self.webhook_desk
    }

    /// This node's place in its cluster.
    #[must_use]
    pub const fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The other nodes, for sessions that several requests make up.
    #[must_use]
    pub const fn peers(&self) -> &Peers {
        &self.peers
    }

    /// Which proxies are believed.
    #[must_use]
    pub const fn proxies(&self) -> &Proxies {
        &self.proxies
    }

    /// What one address, user and connection may take.
    #[must_use]
    pub const fn quotas(&self) -> &Arc<Quotas> {
        &self.quotas
    }

    /// The bounds of each session.
    #[must_use]
    pub fn bounds(&self) -> Bounds {
        let limits = self.decisions.limits(&self.settings);
        Bounds {
            outbox_bytes: self.settings.websocket.outbound_bytes.as_usize(),
            subscriptions: limits.subscriptions_per_connection,
            topics: limits.topics_per_connection,
            requests_in_flight: limits.requests_in_flight,
        }
    }

    /// The times of each connection.
    #[must_use]
    pub fn timing(&self) -> Timing {
        let websocket = &self.settings.websocket;
        Timing {
            ping_interval: websocket.ping_interval,
            pong_timeout: websocket.pong_timeout,
            write_timeout: websocket.write_timeout,
            drain_spread: self.settings.drain.spread,
        }
    }

    /// When a client that is sent away should connect again: a random time within the spread, so that they do not come together.
    #[must_use]
    pub fn reconnect_after_ms(&self) -> u64 {
        let spread = u64::try_from(self.settings.drain.spread.as_millis()).unwrap_or(u64::MAX);
        chance::range(0..=spread.min(1000))
    }
}

/// What a node says of itself in its cluster.
fn identity(settings: &Settings, started_ms: u64, gate: Option<&Gate>) -> cluster::Identity {
    cluster::Identity {
        name: settings.node.name.as_str().to_owned(),
        started_ms,
        address: settings.listen.to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        peer_url: gate.map(|gate| gate.url().to_owned()),
    }
}
