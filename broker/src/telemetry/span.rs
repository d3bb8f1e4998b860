//! What happens to traced messages, from its beginning to its end.

use std::sync::OnceLock;
use std::time::Duration;

use bongsu_protocol::message::{Message, NewMessage};
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::sync::mpsc;

use super::context::{self, TraceContext};
use super::otlp::{self, Kind};
use crate::chance;
use crate::clock;
use crate::limits::TRACED_PER_BATCH_MAX;
use crate::metrics::{Histogram, METRICS};

/// The one instance, as [`METRICS`] is: spans are of the process. Empty where nobody collects them.
static TRACER: OnceLock<Tracer> = OnceLock::new();

/// Where spans go, and which messages get some.
#[derive(Debug)]
pub(super) struct Tracer {
    pub(super) spans: mpsc::Sender<Span>,
    /// The share of messages that begin a trace of their own.
    pub(super) ratio: f64,
}

impl Tracer {
    /// Traces from now on. False if something else does already.
    pub(super) fn install(self) -> bool {
        TRACER.set(self).is_ok()
    }

    /// The span under which a publish is recorded, and its parent's id; the message carries it from now on. `None` if it is not.
    fn trace(&self, message: &mut Message) -> Option<(TraceContext, Option<u64>)> {
        let (own, parent) = match TraceContext::of(message) {
            Some(parent) if parent.is_sampled() => (parent.child(), Some(parent.span)),
            // Whoever began this trace decided not to record it.
            Some(_) => return None,
            None if self.ratio > 0.0 && chance::range(0.0..1.0) < self.ratio => (TraceContext::root(), None),
            None => return None,
        };
        own.put_into(message);
        Some((own, parent))
    }

    /// Hands a span to the exporter. Where that has no room, it is dropped and counted: nobody waits for telemetry.
    fn record(&self, span: Span) {
        if self.spans.try_send(span).is_err() {
            METRICS.spans_dropped.add(1);
        }
    }
}

/// A publish under way. Dropped without [`acknowledged`], it is not recorded.
#[derive(Debug)]
pub struct Publish {
    began_at: Duration,
    traced: Option<Box<Traced>>,
}

#[derive(Debug)]
struct Traced {
    own: TraceContext,
    parent: Option<u64>,
    /// Nanoseconds since 1970.
    began_at: u64,
    topic: String,
    state: String,
}

impl Publish {
    /// Begins, when a message was taken from its publisher. A message that is traced carries its trace from now on.
    #[must_use]
    pub fn begin(message: &mut NewMessage) -> Self {
        let traced = TRACER.get().and_then(|tracer| {
            let (own, parent) = tracer.trace(&mut message.message)?;
            let topic = message.topic.as_str().to_owned();
            let state = context::state_of(&message.message).to_owned();
            Some(Box::new(Traced { own, parent, began_at: clock::wall_nanos(), topic, state }))
        });
        Self { began_at: clock::monotonic(), traced }
    }
}

impl Traced {
    fn end(self, ended_at: u64, error: Option<&str>) {
        let Some(tracer) = TRACER.get() else { return };
        let mut span = otlp::span("publish", Kind::Server, self.own, self.parent);
        span.start_time_unix_nano = self.began_at;
        span.end_time_unix_nano = ended_at;
        span.trace_state = self.state;
        span.attributes = vec![
            otlp::text("messaging.system", "bongsu"),
            otlp::text("messaging.operation.type", "send"),
            otlp::text("messaging.destination.name", self.topic),
        ];
        span.status = otlp::status(error);
        tracer.record(span);
    }
}

/// Ends publishes, when their acknowledgments are on their way, and records how long each took. Each may have failed, in a few words for
/// whoever reads the trace.
pub fn acknowledged(publishes: Vec<(Publish, Option<&'static str>)>, took: &Histogram) {
    let now = clock::monotonic();
    for (publish, error) in publishes {
        took.record_time(now.saturating_sub(publish.began_at));
        if let Some(traced) = publish.traced {
            traced.end(clock::wall_nanos(), error);
        }
    }
}

/// A step that messages take together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The store keeps a batch.
    StoreAppend,
    /// A batch is handed to the bus.
    BusPublish,
    /// A batch came from the bus and is read.
    BusReceive,
    /// A batch is fanned out to this node's readers.
    Deliver,
}

/// Traced messages that take a step together. Dropped without [`end`](Self::end), it is not recorded.
#[derive(Debug)]
pub struct Step {
    stage: Stage,
    /// Nanoseconds since 1970.
    began_at: u64,
    /// Messages of the batch, traced or not.
    n_messages: usize,
    /// What the traced ones carry; at least one, and at most [`TRACED_PER_BATCH_MAX`].
    parents: Vec<TraceContext>,
}

