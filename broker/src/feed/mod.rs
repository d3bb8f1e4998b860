//! What other nodes publish, on its way to the readers of this one; and what is published here, on its way to others.
//!
//! ```text
//!   publisher ──▶ Announcer ──▶ bus ··· bus ──▶ Feed ── messages, heads ──▶ hub
//!                                                │ ▲
//!                        "what changed since …?" ▼ │
//!                                               store
//! ```
//!
//! The bus is a hint. Whatever may have gone wrong with it has one reaction: the store is asked which logs changed since it was
//! asked last, and the hub reads what of that did not come. That happens at once after an interruption, four times a second while the bus is
//! degraded, and about every second in any case. So a message is late by a second at the most, whatever the bus does.

mod announcer;
mod wire;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bongsu_persistence::store::{ChangeMark, Changes};
use bongsu_protocol::message::Time;
use bongsu_protocol::reason::Error;
use bongsu_protocol::topic::Topic;
use futures_util::future::BoxFuture;
use tokio::sync::{Notify, watch};

use crate::bus::{Bell, Bus, CONTROL_CHANNEL, Channel, Frame, Health, Inbox, Received};
use crate::clock;
use crate::heard::{Heard, Shape};
use crate::history::History;
use crate::hub::{Answer, Fanout, Hub, Probe};
use crate::limits::{
    CHANGES_CARE, CHANGES_INTERVAL, CHANGES_INTERVAL_DEGRADED, CHANGES_SPACING, CLOCKS_APART_MAX_MS,
    LIVE_NUMBERS_MAX, NODES_MAX, SHAPES_MAX, SHAPES_MEMORY, SHAPES_SILENCE,
};
use crate::metrics::METRICS;
use crate::telemetry::Stage;

pub use announcer::Announcer;

use announcer::Surroundings;
use wire::{Announcement, Origin};

/// Where nodes tell each other which shapes of patterns they hear.
const SHAPES_CHANNEL: &str = "shapes";

/// Things that came in which are taken together.
const RECEIVED_BATCH_MAX: usize = 256;

/// What the feed connects.
pub struct Ends {
    /// The way to other nodes.
    pub bus: Arc<dyn Bus>,
    /// What comes from them.
    pub inbox: Inbox,
    /// Which channels are heard.
    pub heard: Arc<Heard>,
    /// The store, and what is remembered of it.
    pub history: Arc<History>,
    /// The readers.
    pub hub: Hub,
    /// Who wants the store asked.
    pub probe: Arc<Probe>,
    /// Rung when there may be something new in a log of the broker's own.
    pub control: Bell,
}

/// Starts to feed the hub from other nodes, and gives out the way to them. `origin` sets this process apart from all others.
#[must_use]
pub fn spawn(ends: Ends, origin: u64) -> Announcer {
    let (shapes_sender, shapes) = watch::channel(Arc::from([]));
    let asked = Arc::new(Notify::new());
    let origin = Origin(origin);
    let announcer = Announcer::spawn(Surroundings {
        origin,
        bus: Arc::clone(&ends.bus),
        heard: Arc::clone(&ends.heard),
        probe: Arc::clone(&ends.probe),
        shapes,
        asked: Arc::clone(&asked),
    });
    let feed = Feed {
        origin,
        heard: ends.heard,
        history: ends.history,
        hub: ends.hub,
        probe: ends.probe,
        control: ends.control,
        nodes: HashMap::new(),
        numbers: HashMap::new(),
        shapes: shapes_sender,
        asked,
        mark: None,
        question: None,
        ask_again: true,
        asked_at: Duration::ZERO,
        care_until: Duration::ZERO,
        not_before: Duration::ZERO,
    };
    tokio::spawn(feed.run(ends.bus, ends.inbox));
    announcer
}

/// A node that was heard of.
#[derive(Debug)]
struct Neighbour {
    heard_at: Duration,
    shapes: Vec<Shape>,
}

