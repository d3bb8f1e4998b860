//! Commands of operators that reach every node: to end a session or all sessions of a subject, and to keep somebody out.
//!
//! Commands are messages of the log `$control` in the store, which every node follows with a cursor as a reader would: told by the bus
//! that there is something, and looking once a second in any case. So a node that was away carries out what it missed as soon as it
//! is back, each command once and in order, and what a command says holds however late it is heard: a kick is for the sessions that had
//! begun when it was issued.
//!
//! Whom they keep out is a document of its own, [`access`](mod@crate::access): with every change of it, what has a place here and is kept out
//! by it ends.
//!
//! A node that starts has no sessions that earlier kicks could mean; it waits for [`Control::caught_up`] before it takes any.

mod closes;
mod command;
mod connections;
mod follower;
mod page;
mod stay;

use std::sync::{Arc, LazyLock, Weak};

use bongsu_persistence::store::{Append, Appended, Error, Store};
use bongsu_protocol::message::{Message, NewMessage};
use bongsu_protocol::position::Position;
use bongsu_protocol::topic::Topic;
use tokio::sync::watch;

use crate::access::{self, Access, Ledger, Note, Refused};
use crate::bus::{Bell, Bus, CONTROL_CHANNEL, Frame};
use crate::clock;
use crate::limits::STORE_DEADLINE;
use crate::metrics::METRICS;
use crate::registers::{ChangeError, Versioned};

pub use closes::{Closes, End};
pub use command::{Action, Command, Target};
pub use connections::{Connections, Holder, Place, session_prefix};
pub use page::Seen;
pub use stay::Stay;

use follower::Follower;

/// The log of commands.
static LOG: LazyLock<Topic> =
    LazyLock::new(|| Topic::parse("$control").expect("it has no character that a topic lacks"));

/// Issues commands, and carries out those of all nodes on this one.
pub struct Control {
    store: Arc<dyn Store>,
    /// `None`: this node is alone.
    bus: Option<Arc<dyn Bus>>,
    bell: Bell,
    access: Access,
    connections: Arc<Connections>,
    caught_up: watch::Receiver<bool>,
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control").finish_non_exhaustive()
    }
}

impl Control {
    /// Starts to follow the commands and to carry them out on these connections. Whoever rings `bell` heard on [`CONTROL_CHANNEL`] that there is
    /// one, or may have missed that.
    #[must_use]
    pub fn spawn(
        store: Arc<dyn Store>,
        bus: Option<Arc<dyn Bus>>,
        bell: Bell,
        access: Access,
        connections: Arc<Connections>,
    ) -> Self {
        if let Some(bus) = bus.clone() {
            // Not waited for: without the bus, a command is found by looking.
            tokio::spawn(async move { bus.subscribe(vec![CONTROL_CHANNEL.into()]).await });
        }
        let (follower, caught_up) =
            Follower::new(Arc::clone(&store), bell.listen(), Arc::clone(&connections));
        tokio::spawn(follower.run());
        tokio::spawn(enforce(access.watch(), Arc::downgrade(&connections)));
        Self { store, bus, bell, access, connections, caught_up }
    }

    /// Issues a command in somebody's name. When this returns, the command is in the log: every node carries it out, within
    /// milliseconds where the bus is well, within a second where it is not, and as soon as it is back where the node is away.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: it may have been issued all the same; issue it again. [`Error::Corrupt`]: somebody must look.
    pub async fn issue(&self, issuer: &str, command: &Command) -> Result<Position, Error> {
        let message = Message {
            payload: command.encode(),
            content_type: "application/json".to_owned(),
            ..Message::default()
        };
        let append = Append {
            message: NewMessage { topic: LOG.clone(), message, expect: None },
            publisher: issuer.to_owned(),
            time: clock::wall(),
            idempotency_window: std::time::Duration::ZERO,
        };
        let late = |_| Error::Unavailable("it did not answer in time".to_owned());
        let appended = tokio::time::timeout(STORE_DEADLINE, self.store.append(vec![append])).await;
        let position = match appended.map_err(late)??.first() {
            Some(Appended::Stored(delivery)) => delivery.position.unwrap_or_default(),
            _ => return Err(Error::Corrupt("a command was taken for another message".to_owned())),
        };
        self.bell.ring();
        if let Some(bus) = &self.bus {
            let payload = format!("{}:{}", position.epoch.0, position.offset.0).into();
            // Whoever does not hear it finds the command by looking.
            let _ = bus.publish(vec![Frame { channel: CONTROL_CHANNEL.into(), payload }]).await;
        }
        Ok(position)
    }

    /// Keeps somebody out, on every node, in the name of `note.by`. When this returns, that holds in the store and here, and whoever is
    /// concerned was told goodbye on this node: nothing that is published from then on reaches them through it. The other nodes do the same
    /// within milliseconds where the bus is well, within a second where it is not, and as soon as they are back where they are away.
    ///
    /// `expected`: when the note that is there was written, `Some(0)` where there must be none.
    ///
    /// # Errors
    /// See [`ChangeError`] and [`Refused`].
    pub async fn bar(
        &self,
        target: &access::Target,
        note: &Note,
        expected: Option<u64>,
    ) -> Result<Versioned<Ledger>, ChangeError<Refused>> {
        let version = self.access.bar(target, note, expected).await?;
        sweep(&self.connections).await;
        Ok(version)
    }

    /// Who is kept out.
    #[must_use]
    pub const fn access(&self) -> &Access {
        &self.access
    }

    /// Waits until every command that was issued before this node started was looked at.
    pub async fn caught_up(&self) {
        // The follower ends only with the process.
        let _ = self.caught_up.clone().wait_for(|caught_up| *caught_up).await;
    }
}

/// Ends what has a place here and is kept out, whenever that changes, for as long as there are places.
async fn enforce(mut versions: watch::Receiver<Versioned<Ledger>>, connections: Weak<Connections>) {
    while versions.changed().await.is_ok() {
        let Some(connections) = connections.upgrade() else { return };
        versions.borrow_and_update();
        sweep(&connections).await;
    }
}

async fn sweep(connections: &Connections) {
    let n_ended = connections.sweep().await;
    if n_ended > 0 {
        METRICS.barred.add(n_ended as u64);
        tracing::info!(n_ended, "ended what is kept out");
    }
}
