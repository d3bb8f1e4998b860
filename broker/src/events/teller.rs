//! The task that tells what happens to this node's sessions.
//!
//! What waits is taken into the node's register first, which says whether it may be told, and told then. Where the register was
//! written by somebody else, this node was taken for dead: the sessions that were declared gone are ended, and nothing more is
//! told of them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bongsu_persistence::store::Error;
use bongsu_protocol::reason::{CloseReason, Goodbye};
use bongsu_protocol::topic::Topic;
use tokio::sync::watch;

use super::backlog::Backlog;
use super::event::{Event, level_of, register_of};
use super::log::{Attempt, Logs};
use super::register::{Entry, Part, Register};
use crate::clock;
use crate::cluster::{Cluster, Membership};
use crate::control::Connections;
use crate::limits::{
    EVENT_BATCH_BYTES, EVENT_BATCH_MAX, EVENT_CHECKPOINT_BYTES, EVENT_PART_BYTES, EVENT_RETRY_MAX,
    EVENT_RETRY_MIN,
};
use crate::metrics::METRICS;

/// See the [module](self).
pub(super) struct Teller {
    logs: Logs,
    backlog: Arc<Backlog>,
    connections: Arc<Connections>,
    membership: watch::Receiver<Membership>,
    /// How often this node looks whether it was taken for dead, and says that it lives where the registry does not; `None` for a
    /// node that is alone, which nobody takes for dead.
    interval: Option<Duration>,
    level: String,
    topic: Topic,
    register: Register,
    /// The number of the newest entry.
    number: u64,
    retry: Retry,
}

/// Pauses that grow while the store is away.
#[derive(Debug, Default)]
pub(super) struct Retry {
    pause: Duration,
}

impl Retry {
    /// Waits, and says the first time why.
    pub(super) async fn wait(&mut self, error: &Error) {
        if self.pause.is_zero() {
            tracing::warn!(%error, "events of sessions cannot be told; they will be");
        }
        self.pause = (self.pause * 2).clamp(EVENT_RETRY_MIN, EVENT_RETRY_MAX);
        tokio::time::sleep(self.pause).await;
    }

    pub(super) const fn succeeded(&mut self) {
        self.pause = Duration::ZERO;
    }
}

impl Teller {
    pub(super) fn new(
        logs: Logs,
        backlog: Arc<Backlog>,
        connections: Arc<Connections>,
        cluster: &Cluster,
        node: &str,
    ) -> Self {
        let level = level_of(node);
        Self {
            logs,
            backlog,
            connections,
            membership: cluster.membership(),
            interval: cluster.registry().map(|registry| registry.lease() / 3),
            topic: register_of(&level),
            level,
            register: Register::default(),
            number: 0,
            retry: Retry::default(),
        }
    }

    /// Tells until the process ends.
    pub(super) async fn run(mut self) {
        self.end_earlier_ones().await;
        let mut look_at = clock::monotonic();
        loop {
            loop {
                let events = self.backlog.take(EVENT_BATCH_MAX, EVENT_BATCH_BYTES);
                if events.is_empty() {
                    break;
                }
                self.tell(&events).await;
                self.backlog.done();
            }
            if let Some(interval) = self.interval
                && clock::monotonic() >= look_at
            {
                look_at = clock::monotonic() + interval;
                self.look().await;
            }
            let Self { backlog, membership, interval, .. } = &mut self;
            tokio::select! {
                biased;
                () = backlog.bell.notified() => {}
                // A registration that lapsed says that this node may have been taken for dead.
                Ok(()) = membership.changed(), if interval.is_some() => look_at = clock::monotonic(),
                () = tokio::time::sleep_until(clock::instant(look_at)), if interval.is_some() => {}
            }
        }
    }

    /// Tells the end of sessions that an earlier process of this node left behind.
    async fn end_earlier_ones(&mut self) {
        self.catch_up().await;
        // That process may have died before it told what its register took.
        let last = self.register.last.clone();
        if !last.is_empty() && !self.is_forgotten() {
            self.publish(&last).await;
        }
        loop {
            let now = clock::wall().0;
            let is_earlier = |event: &&Event| !self.is_own(event);
            let earlier = self.register.open.values().filter(is_earlier).take(EVENT_BATCH_MAX);
            let ends: Vec<_> = earlier.map(|event| event.lost_with_its_node(now)).collect();
            if ends.is_empty() {
                return;
            }
            METRICS.sessions_lost.add(ends.len() as u64);
            tracing::info!(sessions = ends.len(), "told the end of sessions of an earlier process");
            self.tell(&ends).await;
        }
    }

