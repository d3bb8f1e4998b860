//! Follows the log of commands and carries them out on this node.

use std::sync::Arc;
use std::time::Duration;

use bongsu_persistence::store::{Error, Removal, Retention, Store};
use bongsu_protocol::command::{HistoryQuery, HistoryRange, Start};
use bongsu_protocol::cursor::{Cursor, Page, Step};
use bongsu_protocol::message::{Delivery, Time};
use bongsu_protocol::position::Position;
use tokio::sync::watch;

use super::command::{Action, Command};
use super::{Connections, LOG};
use crate::bus::Listener;
use crate::clock;
use crate::limits::{
    CONTROL_CLOCK_SKEW_MS, CONTROL_INTERVAL, CONTROL_PAGE, CONTROL_RETENTION, CONTROL_TRIM_INTERVAL,
    STORE_DEADLINE,
};
use crate::metrics::METRICS;

pub(super) struct Follower {
    store: Arc<dyn Store>,
    bell: Listener,
    connections: Arc<Connections>,
    cursor: Cursor<Arc<Delivery>>,
    /// Whether the log was read to its head once.
    caught_up: watch::Sender<bool>,
    /// When what is too old is taken away next.
    trim_at: Duration,
    /// Whether the store failed last, so that it is said once.
    is_failing: bool,
}

impl Follower {
    pub(super) fn new(
        store: Arc<dyn Store>,
        bell: Listener,
        connections: Arc<Connections>,
    ) -> (Self, watch::Receiver<bool>) {
        let (caught_up, receiver) = watch::channel(false);
        let cursor = Cursor::new(Position::default());
        let (trim_at, is_failing) = (Duration::ZERO, false);
        (Self { store, bell, connections, cursor, caught_up, trim_at, is_failing }, receiver)
    }

    /// Follows until nobody issues commands any more, which is the end of the process.
    pub(super) async fn run(mut self) {
        while self.caught_up.receiver_count() > 0 {
            self.cursor.interrupt();
            self.follow().await;
            self.trim().await;
            tokio::select! {
                biased;
                () = self.bell.rung() => {}
                () = tokio::time::sleep(CONTROL_INTERVAL) => {}
            }
        }
    }

    /// Carries out what is there. Ends at the head, or where the store fails.
    async fn follow(&mut self) {
        loop {
            while let Some(step) = self.cursor.poll_step() {
                match step {
                    Step::Item(position, delivery) => self.carry_out(position, &delivery).await,
                    // What retention took, nobody needs any more; a log that was made anew is followed from its beginning.
                    Step::Lost { .. } | Step::Reset { .. } => {}
                }
            }
            let Some(after) = self.cursor.poll_read(clock::monotonic()) else { break };
            match self.read(after).await {
                Ok(page) => {
                    self.is_failing = false;
                    self.cursor.read_done(clock::monotonic(), page);
                }
                Err(error) => {
                    self.cursor.read_failed(clock::monotonic());
                    if !std::mem::replace(&mut self.is_failing, true) {
                        tracing::warn!(%error, "commands of operators cannot be read; they will be");
                    }
                    return;
                }
            }
        }
        if self.cursor.is_live() {
            self.caught_up.send_replace(true);
        }
    }

    async fn read(&self, after: Position) -> Result<Page<Arc<Delivery>>, Error> {
        let range = HistoryRange::Forward(Start::After(after));
        let query = HistoryQuery { topic: LOG.clone(), range, limit: CONTROL_PAGE };
        let late = |_| Error::Unavailable("it did not answer in time".to_owned());
        let page = tokio::time::timeout(STORE_DEADLINE, self.store.read(query)).await.map_err(late)??;
        let items = page.messages.into_iter();
        let items = items.filter_map(|delivery| Some((delivery.position?, delivery))).collect();
        Ok(Page { items, first: page.first, head: page.head })
    }

    async fn carry_out(&self, position: Position, delivery: &Delivery) {
        let Some(Command { action, reason }) = Command::decode(&delivery.message.payload) else {
            tracing::warn!(?position, "this version does not know a command of an operator, and skips it");
            return;
        };
        METRICS.controlled.add(1);
        match action {
            Action::Kick(target) => {
                // Clocks may differ a little, and rather one too many is ended.
                let before = Time(delivery.time.0.saturating_add(CONTROL_CLOCK_SKEW_MS));
                let n_kicked = self.connections.kick(&target, before, &reason).await;
                METRICS.kicked.add(n_kicked as u64);
                tracing::info!(?target, n_kicked, issuer = %delivery.publisher, "kicked");
            }
        }
    }

    /// Takes away what no node needs any more.
    async fn trim(&mut self) {
        let now = clock::monotonic();
        if now < self.trim_at || self.is_failing {
            return;
        }
        self.trim_at = now + CONTROL_TRIM_INTERVAL;
        let retention = Retention { age: Some(CONTROL_RETENTION), ..Retention::default() };
        let removal = Removal::Retain { topic: LOG.clone(), retention, now: clock::wall() };
        // What is left, the next round takes.
        let _ = tokio::time::timeout(STORE_DEADLINE, self.store.remove(removal)).await;
    }
}
