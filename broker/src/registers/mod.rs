//! Registers: documents of the broker's own that operators change while it runs, the same on every node.
//!
//! A register is a JSON document; it is the newest message of the log `$register/{name}`, and a version of it is that message's position.
//! It changes by an append on the condition that nobody else changed it since it was read, so no change is ever lost to another one, and
//! the log is the history of its versions, of which the newest are kept. Every node follows every register: told by the bus that there is
//! something new, and looking about once a second in any case.
//!
//! ```text
//!   change ── append if the newest is still …7 ──▶ $register/policies: …5 …6 …7 8
//!      └───── rings ──▶ bus ──▶ follower of each node ── reads 8 ──▶ current(), watch()
//! ```
//!
//! What a later version of the broker wrote and this one cannot read is passed over: the newest that it can read goes on to hold, which is
//! said once and counted, and this node refuses to change the document.

mod change;
mod follower;
mod log;
mod lookout;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};

use bongsu_persistence::store::{self, Store};
use bongsu_protocol::message::Time;
use bongsu_protocol::position::Position;
use bongsu_protocol::topic::Topic;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use crate::bus::{Bell, Bus, CONTROL_CHANNEL};

pub use change::ChangeError;
pub use log::Version;

use log::Log;
use lookout::Heads;

/// What the names of registers' logs begin with.
pub const PREFIX: &str = "$register/";

/// What a register may hold: a type with a JSON form, and a value for a register that nobody ever changed. Whether it takes members that it does
/// not know is the type's choice (`#[serde(deny_unknown_fields)]`): skipped they are lost with the next change, denied the version is passed over.
pub trait Document: Default + Serialize + DeserializeOwned + Send + Sync + 'static {}

impl<T: Default + Serialize + DeserializeOwned + Send + Sync + 'static> Document for T {}

/// Opens registers. Cheap to clone.
#[derive(Clone)]
pub struct Registers {
    store: Arc<dyn Store>,
    /// `None`: this node is alone.
    bus: Option<Arc<dyn Bus>>,
    bell: Bell,
    /// Of each register that was opened, whether it was looked at.
    looked: Arc<Mutex<Vec<watch::Receiver<bool>>>>,
    heads: watch::Receiver<Heads>,
}

/// A document that every node follows, for as long as a handle of it is there. Cheap to clone.
pub struct Register<T>(Arc<Inner<T>>);

/// One version of a register.
#[derive(Debug)]
pub struct Versioned<T> {
    /// Which; offset 0 of a register that nobody ever changed.
    pub position: Position,
    /// When it was made.
    pub time: Time,
    /// Who made it.
    pub by: String,
    /// The document.
    pub document: Arc<T>,
    /// The newest version: another than `position` where this node cannot read it.
    pub head: Position,
}

struct Inner<T> {
    log: Log,
    newest: watch::Sender<Versioned<T>>,
    looked: watch::Sender<bool>,
    /// Tells the other nodes, and this one's followers.
    ringer: Ringer,
}

/// Tells every node that there is something new.
#[derive(Clone)]
struct Ringer {
    bus: Option<Arc<dyn Bus>>,
    bell: Bell,
}

impl Registers {
    /// The registers in this store. Whoever rings `bell` heard on [`CONTROL_CHANNEL`] that there is something new, or may have missed that.
    #[must_use]
    pub fn new(store: &Arc<dyn Store>, bus: Option<&Arc<dyn Bus>>, bell: &Bell) -> Self {
        if let Some(bus) = bus.cloned() {
            // Not waited for: without the bus, changes are found by looking.
            tokio::spawn(async move { bus.subscribe(vec![CONTROL_CHANNEL.into()]).await });
        }
        let (sender, heads) = watch::channel(None);
        tokio::spawn(lookout::look_out(Arc::clone(store), sender, bell.listen()));
        let (store, bus, bell) = (Arc::clone(store), bus.cloned(), bell.clone());
        Self { store, bus, bell, looked: Arc::default(), heads }
    }

