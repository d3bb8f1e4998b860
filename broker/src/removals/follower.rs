//! Follows the log of removals and has this node forget what they took.

use std::sync::{Arc, Weak};
use std::time::Duration;

use bongsu_persistence::store::{Error, Removal, Retention, Store};
use bongsu_protocol::command::{HistoryQuery, HistoryRange, Start};
use bongsu_protocol::cursor::{Cursor, Page, Step};
use bongsu_protocol::message::Delivery;

use super::note::Note;
use super::{LOG, in_time};
use crate::bus::Listener;
use crate::clock;
use crate::history::History;
use crate::limits::{REMOVALS_INTERVAL, REMOVALS_PAGE, REMOVALS_RETENTION, REMOVALS_TRIM_INTERVAL};

pub(super) struct Follower {
    store: Arc<dyn Store>,
    bell: Listener,
    /// Nobody reads by it any more: the end.
    history: Weak<History>,
    /// `None`: the log was not looked at yet. What was removed before this node began, it cannot remember.
    cursor: Option<Cursor<Arc<Delivery>>>,
    /// When what is too old is taken away next.
    trim_at: Duration,
    /// Whether the store failed last, so that it is said once.
    is_failing: bool,
}

impl Follower {
    pub(super) fn new(store: Arc<dyn Store>, bell: Listener, history: &Arc<History>) -> Self {
        let history = Arc::downgrade(history);
        Self { store, bell, history, cursor: None, trim_at: Duration::ZERO, is_failing: false }
    }

    /// Follows until nobody reads logs any more, which is the end of the process.
    pub(super) async fn run(mut self) {
        while let Some(history) = self.history.upgrade() {
            match self.look(&history).await {
                Ok(()) => self.is_failing = false,
                Err(error) => {
                    if !std::mem::replace(&mut self.is_failing, true) {
                        tracing::warn!(%error, "removals of other nodes cannot be read; they will be");
                    }
                }
            }
            drop(history);
            self.trim().await;
            tokio::select! {
                biased;
                () = self.bell.rung() => {}
                () = tokio::time::sleep(REMOVALS_INTERVAL) => {}
            }
        }
    }

    /// Takes what is new, to the head of the log.
    async fn look(&mut self, history: &History) -> Result<(), Error> {
        let cursor = match &mut self.cursor {
            Some(cursor) => cursor,
            None => {
                let page = read(&*self.store, Start::Latest).await?;
                self.cursor.insert(Cursor::live(page.head))
            }
        };
        cursor.interrupt();
        // A pause after a failed read has passed by the next look.
        while let Some(after) = cursor.poll_read(clock::monotonic()) {
            let page = match read(&*self.store, Start::After(after)).await {
                Ok(page) => page,
                Err(error) => {
                    cursor.read_failed(clock::monotonic());
                    return Err(error);
                }
            };
            cursor.read_done(clock::monotonic(), page);
            while let Some(step) = cursor.poll_step() {
                match step {
                    Step::Item(_, delivery) => match Note::decode(&delivery.message.payload) {
                        Some(gone) => history.forget_removed(&gone),
                        None => history.forget_what_may_be_removed(),
                    },
                    Step::Lost { .. } | Step::Reset { .. } => {
                        tracing::warn!(
                            "this node was away for too long to know what was removed meanwhile: it forgets everything"
                        );
                        history.forget_what_may_be_removed();
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes away what no node needs any more.
    async fn trim(&mut self) {
        let now = clock::monotonic();
        if now < self.trim_at || self.is_failing {
            return;
        }
        self.trim_at = now + REMOVALS_TRIM_INTERVAL;
        let retention = Retention { age: Some(REMOVALS_RETENTION), ..Retention::default() };
        let removal = Removal::Retain { topic: LOG.clone(), retention, now: clock::wall() };
        // What is left, the next round takes.
        let _ = in_time(self.store.remove(removal)).await;
    }
}

async fn read(store: &dyn Store, start: Start) -> Result<Page<Arc<Delivery>>, Error> {
    let range = HistoryRange::Forward(start);
    let query = HistoryQuery { topic: LOG.clone(), range, limit: REMOVALS_PAGE };
    let page = in_time(store.read(query)).await?;
    let items = page.messages.into_iter();
    let items = items.filter_map(|delivery| Some((delivery.position?, delivery))).collect();
    Ok(Page { items, first: page.first, head: page.head })
}
