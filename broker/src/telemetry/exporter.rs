//! The task that sends metrics and spans to the collector.
//!
//! Nobody waits for it. Spans wait in a bounded queue while the collector is away, and what finds no room there is dropped and counted;
//! metrics are whole each time, so that one that was not sent is made good by the next.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use super::otlp::Origin;
use super::span::Tracer;
use crate::clock;
use crate::config::Settings;
use crate::http_client;
use crate::limits::{SPANS_PER_REQUEST_MAX, SPANS_WAITING_MAX, TELEMETRY_DEADLINE};
use crate::metrics::METRICS;

/// What is sent to a collector, while this lives.
#[derive(Debug)]
pub struct Telemetry {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Telemetry {
    /// Begins to send where the settings name a collector. `measure` sets the gauges, right before each sending.
    ///
    /// Spans are of the process: of several nodes in one process, only the first is traced.
    #[must_use]
    pub fn start(settings: &Settings, measure: impl Fn() + Send + 'static) -> Option<Self> {
        let endpoint = settings.telemetry.otlp_endpoint.as_ref()?;
        let (spans, received) = mpsc::channel(SPANS_WAITING_MAX);
        let ratio = settings.telemetry.traces_ratio.as_f64();
        if !(Tracer { spans, ratio }).install() {
            tracing::warn!("another node of this process is traced already");
        }
        let origin = Origin {
            node: settings.node.name.as_str().to_owned(),
            cluster: settings.cluster.name.as_str().to_owned(),
            began_at: clock::wall_nanos(),
        };
        let exporter = Exporter {
            collector: Collector::new(endpoint.reveal()),
            origin,
            received,
            waiting: Vec::new(),
            interval: settings.telemetry.interval,
            measure,
        };
        let (stop, stopped) = oneshot::channel();
        Some(Self { stop, task: tokio::spawn(exporter.run(stopped)) })
    }

    /// Sends what there is to be sent, and ends. Takes at most [`TELEMETRY_DEADLINE`].
    pub async fn flush(self) {
        let Self { stop, mut task } = self;
        // The task ends by itself only by a panic, and then there is nothing to flush.
        let _ = stop.send(());
        if tokio::time::timeout(TELEMETRY_DEADLINE, &mut task).await.is_err() {
            task.abort();
            tracing::warn!("the collector did not take the last telemetry in time");
        }
    }
}

struct Exporter<F> {
    collector: Collector,
    origin: Origin,
    received: mpsc::Receiver<Span>,
    /// Taken from the queue and not sent yet: at most one request's.
    waiting: Vec<Span>,
    interval: Duration,
    measure: F,
}

impl<F: Fn()> Exporter<F> {
    async fn run(mut self, mut stopped: oneshot::Receiver<()>) {
        let mut interval = tokio::time::interval(self.interval);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let room = SPANS_PER_REQUEST_MAX - self.waiting.len();
            tokio::select! {
                biased;
                _ = &mut stopped => break,
                _ = interval.tick() => {
                    self.send_metrics().await;
                    self.send_spans().await;
                }
                // Without room, the collector did not take them: they wait for the next interval.
                _ = self.received.recv_many(&mut self.waiting, room), if room > 0 && !self.received.is_closed() => {
                    if self.waiting.len() >= SPANS_PER_REQUEST_MAX {
                        self.send_spans().await;
                    }
                }
            }
        }
        self.flush().await;
    }

    /// Sends everything, until the collector does not take something.
    async fn flush(&mut self) {
        self.send_metrics().await;
        loop {
            while self.waiting.len() < SPANS_PER_REQUEST_MAX
                && let Ok(span) = self.received.try_recv()
            {
                self.waiting.push(span);
            }
            if self.waiting.is_empty() {
                return;
            }
            self.send_spans().await;
            if !self.waiting.is_empty() {
                return METRICS.spans_dropped.add((self.waiting.len() + self.received.len()) as u64);
            }
        }
    }

    async fn send_metrics(&mut self) {
        (self.measure)();
        let request = self.origin.metrics(METRICS.snapshot(), clock::wall_nanos());
        // They are whole each time: there is nothing to repeat.
        let _ = self.collector.send("/v1/metrics", request.encode_to_vec().into()).await;
    }

    /// Sends the spans that wait. They go on waiting if the collector may take them later.
    async fn send_spans(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let n_spans = self.waiting.len() as u64;
        let request = self.origin.spans(std::mem::take(&mut self.waiting));
        let n_rejected = match self.collector.send("/v1/traces", request.encode_to_vec().into()).await {
            Ok(answer) => rejected(&answer).min(n_spans),
            Err(Refused::ForNow) => {
                let spans = request.resource_spans.into_iter().flat_map(|spans| spans.scope_spans);
                self.waiting = spans.flat_map(|spans| spans.spans).collect();
                return;
            }
            Err(Refused::ForGood) => n_spans,
        };
        METRICS.spans_sent.add(n_spans - n_rejected);
        METRICS.spans_dropped.add(n_rejected);
    }
}

/// How many spans the collector did not take, by its own account. An answer that cannot be read names none.
fn rejected(answer: &[u8]) -> u64 {
    let answer = ExportTraceServiceResponse::decode(answer).unwrap_or_default();
    let n_rejected = answer.partial_success.map_or(0, |partial| partial.rejected_spans);
    u64::try_from(n_rejected).unwrap_or(0)
}

/// The other side.
struct Collector {
    /// Without a slash at the end.
    base: String,
    /// The last request failed: the next failure is no news.
    is_failing: bool,
}

/// Why the collector did not take something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refused {
    /// It is away or busy: the same may be taken later.
    ForNow,
    /// The same will never be taken.
    ForGood,
}

impl Collector {
    fn new(base: &str) -> Self {
        Self { base: base.trim_end_matches('/').to_owned(), is_failing: false }
    }

    /// Sends one request and takes the answer's body. Tells the first failure and the first success after it.
    async fn send(&mut self, path: &str, body: Bytes) -> Result<Bytes, Refused> {
        let result = self.try_send(path, body).await;
        match &result {
            Ok(_) if self.is_failing => tracing::info!(collector = self.base, "telemetry is taken again"),
            Ok(_) => {}
            Err((_, problem)) => {
                METRICS.telemetry_failures.add(1);
                if !self.is_failing {
                    tracing::warn!(collector = self.base, problem, "telemetry is not taken");
                }
            }
        }
        self.is_failing = result.is_err();
        result.map_err(|(refused, _)| refused)
    }

    async fn try_send(&self, path: &str, body: Bytes) -> Result<Bytes, (Refused, String)> {
        let request = Request::post(format!("{}{path}", self.base))
            .header(header::CONTENT_TYPE, "application/x-protobuf")
            .header(header::USER_AGENT, concat!("bongsu/", env!("CARGO_PKG_VERSION")))
            .body(body)
            .map_err(|error| (Refused::ForGood, error.to_string()))?;
        let answer = match tokio::time::timeout(TELEMETRY_DEADLINE, http_client::send(request)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err((Refused::ForNow, error.to_string())),
            Err(_) => return Err((Refused::ForNow, format!("no answer within {TELEMETRY_DEADLINE:?}"))),
        };
        match answer.status() {
            status if status.is_success() => Ok(answer.into_body()),
            // What OTLP/HTTP names as worth repeating.
            status @ (StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT) => Err((Refused::ForNow, status.to_string())),
            status => Err((Refused::ForGood, status.to_string())),
        }
    }
}