impl Stage {
    /// Begins, if at least one of the messages is traced.
    #[must_use]
    pub fn begin<'a>(self, messages: impl IntoIterator<Item = &'a Message>) -> Option<Step> {
        TRACER.get()?;
        let mut n_messages = 0;
        let mut parents = Vec::new();
        for message in messages {
            n_messages += 1;
            if parents.len() < TRACED_PER_BATCH_MAX
                && let Some(context) = TraceContext::of(message).filter(|context| context.is_sampled())
            {
                parents.push(context);
            }
        }
        let is_traced = !parents.is_empty();
        is_traced.then(|| Step { stage: self, began_at: clock::wall_nanos(), n_messages, parents })
    }

    const fn name(self) -> &'static str {
        match self {
            Self::StoreAppend => "store append",
            Self::BusPublish => "bus publish",
            Self::BusReceive => "bus receive",
            Self::Deliver => "deliver",
        }
    }

    const fn kind(self) -> Kind {
        match self {
            Self::StoreAppend => Kind::Client,
            Self::BusPublish => Kind::Producer,
            Self::BusReceive => Kind::Consumer,
            Self::Deliver => Kind::Internal,
        }
    }
}

impl Step {
    /// Ends: one span in each message's trace, all with the same times. The error is for whoever reads the trace.
    pub fn end(self, error: Option<&str>) {
        let Some(tracer) = TRACER.get() else { return };
        let ended_at = clock::wall_nanos();
        for (place, parent) in self.parents.iter().enumerate() {
            let mut span =
                otlp::span(self.stage.name(), self.stage.kind(), parent.child(), Some(parent.span));
            span.start_time_unix_nano = self.began_at;
            span.end_time_unix_nano = ended_at;
            let n_messages = i64::try_from(self.n_messages).unwrap_or(i64::MAX);
            span.attributes = vec![otlp::integer("messaging.batch.message_count", n_messages)];
            let others = self.parents[..place].iter().chain(&self.parents[place + 1..]);
            span.links = otlp::links(others.copied());
            span.status = otlp::status(error);
            tracer.record(span);
        }
    }
}

/// Messages on their way to the readers of this node. Whoever still has to offer them holds it; the last one to drop it ends it.
#[derive(Debug)]
pub struct Delivering {
    began_at: Duration,
    step: Option<Step>,
}

impl Delivering {
    /// Begins, when messages are handed to the shards.
    #[must_use]
    pub fn begin<'a>(messages: impl ExactSizeIterator<Item = &'a Message>) -> Self {
        METRICS.fan_out_messages.record_count(messages.len());
        Self { began_at: clock::monotonic(), step: Stage::Deliver.begin(messages) }
    }
}

impl Drop for Delivering {
    fn drop(&mut self) {
        METRICS.fan_out_seconds.record_time(clock::monotonic().saturating_sub(self.began_at));
        if let Some(step) = self.step.take() {
            step.end(None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn tracer(ratio: f64) -> (Tracer, mpsc::Receiver<Span>) {
        let (spans, received) = mpsc::channel(1);
        (Tracer { spans, ratio }, received)
    }

    fn carrying(traceparent: &str) -> Message {
        Message { headers: vec![("traceparent".to_owned(), traceparent.to_owned())], ..Message::default() }
    }

    #[test]
    fn a_sampled_publisher_is_followed_whatever_the_ratio() {
        let (tracer, _spans) = tracer(0.0);
        let mut message = carrying(PARENT);
        let (own, parent) = tracer.trace(&mut message).expect("it is traced");
        assert_eq!(
            (own.trace, parent),
            (0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736, Some(0x00f0_67aa_0ba9_02b7))
        );
        assert_eq!(TraceContext::of(&message), Some(own), "the message carries the publish's span");
    }

    #[test]
    fn a_publisher_that_decided_against_it_is_not_traced_whatever_the_ratio() {
        let (tracer, _spans) = tracer(1.0);
        let mut message = carrying(&PARENT.replace("-01", "-00"));
        let before = message.clone();
        assert_eq!(tracer.trace(&mut message), None);
        assert_eq!(message, before);
    }

    #[test]
    fn a_message_without_a_context_is_traced_as_often_as_the_ratio_says() {
        for (ratio, at_least, at_most) in [(0.0, 0, 0), (0.5, 300, 700), (1.0, 1000, 1000)] {
            let (tracer, _spans) = tracer(ratio);
            let traced = (0..1000).filter(|_| tracer.trace(&mut carrying("nonsense")).is_some()).count();
            assert!((at_least..=at_most).contains(&traced), "{traced} of 1000 at {ratio}");
        }
    }

    #[test]
    fn spans_past_the_bound_are_dropped_and_counted() {
        let (tracer, mut spans) = tracer(0.0);
        let before = METRICS.spans_dropped.get();
        for _ in 0..3 {
            tracer.record(Span::default());
        }
        assert_eq!(METRICS.spans_dropped.get() - before, 2);
        assert!(spans.try_recv().is_ok() && spans.try_recv().is_err());
    }
}
