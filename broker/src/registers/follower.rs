//! Follows the log of one register.

use std::collections::HashMap;
use std::sync::Weak;

use bongsu_persistence::store::Error;
use bongsu_protocol::position::Position;
use bongsu_protocol::topic::Topic;
use tokio::sync::watch;

use super::log::Found;
use super::lookout::Heads;
use super::{Document, Inner, Versioned};
use crate::metrics::METRICS;

/// Follows until nobody has a handle of the register any more.
pub(super) async fn follow<T: Document>(register: Weak<Inner<T>>, mut heads: watch::Receiver<Heads>) {
    while let Some(register) = register.upgrade() {
        let heads_now = heads.borrow_and_update().clone();
        if heads_now.is_some_and(|heads| register.is_at(&heads)) {
            register.looked.send_replace(true);
        } else if let Err(error) = register.look().await {
            // That the store is away, the lookout says once.
            let register = register.log.topic.as_str();
            tracing::debug!(%error, register, "a register cannot be read; it will be");
        }
        drop(register);
        if heads.changed().await.is_err() {
            return;
        }
    }
}

impl<T: Document> Inner<T> {
    /// Whether nothing is newer than what is known.
    fn is_at(&self, heads: &HashMap<Topic, Position>) -> bool {
        heads.get(&self.log.topic).copied().unwrap_or_default() == self.newest.borrow().head
    }

    /// Looks at the log once, and takes up what is newer there.
    pub(super) async fn look(&self) -> Result<(), Error> {
        let known = self.newest.borrow().clone();
        match self.log.newer_than(&known).await? {
            Found::Same => {}
            Found::Newer(version) => self.take_up(&known, version),
            Found::Unreadable { head } => self.take_up(&known, Versioned { head, ..known.clone() }),
        }
        self.looked.send_replace(true);
        Ok(())
    }

    /// Takes up a version that was found when `known` was the newest known.
    pub(super) fn take_up(&self, known: &Versioned<T>, version: Versioned<T>) {
        let is_readable = version.position == version.head;
        let head = version.head;
        let took_up = self.newest.send_if_modified(|newest| {
            // Somebody else may have found a newer one meanwhile, or made one.
            let is_newer = newest.head == known.head || version.head > newest.head;
            let is_other = newest.head != version.head;
            if is_newer && is_other {
                *newest = version;
            }
            is_newer && is_other
        });
        if !took_up {
            return;
        }
        METRICS.register_versions.add(1);
        if !is_readable {
            METRICS.registers_unreadable.add(1);
            let register = self.log.topic.as_str();
            tracing::error!(register, %head, "this version cannot read the newest version of a register: the newest that it can read holds");
        }
    }
}
