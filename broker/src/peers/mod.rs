//! Nodes that answer for one another: who has which HTTP session, and requests that are forwarded there.
//!
//! Some protocols put a session of several HTTP requests onto one node, and a load balancer sends each request to any. The first node that is
//! asked [claims](Peers::claim) the session; every other one [finds its owner](Peers::owner) and [forwards](Peers::forward) to it, once.
//!
//! | module | what it holds |
//! |---|---|
//! | `owners` | what this node says of its own sessions in Redis, and what it remembers of others' |
//! | `gate` | the port for nodes, and where others find it |
//! | `line` | one HTTP/2 connection to each other node |
//! | `ask` | what nodes ask each other in their own name |
//! | `forward` | what becomes of a request's and an answer's header on the way, at either end |
//! | `release` | how a node that drains gives back what others answer for it |
//! | `signature`, `secrets`, `numbers` | how a node knows that a request is another node's, and was not taken before |
//!
//! Redis says who has a session, and is not the truth about it: the owner is. Where Redis is away, sessions begin and go on as
//! before on the node that has them, and other nodes answer that they do not know.
//!
//! `docs/cluster.md` has what an operator must know: the port, the secret, and what happens when something dies.

mod ask;
mod forward;
mod gate;
mod line;
mod numbers;
mod owners;
mod release;
mod secrets;
mod signature;
#[cfg(test)]
mod tests;

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;

use crate::clock;
use crate::cluster::{Cluster, Identity, Peer, SessionKey};
use crate::drain::Drain;
use crate::limits::{OWNER_DEADLINE, OWNER_LIFETIME, OWNER_POLL_INTERVAL};

pub use ask::AskError;
pub use forward::{Admitted, ForwardError, Forwardable, Refused};
pub use gate::{Gate, GateError};
pub use line::Body;
pub use owners::Claim;

use line::Lines;
use numbers::Numbers;
use owners::{Held, Remembered};
use release::{Drained, Release};
use secrets::Secrets;

/// Where a request came from, as the node that the client is connected to saw it; an extension of each request, on whatever node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    /// The client, as far as trusted proxies told of it; else the other end of the connection. The port is 0 where nobody told it.
    pub address: SocketAddr,
    /// Whether the client speaks TLS: to the node itself, or to a trusted proxy that says so.
    pub is_tls: bool,
    /// Whether a proxy or another node told it, rather than the kernel of this one.
    pub is_told: bool,
}

impl Source {
    /// The other end of a connection to this node, as the kernel knows it.
    #[must_use]
    pub const fn direct(address: SocketAddr, is_tls: bool) -> Self {
        Self { address, is_tls, is_told: false }
    }

    /// Whether it is a program on the machine of this node. What was told never is, whatever address was told.
    #[must_use]
    pub fn is_this_machine(self) -> bool {
        !self.is_told && self.address.ip().to_canonical().is_loopback()
    }
}

/// The request was forwarded by another node, which is not to happen twice; an extension of it.
#[derive(Debug, Clone)]
pub struct Forwarded {
    /// The [incarnation](Identity::incarnation) of the node that did.
    pub from: Arc<str>,
    release: Release,
}

impl Forwarded {
    /// Waits until the other node wants the request back, since it drains: then end the answer as soon as the protocol lets the client ask
    /// again, through another node, and keep the session. For ever, where the request has a body or is not wanted back. Cancel safe.
    pub async fn released(&self) {
        self.release.requested().await;
    }
}

/// Another node that is alive, as far as is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// Its [incarnation](Identity::incarnation).
    pub incarnation: Arc<str>,
    /// Where it takes requests of other nodes.
    pub url: Arc<str>,
}

/// Who has a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// This node, by a claim that lives or by what Redis remembers.
    Here,
    /// Another node, which is alive: forward to it.
    Elsewhere(Destination),
    /// A node that is gone, and the session with it: say so in the protocol's own words.
    Lost,
    /// Nobody that Redis knew of when it was asked.
    Nobody,
    /// Redis did not say in time. The client may repeat.
    Unknown,
}

