//! Follows the log of one register.

use std::sync::Weak;

use bongsu_persistence::store::Error;

use super::log::Found;
use super::{Document, Inner, Versioned};
use crate::bus::Listener;
use crate::limits::REGISTER_INTERVAL;
use crate::metrics::METRICS;

/// Follows until nobody has a handle of the register any more.
pub(super) async fn follow<T: Document>(register: Weak<Inner<T>>, mut bell: Listener) {
    let mut is_failing = false;
    while let Some(register) = register.upgrade() {
        match register.look().await {
            Ok(()) => is_failing = false,
            Err(error) => {
                if !std::mem::replace(&mut is_failing, true) {
                    let register = register.log.topic.as_str();
                    tracing::warn!(%error, register, "changes of a register cannot be read; they will be");
                }
            }
        }
        drop(register);
        tokio::select! {
            biased;
            () = bell.rung() => {}
            () = tokio::time::sleep(REGISTER_INTERVAL) => {}
        }
    }
}

impl<T: Document> Inner<T> {
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
