//! The bus of a node that is alone.

use futures_util::FutureExt as _;
use futures_util::future::{self, BoxFuture};
use tokio::sync::{mpsc, watch};

use super::{Bus, Channel, Error, Frame, Health, Inbox};

/// Reaches nobody, at once.
#[derive(Debug)]
pub struct LocalBus {
    /// Keep the inbox open.
    _received: mpsc::Sender<super::Received>,
    _health: watch::Sender<Health>,
}

impl LocalBus {
    /// A bus and its inbox, in which nothing ever arrives.
    #[must_use]
    pub fn new() -> (Self, Inbox) {
        let (received_sender, received) = mpsc::channel(1);
        let (health_sender, health) = watch::channel(Health::Live);
        (Self { _received: received_sender, _health: health_sender }, Inbox { received, health })
    }
}

impl Bus for LocalBus {
    fn publish(&self, _frames: Vec<Frame>) -> BoxFuture<'_, Result<(), Error>> {
        future::ready(Ok(())).boxed()
    }

    fn subscribe(&self, _channels: Vec<Channel>) -> BoxFuture<'_, Result<(), Error>> {
        future::ready(Ok(())).boxed()
    }

    fn unsubscribe(&self, _channels: Vec<Channel>) {}
}
