//! Tells other nodes what was published here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bongsu_protocol::position::Position;
use bongsu_protocol::topic::Topic;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::MissedTickBehavior;

use super::SHAPES_CHANNEL;
use super::wire::{self, Origin};
use crate::bus::{Bus, Channel, Error, Frame};
use crate::clock;
use crate::heard::{Heard, Shape, pattern_channel, topic_channel};
use crate::hub::{Fanout, Probe};
use crate::limits::{ANNOUNCE_BATCHES_MAX, ANNOUNCE_BYTES_MAX, HEADS_INTERVAL, HEADS_MAX, SHAPES_INTERVAL};
use crate::metrics::METRICS;
use crate::telemetry::Stage;

/// Tells other nodes what was published here; nobody, on a node that is alone. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Announcer {
    inner: Option<Arc<Inner>>,
}

#[derive(Debug)]
struct Inner {
    queue: mpsc::Sender<Batch>,
    /// Free KiB of the queue.
    kib: Arc<Semaphore>,
    heads: Arc<Heads>,
}

type Batch = (Vec<Fanout>, OwnedSemaphorePermit);

/// Topics with history that were published to since their heads were announced.
type Heads = Mutex<HashMap<Topic, Position>>;

/// What the announcing task works with.
pub(super) struct Surroundings {
    pub(super) origin: Origin,
    pub(super) bus: Arc<dyn Bus>,
    pub(super) heard: Arc<Heard>,
    pub(super) probe: Arc<Probe>,
    /// Shapes of patterns that any node hears.
    pub(super) shapes: watch::Receiver<Arc<[Shape]>>,
    /// Rung when somebody wants to know this node's shapes.
    pub(super) asked: Arc<Notify>,
}

impl Announcer {
    pub(super) fn spawn(surroundings: Surroundings) -> Self {
        let (queue, batches) = mpsc::channel(ANNOUNCE_BATCHES_MAX);
        let heads = Arc::new(Heads::default());
        tokio::spawn(run(surroundings, batches, Arc::clone(&heads)));
        Self {
            inner: Some(Arc::new(Inner {
                queue,
                kib: Arc::new(Semaphore::new(ANNOUNCE_BYTES_MAX / 1024)),
                heads,
            })),
        }
    }

    /// Tells other nodes of these messages, soon. Never waits: what finds no room is counted, and found by asking the store.
    pub fn announce(&self, messages: &[Fanout]) {
        let Some(inner) = &self.inner else { return };
        if messages.is_empty() {
            return;
        }
        inner.note_heads(messages);
        let kib: usize = messages.iter().map(|message| message.shared.bytes() / 1024 + 1).sum();
        let kib = u32::try_from(kib.min(ANNOUNCE_BYTES_MAX / 1024)).unwrap_or(u32::MAX);
        let sent = Arc::clone(&inner.kib)
            .try_acquire_many_owned(kib)
            .is_ok_and(|permit| inner.queue.try_send((messages.to_vec(), permit)).is_ok());
        if !sent {
            METRICS.unannounced.add(messages.len() as u64);
        }
    }

    /// Waits until what was announced was handed to the bus, or refused by it.
    pub async fn flush(&self) {
        let Some(inner) = &self.inner else { return };
        let all = u32::try_from(ANNOUNCE_BYTES_MAX / 1024).unwrap_or(u32::MAX);
        // It fails only where the task is gone, and with it everything that waited.
        let _ = inner.kib.acquire_many(all).await;
    }
}

impl Inner {
    fn note_heads(&self, messages: &[Fanout]) {
        let mut heads = self.heads.lock().unwrap_or_else(PoisonError::into_inner);
        for run in messages.chunk_by(same_topic) {
            let Some(last) = run.last() else { continue };
            let Some(position) = last.shared.delivery.position else { continue };
            let topic = &last.shared.delivery.topic;
            if let Some(head) = heads.get_mut(topic) {
                *head = position.max(*head);
            } else if heads.len() < HEADS_MAX {
                heads.insert(topic.clone(), position);
            }
        }
    }
}

fn same_topic(one: &Fanout, other: &Fanout) -> bool {
    one.shared.delivery.topic == other.shared.delivery.topic
}

