//! Tells the end of sessions whose node died and does not come back to tell it.
//!
//! A node is dead that Redis has not heard of for a whole lease after its own ran out, and that has written nothing into its register
//! meanwhile: a node that only lost Redis says there that it lives. Any node may tell; what is told must be taken by the
//! register first, which takes it from one of them. A node that was not dead finds it there, and ends the sessions.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bongsu_persistence::store::{Error, LogBounds, Removal};
use bongsu_protocol::message::Time;
use bongsu_protocol::position::Position;
use bongsu_protocol::topic::Topic;
use tokio::sync::watch;

use super::event::{REGISTERS, level_of, told_on};
use super::log::{Attempt, Logs};
use super::register::{Entry, Register};
use crate::clock;
use crate::cluster::{Membership, Registration};
use crate::limits::{EVENT_BATCH_MAX, EVENT_PART_BYTES};
use crate::metrics::METRICS;

/// See the [module](self).
pub(super) struct Reaper {
    logs: Logs,
    membership: watch::Receiver<Membership>,
    lease: Duration,
    /// This process, as a writer of others' registers.
    writer: String,
    /// The number of the newest entry.
    number: u64,
    /// This node's own level.
    own: String,
    /// The registration under which the others were watched.
    registration: Option<Arc<Registration>>,
    /// Nodes that have a register and no lease, by level.
    absent: HashMap<String, Absent>,
}

/// A node that has no lease.
#[derive(Debug)]
struct Absent {
    /// How far its register reached when it was looked at last.
    head: Position,
    /// Since when it has stood there, without a lease.
    since: Duration,
    /// When nothing of it was left to be told up to there.
    settled_at: Option<Duration>,
}

impl Reaper {
    pub(super) fn new(
        logs: Logs,
        membership: watch::Receiver<Membership>,
        lease: Duration,
        node: &str,
        process: &str,
    ) -> Self {
        Self {
            logs,
            membership,
            lease,
            writer: format!("{process}reaper"),
            number: 0,
            own: level_of(node),
            registration: None,
            absent: HashMap::new(),
        }
    }

    /// Looks for dead nodes, three times in a lease. Ends with the process.
    pub(super) async fn run(mut self) {
        let mut rounds = tokio::time::interval(self.lease / 3);
        rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            rounds.tick().await;
            if let Err(error) = self.round().await {
                tracing::debug!(%error, "registers of sessions could not be looked at; they will be");
            }
        }
    }

    async fn round(&mut self) -> Result<(), Error> {
        let membership = self.membership.borrow_and_update().clone();
        let alive: Vec<String> = membership.nodes.iter().map(|peer| level_of(&peer.identity.name)).collect();
        let is_same = match (&self.registration, &membership.registration) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            _ => false,
        };
        if !membership.is_reachable || !is_same {
            // Who cannot see the others does not judge them; and a registry that was lost needs time to hear of them again.
            self.absent.clear();
            self.registration = membership.registration.filter(|_| membership.is_reachable);
            return Ok(());
        }
        let registers = self.logs.registers().await?;
        self.absent.retain(|level, _| registers.iter().any(|log| level_in(&log.topic) == level));
        for log in registers {
            let level = level_in(&log.topic);
            if level == self.own || alive.iter().any(|one| one == level) {
                self.absent.remove(level);
            } else if self.is_dead(level, log.head) {
                self.take_away(&log).await?;
            }
        }
        Ok(())
    }

    /// Whether a node without a lease has been silent for so long that its sessions are gone, and something of them may be left to be
    /// told.
    fn is_dead(&mut self, level: &str, head: Position) -> bool {
        let now = clock::monotonic();
        let fresh = || Absent { head, since: now, settled_at: None };
        let absent = self.absent.entry(level.to_owned()).or_insert_with(fresh);
        if absent.head != head {
            // It lives, or somebody else sees to it.
            *absent = fresh();
        }
        // After that time it is looked at once more, to be forgotten.
        let is_settled = absent.settled_at.is_some_and(|at| now.saturating_sub(at) < self.logs.window);
        !is_settled && now.saturating_sub(absent.since) >= self.lease
    }

    /// Tells the end of every session that a dead node's register says is open. Stops where somebody else writes there, too.
    async fn take_away(&mut self, log: &LogBounds) -> Result<(), Error> {
        let topic = &log.topic;
        let level = level_in(topic).to_owned();
        let mut register = Register::default();
        self.logs.catch_up(topic, &mut register).await?;
        if register.head != log.head {
            return Ok(());
        }
        // Whoever wrote last may have died before it told that.
        let now = clock::wall().0;
        let is_old = |time: Time| Duration::from_millis(now.saturating_sub(time.0)) >= self.logs.window;
        if !register.last.is_empty() && !is_old(register.last_at) {
            self.logs.tell(&level, &register.last).await?;
        }
        let (n_sessions, is_forgotten) = (register.open.len(), is_old(register.head_at));
        while !register.open.is_empty() {
            let ends = register.open.values().take(EVENT_BATCH_MAX);
            let ends: Vec<_> = ends.map(|event| event.lost_with_its_node(now)).collect();
            if self.write(topic, &mut register, |entry| entry.events = ends).await? == Attempt::Stale {
                return Ok(());
            }
            METRICS.sessions_lost.add(register.last.len() as u64);
            self.logs.tell(&level, &register.last).await?;
        }
        if n_sessions > 0 {
            tracing::info!(node = level, n_sessions, "told the end of a dead node's sessions");
            // Nobody needs to read all of that again.
            for part in register.parts(EVENT_PART_BYTES) {
                self.write(topic, &mut register, |entry| entry.part = Some(part)).await?;
            }
            self.logs.purge(topic, &register).await;
        } else if is_forgotten {
            return self.forget(topic, &level).await;
        }
        if let Some(absent) = self.absent.get_mut(&level) {
            let settled_at = (n_sessions == 0).then(clock::monotonic);
            (absent.head, absent.settled_at) = (register.head, settled_at);
        }
        Ok(())
    }

    async fn write(
        &mut self,
        topic: &Topic,
        register: &mut Register,
        fill: impl FnOnce(&mut Entry),
    ) -> Result<Attempt, Error> {
        self.number += 1;
        let mut entry = Entry { writer: self.writer.clone(), number: self.number, ..Entry::default() };
        fill(&mut entry);
        self.logs.append(topic, register, &entry).await
    }

    /// Removes the logs of a node that was not heard of for longer than its events are kept.
    async fn forget(&self, topic: &Topic, level: &str) -> Result<(), Error> {
        tracing::info!(node = level, "removed what was told of a node that is gone");
        self.logs.remove(Removal::Delete { topic: topic.clone() }).await?;
        self.logs.remove(Removal::Delete { topic: told_on(level) }).await
    }
}

/// The level that stands for the node, in the name of its register.
fn level_in(topic: &Topic) -> &str {
    topic.as_str().strip_prefix(REGISTERS).unwrap_or_default()
}
