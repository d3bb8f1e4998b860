//! What a test does with a bus.

use std::sync::Arc;
use std::time::Duration;

use bongsu::bus::redis::Commands;
use bongsu::bus::{Bus, Channel, Error, Frame, Health, Inbox, Received};
use bytes::Bytes;

/// How long anything may take before a test fails: much longer than it takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A node's bus.
pub(crate) struct Node {
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) inbox: Inbox,
    pub(crate) commands: Option<Commands>,
}

impl Node {
    pub(crate) fn new(bus: Arc<dyn Bus>, inbox: Inbox, commands: Option<Commands>) -> Self {
        Self { bus, inbox, commands }
    }

    /// Waits until the bus is live, and forgets the interruptions until then.
    pub(crate) async fn live(&mut self) {
        self.health("live", |health| *health == Health::Live).await;
        while self.inbox.received.try_recv().is_some() {}
    }

    /// Waits until the bus is live again.
    pub(crate) async fn recovered(&mut self) {
        self.health("live again", |health| *health == Health::Live).await;
    }

    /// Waits until the bus is not.
    pub(crate) async fn degraded(&mut self) {
        self.health("degraded", |health| *health != Health::Live).await;
    }

    /// Waits until the bus says this of itself.
    pub(crate) async fn unhealthy(&mut self, why: &str) {
        let says = |health: &Health| matches!(health, Health::Degraded { reason } if reason.contains(why));
        self.health(why, says).await;
    }

    async fn health(&mut self, what: &str, is: impl FnMut(&Health) -> bool) {
        let result = tokio::time::timeout(PATIENCE, self.inbox.health.wait_for(is)).await;
        assert!(matches!(result, Ok(Ok(_))), "not {what} in time");
    }

    /// Subscribes and waits for it.
    pub(crate) async fn subscribe(&self, names: &[&str]) {
        let subscribed = tokio::time::timeout(PATIENCE, self.bus.subscribe(channels(names)));
        subscribed.await.expect("subscribe ends").expect("it is subscribed");
    }

    pub(crate) fn unsubscribe(&self, names: &[&str]) {
        self.bus.unsubscribe(channels(names));
    }

    pub(crate) async fn publish(&self, name: &str, payload: &str) {
        self.try_publish(name, payload).await.expect("it is published");
    }

    pub(crate) async fn try_publish(&self, name: &str, payload: &str) -> Result<(), Error> {
        self.publish_all(vec![frame(name, payload)]).await
    }

    pub(crate) async fn publish_all(&self, frames: Vec<Frame>) -> Result<(), Error> {
        tokio::time::timeout(PATIENCE, self.bus.publish(frames)).await.expect("publish ends")
    }

    /// Waits for what comes in next.
    pub(crate) async fn next(&mut self) -> Received {
        let received = tokio::time::timeout(PATIENCE, self.inbox.received.recv()).await;
        received.expect("something comes in").expect("the bus is there")
    }

    /// Waits for what comes in next, a frame, and tells its payload.
    pub(crate) async fn next_payload(&mut self) -> String {
        match self.next().await {
            Received::Frame(frame) => String::from_utf8_lossy(&frame.payload).into_owned(),
            Received::Interrupted => panic!("interrupted where nothing happened"),
        }
    }

    /// Waits for the next interruption; what comes before it is forgotten.
    pub(crate) async fn interrupted(&mut self) {
        while self.next().await != Received::Interrupted {}
    }

    /// Waits until a frame of this channel arrives that somebody publishes again and again: what holds after a failure,
    /// without anybody's help.
    pub(crate) async fn hears(&mut self, publisher: &Self, name: &str) {
        let heard = async {
            let mut ticks = tokio::time::interval(Duration::from_millis(50));
            loop {
                tokio::select! {
                    biased;
                    received = self.inbox.received.recv() => {
                        let received = received.expect("the bus is there");
                        if matches!(&received, Received::Frame(frame) if &*frame.channel == name) {
                            return;
                        }
                    }
                    _ = ticks.tick() => {
                        let _ = publisher.try_publish(name, "again").await;
                    }
                }
            }
        };
        tokio::time::timeout(PATIENCE, heard).await.unwrap_or_else(|_| panic!("nothing of {name} in time"));
    }
}

pub(crate) fn channels(names: &[&str]) -> Vec<Channel> {
    names.iter().map(|name| Channel::from(*name)).collect()
}

pub(crate) fn frame(name: &str, payload: &str) -> Frame {
    Frame { channel: name.into(), payload: Bytes::copy_from_slice(payload.as_bytes()) }
}
