//! Nodes in one process: a network without wires.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt as _;
use futures_util::future::{self, BoxFuture};

use super::{Bounds, Bus, Channel, Error, Frame, Inbox, Intake};
use crate::metrics::METRICS;

/// Connects the nodes of one process. A node that is alone is a network of one.
#[derive(Debug, Clone, Default)]
pub struct LocalNetwork(Arc<Mutex<Nodes>>);

impl LocalNetwork {
    /// Adds a node, until its bus is dropped.
    #[must_use]
    pub fn join(&self) -> (LocalBus, Inbox) {
        let (intake, inbox) = Inbox::new(Bounds::default());
        let mut nodes = self.lock();
        let id = nodes.next;
        nodes.next += 1;
        nodes.intakes.insert(id, intake);
        drop(nodes);
        (LocalBus { network: self.clone(), id }, inbox)
    }

    fn lock(&self) -> MutexGuard<'_, Nodes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One node's bus. It is never away and never full; a full inbox of another node drops as always.
#[derive(Debug)]
pub struct LocalBus {
    network: LocalNetwork,
    id: u64,
}

impl Bus for LocalBus {
    fn publish(&self, frames: Vec<Frame>) -> BoxFuture<'_, Result<(), Error>> {
        future::lazy(move |_| {
            let nodes = self.network.lock();
            for frame in frames {
                METRICS.bus_published.add(1);
                METRICS.bus_published_bytes.add(frame.bytes() as u64);
                let readers = nodes.readers.get(&frame.channel).into_iter().flatten();
                for intake in readers.filter_map(|id| nodes.intakes.get(id)) {
                    intake.offer(frame.clone());
                }
            }
            Ok(())
        })
        .boxed()
    }

    fn subscribe(&self, channels: Vec<Channel>) -> BoxFuture<'_, Result<(), Error>> {
        let mut nodes = self.network.lock();
        for channel in channels {
            nodes.readers.entry(channel).or_default().insert(self.id);
        }
        future::ready(Ok(())).boxed()
    }

    fn unsubscribe(&self, channels: Vec<Channel>) {
        let mut nodes = self.network.lock();
        for channel in channels {
            nodes.remove(&channel, self.id);
        }
    }
}

impl Drop for LocalBus {
    fn drop(&mut self) {
        let mut nodes = self.network.lock();
        nodes.intakes.remove(&self.id);
        nodes.readers.retain(|_, readers| {
            readers.remove(&self.id);
            !readers.is_empty()
        });
    }
}

#[derive(Debug, Default)]
struct Nodes {
    /// The id of the node that joins next.
    next: u64,
    intakes: HashMap<u64, Intake>,
    /// Who wants a channel; without channels that nobody wants.
    readers: HashMap<Channel, BTreeSet<u64>>,
}

impl Nodes {
    fn remove(&mut self, channel: &Channel, id: u64) {
        if let Some(readers) = self.readers.get_mut(channel) {
            readers.remove(&id);
            if readers.is_empty() {
                self.readers.remove(channel);
            }
        }
    }
}