struct Feed {
    origin: Origin,
    heard: Arc<Heard>,
    history: Arc<History>,
    hub: Hub,
    probe: Arc<Probe>,
    control: Bell,
    nodes: HashMap<Origin, Neighbour>,
    /// The last frame of each process on each topic without history.
    numbers: HashMap<(Origin, Topic), u64>,
    /// The shapes of all nodes, for the announcer.
    shapes: watch::Sender<Arc<[Shape]>>,
    /// Rung when another node wants to know this one's shapes.
    asked: Arc<Notify>,
    /// Until where the store was asked.
    mark: Option<ChangeMark>,
    /// The question under way, with its number.
    question: Option<BoxFuture<'static, (u64, Result<Changes, Error>)>>,
    /// The store is to be asked once more, as soon as no question is under way.
    ask_again: bool,
    /// When it was asked last.
    asked_at: Duration,
    /// It is asked often until then.
    care_until: Duration,
    /// It is not asked before: it was asked a moment ago, or did not answer.
    not_before: Duration,
}

impl Feed {
    async fn run(mut self, bus: Arc<dyn Bus>, inbox: Inbox) {
        let Inbox { mut received, health } = inbox;
        // Not waited for: until it is subscribed, an interruption will be told.
        tokio::spawn(async move { bus.subscribe(vec![SHAPES_CHANNEL.into()]).await });
        let mut batch = Vec::new();
        loop {
            self.ask_if_due(&health);
            let due = if self.ask_again { self.not_before } else { self.asked_at + self.interval(&health) };
            let due = clock::instant(due);
            let probe = Arc::clone(&self.probe);
            tokio::select! {
                biased;
                (number, result) = answer(&mut self.question), if self.question.is_some() => {
                    self.question = None;
                    self.take_answer(number, result).await;
                }
                () = probe.wanted() => self.ask_again = true,
                () = probe.needs_care() => self.care(),
                () = tokio::time::sleep_until(due), if self.question.is_none() => self.ask_again = true,
                n_received = received.recv_many(&mut batch, RECEIVED_BATCH_MAX) => {
                    if n_received == 0 {
                        return;
                    }
                    self.take(batch.drain(..)).await;
                }
            }
        }
    }

    fn interval(&self, health: &watch::Receiver<Health>) -> Duration {
        let is_live = *health.borrow() == Health::Live;
        if is_live && self.care_until <= clock::monotonic() {
            CHANGES_INTERVAL
        } else {
            CHANGES_INTERVAL_DEGRADED
        }
    }

    /// For a while, other nodes may not know all that this one wants to hear.
    fn care(&mut self) {
        self.care_until = clock::monotonic() + CHANGES_CARE;
    }

    fn ask_if_due(&mut self, health: &watch::Receiver<Health>) {
        let now = clock::monotonic();
        let is_due = self.ask_again || now >= self.asked_at + self.interval(health);
        if !is_due || now < self.not_before || self.question.is_some() {
            return;
        }
        self.ask_again = false;
        self.asked_at = now;
        self.not_before = now + CHANGES_SPACING;
        let (history, mark) = (Arc::clone(&self.history), self.mark.clone());
        let number = self.probe.ask();
        self.question = Some(Box::pin(async move { (number, history.changes(mark).await) }));
    }

    async fn take_answer(&mut self, number: u64, result: Result<Changes, Error>) {
        METRICS.changes_polls.add(1);
        let Ok(changes) = result else {
            // The mark stays: the next answer tells what this one did not.
            self.ask_again = true;
            self.not_before = clock::monotonic() + CHANGES_INTERVAL_DEGRADED;
            return;
        };
        self.mark = Some(changes.mark);
        let changed = if changes.complete {
            for changed in &changes.changed {
                self.history.heads_up(&changed.topic, changed.head);
            }
            Some(changes.changed)
        } else {
            tracing::warn!("the store cannot tell what changed: every reader asks it for itself");
            self.history.forget_everything();
            METRICS.changes_incomplete.add(1);
            None
        };
        self.hub.changes(Answer { number, changed }).await;
        self.probe.answer(number);
    }

    /// Takes what came in, in order; messages that came together are fanned out together.
    async fn take(&mut self, batch: impl Iterator<Item = Received>) {
        let mut messages = Vec::new();
        for received in batch {
            match received {
                Received::Frame(frame) => self.take_frame(frame, &mut messages).await,
                Received::Interrupted => {
                    METRICS.bus_interruptions.add(1);
                    self.fan_out(&mut messages).await;
                    self.ask_again = true;
                    self.control.ring();
                    self.hub.interrupted().await;
                }
            }
        }
        self.fan_out(&mut messages).await;
    }