    /// Whether what the register took last is older than what is kept of it, so that nobody can tell whether it was told.
    fn is_forgotten(&self) -> bool {
        let age = clock::wall().0.saturating_sub(self.register.last_at.0);
        Duration::from_millis(age) >= self.logs.window
    }

    fn is_own(&self, event: &Event) -> bool {
        event.session.starts_with(self.connections.prefix())
    }

    /// Has events taken into the register, and tells them. Ends when they are told, however long that takes.
    async fn tell(&mut self, events: &[Event]) {
        self.number += 1;
        loop {
            let admitted = self.register.admit(events);
            if admitted.is_empty() {
                return;
            }
            if self.write(admitted.clone(), None).await {
                self.publish(&admitted).await;
                break;
            }
        }
        let due = EVENT_CHECKPOINT_BYTES.max(self.register.checkpoint_bytes);
        if self.register.bytes_since > due {
            self.checkpoint().await;
        }
    }

    /// Appends one entry, until it is known whether it was taken. False: the register said something else meanwhile, so that what was to
    /// be written must be judged again.
    async fn write(&mut self, events: Vec<Event>, part: Option<Part>) -> bool {
        let writer = self.connections.prefix().to_owned();
        let entry = Entry { writer, number: self.number, events, part };
        loop {
            match self.logs.append(&self.topic, &mut self.register, &entry).await {
                Ok(Attempt::Taken) => {
                    self.retry.succeeded();
                    return true;
                }
                Ok(Attempt::Stale) => {
                    self.catch_up().await;
                    // An attempt whose outcome was not known may have been taken.
                    return self.register.has(&entry);
                }
                Err(error) => self.retry.wait(&error).await,
            }
        }
    }

    /// Appends messages that nobody has seen, until that is done.
    async fn publish(&mut self, events: &[Event]) {
        while let Err(error) = self.logs.tell(&self.level, events).await {
            self.retry.wait(&error).await;
        }
        self.retry.succeeded();
    }

    /// Reads what others wrote, and ends the sessions of this process that were declared gone.
    async fn catch_up(&mut self) {
        let own = |register: &Register, prefix: &str| -> BTreeSet<String> {
            register.open.keys().filter(|session| session.starts_with(prefix)).cloned().collect()
        };
        let before = own(&self.register, self.connections.prefix());
        let epoch = self.register.head.epoch;
        let open = self.register.open.clone();
        while let Err(error) = self.logs.catch_up(&self.topic, &mut self.register).await {
            self.retry.wait(&error).await;
        }
        if self.register.head.epoch != epoch && !before.is_empty() {
            // A register that was removed says nothing of anybody: this process knows of its own sessions.
            let own = open.into_iter().filter(|(session, _)| before.contains(session));
            self.register.open.extend(own);
            self.register.bytes_since = usize::MAX / 2;
            return;
        }
        let after = own(&self.register, self.connections.prefix());
        let mut n_ended = 0;
        for session in before.difference(&after) {
            let text = "this node was taken for dead, and others were told that the session ended";
            let goodbye = Goodbye { retry_after_ms: Some(0), ..Goodbye::new(CloseReason::GoingAway, text) };
            n_ended += self.connections.dismiss(session, goodbye);
        }
        if n_ended > 0 {
            METRICS.sessions_dismissed.add(n_ended as u64);
            tracing::warn!(
                n_ended,
                "this node was taken for dead: ended the sessions that were declared gone"
            );
        }
    }

    /// Looks whether this node was taken for dead, and says that it lives where Redis does not.
    async fn look(&mut self) {
        self.catch_up().await;
        let is_registered = {
            let membership = self.membership.borrow_and_update();
            membership.is_reachable && membership.registration.is_some()
        };
        if !is_registered && !self.register.open.is_empty() {
            self.number += 1;
            self.write(Vec::new(), None).await;
        }
    }

    /// Writes down which sessions are open, and has removed what that stands for.
    async fn checkpoint(&mut self) {
        'whole: loop {
            for part in self.register.parts(EVENT_PART_BYTES) {
                self.number += 1;
                if !self.write(Vec::new(), Some(part)).await {
                    // Somebody wrote in between: another one, of how things stand now.
                    continue 'whole;
                }
            }
            return self.logs.purge(&self.topic, &self.register).await;
        }
    }
}