    /// Opens a register, and follows it from now on. Its name is one or more levels of a topic. To be opened once, and shared.
    ///
    /// # Panics
    /// If the name is none: it stands in the code.
    #[must_use]
    pub fn open<T: Document>(&self, name: &str) -> Register<T> {
        let topic =
            Topic::parse(&format!("{PREFIX}{name}")).expect("names of registers are levels of a topic");
        let inner = Arc::new(Inner {
            log: Log { store: Arc::clone(&self.store), topic },
            newest: watch::Sender::new(Versioned::default()),
            looked: watch::Sender::new(false),
            ringer: Ringer { bus: self.bus.clone(), bell: self.bell.clone() },
        });
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        looked.push(inner.looked.subscribe());
        tokio::spawn(follower::follow(Arc::downgrade(&inner), self.heads.clone()));
        Register(inner)
    }

    /// Waits until every register that was opened by now was looked at, so that what held before this node started holds on it. That may be
    /// never where the store is away: bound it.
    pub async fn caught_up(&self) {
        let looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for mut looked in looked {
            // One that is followed no longer keeps nobody waiting.
            let _ = looked.wait_for(|looked| *looked).await;
        }
    }
}

impl<T: Document> Register<T> {
    /// The newest version that this node knows and can read; it may be a second old. Never waits.
    #[must_use]
    pub fn current(&self) -> Versioned<T> {
        self.0.newest.borrow().clone()
    }

    /// Whether the store was looked into: before that, the document is that of a register that nobody ever changed.
    #[must_use]
    pub fn is_known(&self) -> bool {
        *self.0.looked.borrow()
    }

    /// Asks the newest version something, without sharing it: as [`current`](Self::current), for those who ask often. `ask` is short.
    pub fn with<R>(&self, ask: impl FnOnce(&T) -> R) -> R {
        ask(&self.0.newest.borrow().document)
    }

    /// Waits until it was looked at once, which may be never where the store is away.
    pub async fn looked_at(&self) {
        // The sender is part of what this handle holds.
        let _ = self.0.looked.subscribe().wait_for(|looked| *looked).await;
    }

    /// Tells of every change from now on; changes that follow each other closely may be told as one.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Versioned<T>> {
        self.0.newest.subscribe()
    }

    /// Looks into the store, so that what anybody changed before this was called is seen here.
    ///
    /// # Errors
    /// Those of [`Store::read`]; what was known before goes on to hold.
    pub async fn look(&self) -> Result<Versioned<T>, store::Error> {
        self.0.look().await?;
        Ok(self.current())
    }

    /// The versions before this one (`None`: from the newest), newest first, without their documents.
    ///
    /// # Errors
    /// Those of [`Store::read`].
    pub async fn versions(
        &self,
        before: Option<Position>,
        limit: usize,
    ) -> Result<Vec<Version>, store::Error> {
        self.0.log.versions(before, limit).await
    }

    /// A version that is still kept and that this node can read.
    ///
    /// # Errors
    /// Those of [`Store::read`].
    pub async fn version(&self, position: Position) -> Result<Option<Versioned<T>>, store::Error> {
        self.0.log.version(position).await
    }
}

impl Ringer {
    fn ring(&self, name: &str) {
        self.bell.ring();
        if let Some(bus) = self.bus.clone() {
            let frame =
                crate::bus::Frame { channel: CONTROL_CHANNEL.into(), payload: name.to_owned().into() };
            // Whoever does not hear it finds the change by looking.
            tokio::spawn(async move { bus.publish(vec![frame]).await });
        }
    }
}

impl std::fmt::Debug for Registers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registers").finish_non_exhaustive()
    }
}

impl<T> std::fmt::Debug for Register<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Register").field(&self.0.log.topic).finish()
    }
}

impl<T> Clone for Register<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Clone for Versioned<T> {
    fn clone(&self) -> Self {
        let Self { position, time, by, document, head } = self;
        let (by, document) = (by.clone(), Arc::clone(document));
        Self { position: *position, time: *time, by, document, head: *head }
    }
}

impl<T: Default> Default for Versioned<T> {
    /// The version of a register that nobody ever changed.
    fn default() -> Self {
        let (position, document) = (Position::default(), Arc::default());
        Self { position, time: Time::default(), by: String::new(), document, head: position }
    }
}