async fn run(surroundings: Surroundings, mut queue: mpsc::Receiver<Batch>, heads: Arc<Heads>) {
    let mut heads_due = tokio::time::interval(HEADS_INTERVAL);
    heads_due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut shapes_due = tokio::time::interval(SHAPES_INTERVAL);
    shapes_due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut batches = Vec::new();
    let mut announced = HashMap::new();
    let mut last_number = 0;
    let _ = surroundings.publish(vec![surroundings.shapes_frame(true)]).await;
    loop {
        tokio::select! {
            biased;
            () = surroundings.probe.shapes() => surroundings.tell_shapes().await,
            () = surroundings.asked.notified() => surroundings.tell_shapes().await,
            _ = shapes_due.tick() => surroundings.tell_shapes().await,
            _ = heads_due.tick() => {
                let new = std::mem::take(&mut *heads.lock().unwrap_or_else(PoisonError::into_inner));
                // Once more than once: what lost a message may last long enough to lose its head as well.
                let mut heads = std::mem::replace(&mut announced, new.clone());
                heads.extend(new);
                let _ = surroundings.publish(surroundings.head_frames(heads)).await;
            }
            n_batches = queue.recv_many(&mut batches, 64) => {
                if n_batches == 0 {
                    return;
                }
                let mut frames = Vec::new();
                for (messages, _permit) in &batches {
                    surroundings.message_frames(messages, &mut last_number, &mut frames);
                }
                let messages = batches.iter().flat_map(|(messages, _)| messages);
                let step = Stage::BusPublish.begin(messages.map(Fanout::message));
                let result = surroundings.publish(frames).await;
                if let Some(step) = step {
                    step.end(result.err().map(|error| error.to_string()).as_deref());
                }
                // Only here, so that whoever waits for all permits waits for the bus to have taken everything.
                batches.clear();
            }
        }
    }
}

impl Surroundings {
    fn message_frames(&self, messages: &[Fanout], last_number: &mut u64, frames: &mut Vec<Frame>) {
        for run in messages.chunk_by(same_topic) {
            let channels = self.channels(&run[0].shared.delivery.topic);
            for payload in wire::encode_messages(self.origin, last_number, run) {
                frames.extend(
                    channels
                        .iter()
                        .map(|channel| Frame { channel: channel.clone(), payload: payload.clone() }),
                );
            }
        }
    }

    fn head_frames(&self, heads: HashMap<Topic, Position>) -> Vec<Frame> {
        let mut heads: Vec<_> = heads.into_iter().collect();
        heads.sort_unstable();
        let mut frames = Vec::new();
        for (topic, head) in heads {
            let payload = wire::encode_head(self.origin, &topic, head);
            let frame = |channel| Frame { channel, payload: payload.clone() };
            frames.extend(self.channels(&topic).into_iter().map(frame));
        }
        frames
    }

    async fn tell_shapes(&self) {
        let _ = self.publish(vec![self.shapes_frame(false)]).await;
    }

    fn shapes_frame(&self, asks: bool) -> Frame {
        let payload = wire::encode_shapes(self.origin, asks, clock::wall(), &self.heard.shapes());
        Frame { channel: SHAPES_CHANNEL.into(), payload }
    }

    /// Where messages of a topic are published: for those who read the topic, and for those who read a pattern that matches.
    fn channels(&self, topic: &Topic) -> Vec<Channel> {
        let shapes = self.shapes.borrow();
        let patterns = shapes.iter().filter_map(|shape| shape.pattern_for(topic));
        std::iter::once(topic_channel(topic.as_str()))
            .chain(patterns.map(|pattern| pattern_channel(&pattern)))
            .collect()
    }

    /// Hands frames to the bus. What it does not take is counted, and nobody else needs to know.
    async fn publish(&self, frames: Vec<Frame>) -> Result<(), Error> {
        if frames.is_empty() {
            return Ok(());
        }
        let n_frames = frames.len() as u64;
        let began_at = clock::monotonic();
        let result = self.bus.publish(frames).await;
        METRICS.bus_publish_seconds.record_time(clock::monotonic().saturating_sub(began_at));
        if let Err(error) = &result {
            METRICS.bus_publish_failed.add(n_frames);
            tracing::debug!(%error, n_frames, "frames were not handed to the bus");
        }
        result
    }
}
