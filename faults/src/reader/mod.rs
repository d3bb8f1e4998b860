//! Subscribers that keep positions and resume by them, on whatever node they get: one life for all transports.
//!
//! `native`, `stomp`, `events` and `polls` are what one connection of each kind does.

mod events;
mod native;
mod polls;
mod stomp;

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use crate::ledger::{Broken, Ledger};
use crate::transport::Transport;
use crate::wire::{Lost, Position, Reset};

/// What a subscriber is made of.
#[derive(Clone)]
pub(crate) struct Subscriber {
    pub(crate) transport: Transport,
    /// Where it connects: to the first, and after each end to the next.
    pub(crate) ways: Vec<SocketAddr>,
    /// One only, where the [transport](Transport::reads_one_topic) reads one; no patterns but in the native protocol.
    pub(crate) filters: Vec<String>,
    /// Its number in the ledger.
    pub(crate) number: usize,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) seed: u64,
    /// Leaves of its own accord after a random time of up to twice this, and comes back: a phone in a tunnel.
    pub(crate) restless: Option<Duration>,
    /// How long it stays away then, on average.
    pub(crate) away: Duration,
    /// What it does wrong on purpose.
    pub(crate) flaw: Flaw,
}

/// What a reader may do wrong, so that the checker can show that it notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// Nothing.
    None,
    /// It does not see the first message after it resumed, as if the broker had gone on one too far.
    Skips,
}

/// What it keeps across connections.
#[derive(Default)]
struct Kept {
    /// By filter; what the native protocol wants for patterns, see `docs/protocol.md`, "Resuming".
    since: HashMap<String, u64>,
    /// By topic, the newest.
    positions: HashMap<String, Position>,
    /// The newest deliveries of this connection, where it had to begin a pattern anew: one whose first answer never came has no
    /// time to resume from, so what came before that answer comes again.
    repeats: Option<HashMap<String, Position>>,
    /// What an event stream said last of where it is.
    bookmark: Option<String>,
    /// Whether the next message is the first after a resume.
    is_first: bool,
    /// Whether something was answered on this connection.
    is_connected: bool,
    /// Connections that failed since one did not.
    n_failures: u32,
    /// Connections so far.
    n_connections: usize,
}

impl Subscriber {
    /// One for each topic where the transport reads one at a time. To the ledger they stay one.
    pub(crate) fn split(self) -> Vec<Self> {
        if !self.transport.reads_one_topic() {
            return vec![self];
        }
        let part = |(idx, filter): (usize, &String)| Self {
            filters: vec![filter.clone()],
            seed: self.seed.wrapping_add(idx as u64),
            ..self.clone()
        };
        self.filters.iter().enumerate().map(part).collect()
    }

    /// Subscribes and resumes until `stop` says so.
    pub(crate) async fn run(self, mut stop: watch::Receiver<bool>) {
        let mut random = StdRng::seed_from_u64(self.seed);
        let mut kept = Kept::default();
        while !*stop.borrow() {
            let leave =
                self.restless.map(|mean| Instant::now() + mean.mul_f64(random.random_range(0.0..2.0)));
            kept.is_first = !kept.positions.is_empty();
            let way = self.ways[kept.n_connections % self.ways.len()];
            kept.n_connections += 1;
            kept.is_connected = false;
            let ended = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return,
                () = sleep_until(leave.unwrap_or_else(|| Instant::now() + FOREVER)) => Ok(()),
                ended = self.read(way, &mut kept) => ended.map(|never| match never {}),
            };
            let longest = match ended {
                Ok(()) => self.away * 2,
                // After an end that nobody announced: a random time up to 1 s, 2 s, 4 s.
                Err(error) => {
                    self.ledger.disconnected(self.number, &error);
                    kept.n_failures += 1;
                    Duration::from_millis(500 << kept.n_failures.min(3))
                }
            };
            let last_chance = stop.wait_for(|stop| *stop);
            // Whoever is away when the run ends still has to catch up.
            let _ = timeout(longest.mul_f64(random.random_range(0.0..1.0)), last_chance).await;
        }
    }

    /// One connection, to its end.
    async fn read(&self, way: SocketAddr, kept: &mut Kept) -> anyhow::Result<Infallible> {
        match self.transport {
            Transport::StompWebSocket | Transport::StompSockJs | Transport::StompTcp => {
                self.read_stomp(way, kept).await
            }
            Transport::EventSource | Transport::EventsOfSeveral | Transport::Lines => {
                self.read_events(way, kept).await
            }
            Transport::LongPoll => self.read_by_polls(way, kept).await,
            _ => self.read_native(way, kept).await,
        }
    }

    /// It has a connection, or as much of one as its transport has.
    fn connected(&self, kept: &mut Kept, node: &str) {
        kept.n_failures = 0;
        if !std::mem::replace(&mut kept.is_connected, true) {
            self.ledger.connected(self.number, node);
        }
    }

    /// A message came.
    fn came(&self, kept: &mut Kept, topic: &str, position: Position, id: &str) {
        let is_first = std::mem::replace(&mut kept.is_first, false);
        if !(is_first && self.flaw == Flaw::Skips) {
            self.ledger.delivered(self.number, topic, position, id);
        }
        kept.pass(topic, position);
    }

    /// Some messages will not come.
    fn lost(&self, kept: &mut Kept, lost: &Lost) {
        self.ledger.lost(self.number, &lost.topic, lost.epoch, lost.from, lost.until);
        kept.pass(&lost.topic, Position { epoch: lost.epoch, offset: lost.until });
    }

    /// A log was made anew, which no run does.
    fn reset(&self, kept: &mut Kept, reset: &Reset) {
        let text = format!("{}: reset to epoch {}, and no log was made anew", reset.topic, reset.epoch);
        self.ledger.violate(Broken::Unexplained, text);
        kept.pass(&reset.topic, Position { epoch: reset.epoch, offset: 0 });
    }
}

/// Longer than any run.
const FOREVER: Duration = Duration::from_secs(24 * 60 * 60);

impl Kept {
    fn pass(&mut self, topic: &str, position: Position) {
        match self.positions.get_mut(topic) {
            Some(known) => *known = position.max(*known),
            None => {
                self.positions.insert(topic.to_owned(), position);
            }
        }
    }
}
