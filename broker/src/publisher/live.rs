//! Messages of topics without history: one lane, so that each publisher's messages stay in order.

use std::sync::Arc;

use bongsu_protocol::event::Published;
use bongsu_protocol::message::{Delivery, NewMessage};
use bongsu_protocol::session::SlowReader;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::{Acknowledgments, Completion, Readers};
use crate::clock;
use crate::delivery::Shared;
use crate::hub::Fanout;
use crate::limits::{LIVE_BATCH_MAX, LIVE_LANE_KIB_MAX, LIVE_LANE_MESSAGES_MAX};
use crate::metrics::METRICS;
use crate::telemetry;

/// A message for a topic without history.
#[derive(Debug)]
pub struct LiveMessage {
    /// Who published it.
    pub publisher: String,
    /// What and where to.
    pub message: NewMessage,
    /// What slow readers get.
    pub slow_reader: SlowReader,
    /// Who wants to know.
    pub completion: Completion,
    /// When it began, and its trace.
    pub publish: telemetry::Publish,
}

/// The queue to the one task that hands live messages to the hub. Bounded in messages and in bytes; publishers wait.
#[derive(Debug)]
pub(super) struct LiveLane {
    queue: mpsc::Sender<(LiveMessage, OwnedSemaphorePermit)>,
    kib: Arc<Semaphore>,
}

impl LiveLane {
    pub(super) fn spawn(readers: Readers) -> Self {
        let (queue, messages) = mpsc::channel(LIVE_LANE_MESSAGES_MAX);
        tokio::spawn(run(readers, messages));
        Self { queue, kib: Arc::new(Semaphore::new(LIVE_LANE_KIB_MAX)) }
    }

    #[expect(clippy::result_large_err, reason = "the message goes back as it came, without an allocation")]
    pub(super) fn try_send(&self, message: LiveMessage) -> Result<(), LiveMessage> {
        let Ok(place) = self.queue.try_reserve() else { return Err(message) };
        let Ok(permit) = Arc::clone(&self.kib).try_acquire_many_owned(kib_of(&message)) else {
            return Err(message);
        };
        place.send((message, permit));
        Ok(())
    }

    /// Whether the lane is there.
    pub(super) fn runs(&self) -> bool {
        !self.queue.is_closed()
    }

    /// Waits until what was taken is with its readers here, and on its way to those elsewhere.
    pub(super) async fn flush(&self) {
        // It fails only where there is no lane any more, and so nothing to wait for.
        let _ = self.kib.acquire_many(u32::try_from(LIVE_LANE_KIB_MAX).unwrap_or(u32::MAX)).await;
    }

    /// Messages that wait.
    pub(super) fn waiting(&self) -> usize {
        self.queue.max_capacity() - self.queue.capacity()
    }

    pub(super) async fn send(&self, message: LiveMessage) {
        // Neither fails as long as the lane is there, and it is there as long as this handle.
        if let Ok(permit) = Arc::clone(&self.kib).acquire_many_owned(kib_of(&message)).await {
            let _ = self.queue.send((message, permit)).await;
        }
    }
}

/// A message's share of the lane's bytes: at least one KiB, so that the count of tiny ones is bounded too.
fn kib_of(message: &LiveMessage) -> u32 {
    let kib = message.message.message.size_bytes() / 1024 + 1;
    u32::try_from(kib.min(LIVE_LANE_KIB_MAX)).unwrap_or(u32::MAX)
}

async fn run(readers: Readers, mut queue: mpsc::Receiver<(LiveMessage, OwnedSemaphorePermit)>) {
    let mut batch = Vec::new();
    while queue.recv_many(&mut batch, LIVE_BATCH_MAX).await > 0 {
        let time = clock::wall();
        let mut fanout = Vec::with_capacity(batch.len());
        let mut acknowledgments = Acknowledgments::default();
        let mut publishes = Vec::with_capacity(batch.len());
        // Given back when everybody was told, so that whoever waits for all of them waits for that.
        let mut permits = Vec::with_capacity(batch.len());
        for (message, permit) in batch.drain(..) {
            permits.push(permit);
            let LiveMessage {
                publisher,
                message: NewMessage { topic, message, .. },
                slow_reader,
                completion,
                publish,
            } = message;
            let delivery = Delivery { topic, position: None, time, publisher, message, erased: false };
            fanout.push(Fanout { shared: Shared::new(Arc::new(delivery)), slow_reader });
            publishes.push((publish, None));
            completion.defer(Ok(Published { position: None, duplicate: false }), &mut acknowledgments);
        }
        readers.fan_out(fanout).await;
        acknowledgments.send(&readers.hub).await;
        telemetry::acknowledged(publishes, &METRICS.live_publish_seconds);
    }
}