    async fn take_frame(&mut self, frame: Frame, messages: &mut Vec<Fanout>) {
        if &*frame.channel == CONTROL_CHANNEL {
            return self.control.ring();
        }
        let Some(origin) = wire::origin_of(&frame.payload) else { return METRICS.bus_frames_strange.add(1) };
        if origin == self.origin {
            return;
        }
        match wire::decode(frame.payload) {
            None => METRICS.bus_frames_strange.add(1),
            Some(Announcement::Messages { number, messages: announced }) => {
                let delivery = &announced[0].shared.delivery;
                // What has a position is told apart and put in order by that.
                if delivery.position.is_some()
                    || self.is_next(origin, number, &delivery.topic, &frame.channel)
                {
                    messages.extend(announced);
                }
            }
            Some(Announcement::Heads(heads)) => {
                self.fan_out(messages).await;
                for (topic, head) in &heads {
                    self.history.heads_up(topic, *head);
                }
                self.hub.heads_up(heads).await;
            }
            Some(Announcement::Shapes { asks, time, shapes }) => {
                note_clock(time);
                self.take_shapes(origin, asks, shapes);
            }
        }
    }

    /// Whether a frame of a topic without history is to be taken: it comes once on each channel, of which one counts, and perhaps
    /// again or too late, which its number shows. What is late is lost: readers get a publisher's messages in order.
    fn is_next(&mut self, origin: Origin, number: u64, topic: &Topic, channel: &Channel) -> bool {
        if self.heard.first_channel(topic).as_ref() != Some(channel) {
            return false;
        }
        if self.numbers.len() >= LIVE_NUMBERS_MAX {
            self.numbers.clear();
        }
        let last = self.numbers.entry((origin, topic.clone())).or_default();
        let is_next = number > *last;
        *last = number.max(*last);
        if !is_next {
            METRICS.bus_frames_late.add(1);
        }
        is_next
    }

    async fn fan_out(&mut self, messages: &mut Vec<Fanout>) {
        if messages.is_empty() {
            return;
        }
        let messages = std::mem::take(messages);
        let durable: Vec<_> = messages
            .iter()
            .filter(|message| message.shared.delivery.position.is_some())
            .map(|message| message.shared.clone())
            .collect();
        let step = Stage::BusReceive.begin(messages.iter().map(Fanout::message));
        self.history.remember(&durable);
        self.hub.fan_out(messages).await;
        if let Some(step) = step {
            step.end(None);
        }
    }

    /// What another node hears. One that was not heard of lately may not know what this one hears.
    fn take_shapes(&mut self, origin: Origin, asks: bool, shapes: Vec<Shape>) {
        let now = clock::monotonic();
        let known = self.nodes.get(&origin);
        let is_new = known.is_none_or(|node| now - node.heard_at > SHAPES_SILENCE);
        let is_changed = known.is_none_or(|node| node.shapes != shapes);
        if is_new {
            self.care();
        }
        if is_new || asks {
            self.asked.notify_one();
        }
        let n_before = self.nodes.len();
        self.nodes.retain(|_, node| now - node.heard_at < SHAPES_MEMORY);
        if self.nodes.len() < NODES_MAX || self.nodes.contains_key(&origin) {
            self.nodes.insert(origin, Neighbour { heard_at: now, shapes });
        }
        if is_changed || self.nodes.len() < n_before {
            let mut all: Vec<Shape> =
                self.nodes.values().flat_map(|node| node.shapes.iter().cloned()).collect();
            all.sort_unstable();
            all.dedup();
            all.truncate(SHAPES_MAX);
            self.shapes.send_replace(all.into());
        }
    }
}

/// Messages bear the time of the node that took them, so clocks that are far apart make subscriptions to patterns resume too late.
fn note_clock(theirs: Time) {
    let apart_ms = clock::wall().0.abs_diff(theirs.0);
    if apart_ms > CLOCKS_APART_MAX_MS {
        METRICS.clocks_apart.add(1);
        tracing::warn!(apart_ms, "the clock of another node is far from this one's: synchronize them");
    }
}

/// The answer to the question under way.
async fn answer(
    question: &mut Option<BoxFuture<'static, (u64, Result<Changes, Error>)>>,
) -> (u64, Result<Changes, Error>) {
    match question {
        Some(question) => question.await,
        None => std::future::pending().await,
    }
}
