//! Metrics and spans as OTLP has them.
//!
//! See <https://opentelemetry.io/docs/specs/otlp/>. Metrics keep the names that `/metrics` shows.

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics,
    ScopeMetrics, Sum, metric, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::Link;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};

use super::context::TraceContext;
use crate::limits::LINKS_PER_SPAN_MAX;
use crate::metrics::{self, Point, Recorded, Unit};

pub(super) use opentelemetry_proto::tonic::trace::v1::span::SpanKind as Kind;

/// Whose metrics and spans these are.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    pub(super) node: String,
    pub(super) cluster: String,
    /// Since when metrics are counted, in nanoseconds since 1970.
    pub(super) began_at: u64,
}

impl Origin {
    fn resource(&self) -> Resource {
        let attributes = vec![
            text("service.name", "bongsu"),
            text("service.namespace", self.cluster.as_str()),
            text("service.instance.id", self.node.as_str()),
            text("service.version", env!("CARGO_PKG_VERSION")),
        ];
        Resource { attributes, ..Resource::default() }
    }

    /// A request with spans.
    pub(super) fn spans(&self, spans: Vec<Span>) -> ExportTraceServiceRequest {
        let scope_spans = vec![ScopeSpans { scope: Some(scope()), spans, ..ScopeSpans::default() }];
        let resource = Some(self.resource());
        let spans = ResourceSpans { resource, scope_spans, ..ResourceSpans::default() };
        ExportTraceServiceRequest { resource_spans: vec![spans] }
    }

    /// A request with all metrics, as they stood at `now` (nanoseconds since 1970).
    pub(super) fn metrics(&self, metrics: Vec<metrics::Metric>, now: u64) -> ExportMetricsServiceRequest {
        let metrics = metrics.into_iter().map(|metric| self.metric(metric, now)).collect();
        let scope_metrics = vec![ScopeMetrics { scope: Some(scope()), metrics, ..ScopeMetrics::default() }];
        let resource = Some(self.resource());
        let metrics = ResourceMetrics { resource, scope_metrics, ..ResourceMetrics::default() };
        ExportMetricsServiceRequest { resource_metrics: vec![metrics] }
    }

    fn metric(&self, metric: metrics::Metric, now: u64) -> Metric {
        // Everything counts from the beginning of the process.
        let temporality = AggregationTemporality::Cumulative.into();
        let (data, unit) = match metric.value {
            metrics::Value::Counter(points) => {
                let data_points = self.points(points, now);
                let sum = Sum { data_points, aggregation_temporality: temporality, is_monotonic: true };
                (metric::Data::Sum(sum), "1")
            }
            metrics::Value::Gauge(points) => {
                (metric::Data::Gauge(Gauge { data_points: self.points(points, now) }), "1")
            }
            metrics::Value::Histogram(recorded) => {
                let unit = if recorded.unit == Unit::Seconds { "s" } else { "1" };
                let data_points = vec![self.histogram(&recorded, now)];
                (
                    metric::Data::Histogram(Histogram { data_points, aggregation_temporality: temporality }),
                    unit,
                )
            }
        };
        Metric {
            name: metric.name.to_owned(),
            description: metric.help,
            unit: unit.to_owned(),
            data: Some(data),
            ..Metric::default()
        }
    }

    fn points(&self, points: Vec<Point>, now: u64) -> Vec<NumberDataPoint> {
        let point = |Point { label, value }| NumberDataPoint {
            attributes: label.into_iter().map(|(key, word)| text(key, word)).collect(),
            start_time_unix_nano: self.began_at,
            time_unix_nano: now,
            value: Some(number_data_point::Value::AsInt(i64::try_from(value).unwrap_or(i64::MAX))),
            ..NumberDataPoint::default()
        };
        points.into_iter().map(point).collect()
    }

    fn histogram(&self, recorded: &Recorded, now: u64) -> HistogramDataPoint {
        HistogramDataPoint {
            start_time_unix_nano: self.began_at,
            time_unix_nano: now,
            count: recorded.count(),
            sum: Some(recorded.unit.shown(recorded.sum)),
            bucket_counts: recorded.buckets.to_vec(),
            explicit_bounds: recorded.unit.bounds().iter().map(|bound| recorded.unit.shown(*bound)).collect(),
            ..HistogramDataPoint::default()
        }
    }
}

/// A span without times.
pub(super) fn span(name: &str, kind: Kind, own: TraceContext, parent: Option<u64>) -> Span {
    Span {
        trace_id: own.trace.to_be_bytes().to_vec(),
        span_id: own.span.to_be_bytes().to_vec(),
        parent_span_id: parent.map(|span| span.to_be_bytes().to_vec()).unwrap_or_default(),
        name: name.to_owned(),
        kind: kind.into(),
        ..Span::default()
    }
}

/// Links to spans of other traces; at most [`LINKS_PER_SPAN_MAX`].
pub(super) fn links(others: impl Iterator<Item = TraceContext>) -> Vec<Link> {
    let link = |other: TraceContext| Link {
        trace_id: other.trace.to_be_bytes().to_vec(),
        span_id: other.span.to_be_bytes().to_vec(),
        ..Link::default()
    };
    others.take(LINKS_PER_SPAN_MAX).map(link).collect()
}

/// How something ended: without a word where it went well.
pub(super) fn status(error: Option<&str>) -> Option<Status> {
    error.map(|message| Status { message: message.to_owned(), code: StatusCode::Error.into() })
}

pub(super) fn text(key: &str, value: impl Into<String>) -> KeyValue {
    attribute(key, any_value::Value::StringValue(value.into()))
}

pub(super) fn integer(key: &str, value: i64) -> KeyValue {
    attribute(key, any_value::Value::IntValue(value))
}

fn attribute(key: &str, value: any_value::Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn scope() -> InstrumentationScope {
    let version = env!("CARGO_PKG_VERSION").to_owned();
    InstrumentationScope { name: "bongsu".to_owned(), version, ..InstrumentationScope::default() }
}