/// What came of claiming a session.
#[derive(Debug)]
pub enum Claimed {
    /// It is this node's, and every other one knows.
    Here(Claim),
    /// This node has it already, by a claim that lives.
    Already,
    /// It is another node's: forward to it.
    Elsewhere(Destination),
    /// It was that of a node that is gone.
    Lost,
    /// Redis did not say in time. The session may begin here: others are told when Redis is back. If it is another node's, it is on two.
    Unknown(Claim),
}

/// The other nodes, as far as HTTP sessions need them. One for each node.
#[derive(Debug)]
pub struct Peers {
    cluster: Cluster,
    /// What this process is called.
    incarnation: Arc<str>,
    held: Arc<Held>,
    remembered: Mutex<Remembered>,
    secrets: Secrets,
    lines: Lines,
    /// When requests that others answer are given back.
    drained: Drained,
    numbers: Mutex<Numbers>,
    n_forwarded: AtomicU64,
    /// The bound port, until somebody serves it.
    gate: Mutex<Option<TcpListener>>,
    /// End with this.
    _tasks: JoinSet<()>,
}

impl Peers {
    /// Those of a node that is alone: every session is its own.
    #[must_use]
    pub fn alone() -> Self {
        Self::new(Cluster::alone(), "".into(), Secrets::default(), None, JoinSet::new())
    }

    /// Those of a node of a cluster, whose others find it at the gate, if there is one. Starts the tasks that tell Redis of this node's
    /// sessions, and that agree with the other nodes on a secret where no file has one.
    #[must_use]
    pub fn join(
        cluster: Cluster,
        identity: &Identity,
        gate: Option<Gate>,
        drain: &Drain,
        drain_spread: Duration,
    ) -> Self {
        let incarnation: Arc<str> = identity.incarnation().into();
        let (tcp, secret) = gate.map_or((None, None), |gate| (Some(gate.tcp), gate.secret));
        let mut tasks = JoinSet::new();
        let agrees = secret.is_none();
        let secrets = secret.map_or_else(Secrets::default, Secrets::given);
        let peers = Self::new(cluster, incarnation, secrets, tcp, JoinSet::new());
        if let Some(registry) = peers.cluster.registry() {
            if agrees {
                tasks.spawn(peers.secrets.clone().agree(registry.clone(), peers.cluster.membership()));
            }
            let (incarnation, membership) = (Arc::clone(&peers.incarnation), peers.cluster.membership());
            tasks.spawn(Arc::clone(&peers.held).keep(registry.clone(), incarnation, membership));
        }
        let drained = Drained { phase: drain.subscribe(), spread: drain_spread };
        Self { drained, _tasks: tasks, ..peers }
    }

    fn new(
        cluster: Cluster,
        incarnation: Arc<str>,
        secrets: Secrets,
        gate: Option<TcpListener>,
        tasks: JoinSet<()>,
    ) -> Self {
        Self {
            cluster,
            incarnation,
            held: Arc::default(),
            remembered: Mutex::default(),
            secrets,
            lines: Lines::default(),
            drained: Drained::never(),
            numbers: Mutex::default(),
            n_forwarded: AtomicU64::new(0),
            gate: Mutex::new(gate),
            _tasks: tasks,
        }
    }

    /// What this process is called among the nodes; empty on a node that is alone.
    #[must_use]
    pub fn incarnation(&self) -> &str {
        &self.incarnation
    }

