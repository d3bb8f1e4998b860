//! What is removed from logs on command: a message's content, the oldest messages, a whole log.
//!
//! The store does it; what this module adds is that nobody answers from memory what is gone. Nodes remember the newest messages of logs,
//! and views and answers made of them. So a removal is noted in the log `$removals` before and after it is done, and every node follows that
//! log: told by the bus, and looking about once a second in any case. A node that was away reads what it missed, or, after
//! an hour, forgets everything.
//!
//! ```text
//!   remove ── noted ──▶ $removals ──▶ every node forgets, and remembers nothing new of the topic for a while
//!      ├───── done  ──▶ the log in the store
//!      └───── noted ──▶ $removals ──▶ every node forgets what it read in between
//! ```
//!
//! The first note is what makes it hold where the node dies in between: for as long as a removal takes, nobody remembers anything of the topic.

mod follower;
mod note;

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bongsu_persistence::store::{Append, Appended, Error, Removal, Removed, Store};
use bongsu_protocol::command::{HistoryQuery, HistoryRange, Start};
use bongsu_protocol::message::{Message, NewMessage};
use bongsu_protocol::position::{Epoch, Position};
use bongsu_protocol::topic::Topic;

use crate::bus::{Bell, Bus, CONTROL_CHANNEL, Frame};
use crate::clock;
use crate::history::{Gone, History, Part};
use crate::limits::STORE_DEADLINE;

use follower::Follower;
use note::Note;

/// The log of removals.
static LOG: LazyLock<Topic> =
    LazyLock::new(|| Topic::parse("$removals").expect("it has no character that a topic lacks"));

/// Removes from logs, and tells every node. See the [module](self).
pub struct Removals {
    store: Arc<dyn Store>,
    /// `None`: this node is alone.
    bus: Option<Arc<dyn Bus>>,
    bell: Bell,
    history: Arc<History>,
}

impl Removals {
    /// Starts to follow the removals of all nodes, and to have this one forget what they took. Whoever rings `bell` heard on
    /// [`CONTROL_CHANNEL`] that there is one, or may have missed that.
    #[must_use]
    pub fn spawn(
        store: &Arc<dyn Store>,
        bus: Option<Arc<dyn Bus>>,
        bell: &Bell,
        history: &Arc<History>,
    ) -> Self {
        tokio::spawn(Follower::new(Arc::clone(store), bell.listen(), history).run());
        Self { store: Arc::clone(store), bus, bell: bell.clone(), history: Arc::clone(history) }
    }

    /// Removes something of a topic's log in somebody's name, and answers how many messages that took, 0 if there was nothing to take.
    /// When this returns, nobody who reads from this node finds it, and within a second nobody does who reads from another one.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: some or all of it may be gone; removing again is safe. [`Error::Corrupt`]: somebody must look.
    pub async fn remove(&self, issuer: &str, topic: &Topic, part: Part) -> Result<u64, Error> {
        let Some(epoch) = self.epoch(topic).await? else { return Ok(0) };
        let gone = Gone { topic: topic.clone(), epoch, part };
        self.tell(issuer, &Note::begun(&gone)).await?;
        self.history.forget_removed(&gone);
        let topic = topic.clone();
        let removal = match part {
            Part::Message(offset) => Removal::Erase { topic, position: Position { epoch, offset } },
            Part::Until(until) => Removal::Purge { topic, until },
            Part::All => Removal::Delete { topic },
        };
        let count = self.take(removal).await?;
        self.history.forget_removed(&gone);
        self.tell(issuer, &Note::done(&gone)).await?;
        Ok(count)
    }

    /// The incarnation of a topic's log, if it has one.
    async fn epoch(&self, topic: &Topic) -> Result<Option<Epoch>, Error> {
        let range = HistoryRange::Forward(Start::Latest);
        let query = HistoryQuery { topic: topic.clone(), range, limit: 1 };
        let page = in_time(self.store.read(query)).await?;
        Ok(Some(page.head.epoch).filter(|epoch| epoch.0 > 0))
    }

    /// Takes all of it away, in the store's bounded steps.
    async fn take(&self, removal: Removal) -> Result<u64, Error> {
        let mut count = 0;
        loop {
            let Removed { count: n_taken, more } = in_time(self.store.remove(removal.clone())).await?;
            count += n_taken;
            if !more {
                return Ok(count);
            }
        }
    }

    async fn tell(&self, issuer: &str, note: &Note) -> Result<(), Error> {
        let content_type = "application/json".to_owned();
        let message = Message { payload: note.encode(), content_type, ..Message::default() };
        let append = Append {
            message: NewMessage { topic: LOG.clone(), message, expect: None },
            publisher: issuer.to_owned(),
            time: clock::wall(),
            idempotency_window: Duration::ZERO,
        };
        match in_time(self.store.append(vec![append])).await?.first() {
            Some(Appended::Stored(_)) => {}
            _ => return Err(Error::Corrupt("a removal was taken for another message".to_owned())),
        }
        self.bell.ring();
        if let Some(bus) = self.bus.clone() {
            let frame = Frame { channel: CONTROL_CHANNEL.into(), payload: "removals".into() };
            // Whoever does not hear it finds the removal by looking.
            let _ = bus.publish(vec![frame]).await;
        }
        Ok(())
    }
}

impl std::fmt::Debug for Removals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Removals").finish_non_exhaustive()
    }
}

async fn in_time<T>(call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let late = |_| Error::Unavailable("it did not answer in time".to_owned());
    tokio::time::timeout(STORE_DEADLINE, call).await.map_err(late)?
}