    /// The bound port for nodes, for whoever serves it; `None` where there is none, or somebody has it.
    #[must_use]
    pub fn take_gate(&self) -> Option<TcpListener> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Claims a session for this node, as the first thing that is done with one that is not known here. Answers within
    /// [`OWNER_DEADLINE`].
    ///
    /// `session` names it among all sessions of the cluster: where several services have sessions, begin it with the service.
    pub async fn claim(&self, session: &str) -> Claimed {
        let key = SessionKey::of(session);
        let Some(registry) = self.cluster.registry() else { return Claimed::Here(Claim::alone(key)) };
        if self.held.holds(key) {
            return Claimed::Already;
        }
        let held =
            |claim: Option<Claim>, claimed: fn(Claim) -> Claimed| claim.map_or(Claimed::Already, claimed);
        // Others would take the session for that of a node that is gone.
        if !self.is_registered() {
            return held(self.held.hold_and_say(key), Claimed::Unknown);
        }
        let begun = clock::monotonic();
        let keys = [key];
        let claiming = registry.own(&keys, &self.incarnation, OWNER_LIFETIME);
        let owner = match tokio::time::timeout(OWNER_DEADLINE, claiming).await {
            Ok(Ok(owners)) => owners.into_iter().next(),
            Ok(Err(_)) | Err(_) => None,
        };
        match owner {
            Some(owner) if *owner == *self.incarnation => held(self.held.hold(key), Claimed::Here),
            Some(owner) => {
                let left = OWNER_DEADLINE.saturating_sub(clock::monotonic().saturating_sub(begun));
                match tokio::time::timeout(left, self.judge(key, owner.into())).await {
                    Ok(Owner::Elsewhere(destination)) => Claimed::Elsewhere(destination),
                    Ok(Owner::Lost) => Claimed::Lost,
                    Ok(_) | Err(_) => held(self.held.hold_and_say(key), Claimed::Unknown),
                }
            }
            None => held(self.held.hold_and_say(key), Claimed::Unknown),
        }
    }

    /// Who has a session. Answers within [`OWNER_DEADLINE`]; at once where this node or the same session's last request knows. `session` is as
    /// in [`claim`](Self::claim).
    pub async fn owner(&self, session: &str) -> Owner {
        let key = SessionKey::of(session);
        let Some(registry) = self.cluster.registry() else { return Owner::Nobody };
        if self.held.holds(key) {
            return Owner::Here;
        }
        let remembered = self.lock_remembered().get(key, clock::monotonic());
        let look = async {
            let owner = match remembered {
                Some(owner) => owner,
                None => match registry.owner(key).await {
                    Ok(Some(owner)) => owner.into(),
                    Ok(None) => return Owner::Nobody,
                    Err(_) => return Owner::Unknown,
                },
            };
            self.judge(key, owner).await
        };
        tokio::time::timeout(OWNER_DEADLINE, look).await.unwrap_or(Owner::Unknown)
    }

    /// As [`owner`](Self::owner), for a session that a client says there is: its claim may be under way, so `Nobody` is said only after `wait`.
    pub async fn owner_within(&self, session: &str, wait: Duration) -> Owner {
        let begun = clock::monotonic();
        loop {
            let owner = self.owner(session).await;
            // Of a node that is alone, nobody else has a session, however long it waits.
            let is_final = owner != Owner::Nobody || self.cluster.registry().is_none();
            if is_final || clock::monotonic().saturating_sub(begun) >= wait {
                return owner;
            }
            tokio::time::sleep(OWNER_POLL_INTERVAL).await;
        }
    }

    /// Forgets what this node remembers of a session elsewhere: its owner said that it ended, or could not be reached.
    pub fn forget(&self, session: &str) {
        self.lock_remembered().forget(SessionKey::of(session));
    }

    /// Whether the owner of a session is alive, and where.
    async fn judge(&self, key: SessionKey, owner: Arc<str>) -> Owner {
        if *owner == *self.incarnation {
            return Owner::Here;
        }
        let find = |nodes: &[Peer]| nodes.iter().find(|peer| *peer.identity.incarnation() == *owner).cloned();
        let known = find(&self.cluster.nodes());
        let peer = match known {
            Some(peer) => Some(peer),
            // One that came after this node looked last, or one that is gone.
            None => match self.cluster.look().await {
                Ok(nodes) => find(&nodes),
                Err(_) => return Owner::Unknown,
            },
        };
        match peer.and_then(|peer| peer.identity.peer_url) {
            Some(url) => {
                self.lock_remembered().put(key, &owner, clock::monotonic());
                Owner::Elsewhere(Destination { incarnation: owner, url: url.into() })
            }
            None => Owner::Lost,
        }
    }

    fn is_registered(&self) -> bool {
        self.cluster.membership().borrow().registration.is_some()
    }

    fn next_number(&self) -> u64 {
        self.n_forwarded.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn lock_remembered(&self) -> std::sync::MutexGuard<'_, Remembered> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
