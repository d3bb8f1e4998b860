//! What probes ask a node: `/livez`, `/readyz` and `/healthz`.
//!
//! | path | asks | a failure means |
//! |---|---|---|
//! | `/livez` | whether the node's own tasks answer; nothing else's | restart it |
//! | `/readyz` | whether clients should come here: not while it drains, nor while the store does not answer | send no clients, but let it be |
//! | `/healthz` | whether HTTP is answered at all | |
//!
//! A bus that is away degrades a node but leaves it ready: publishing and reading go on, messages of other nodes come by way of
//! the store. All nodes would lose it at once, and sending all clients away from all nodes helps none of them.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{StatusCode, header};
use serde::Serialize;

use crate::bus;
use crate::limits::LIVENESS_DEADLINE;
use crate::metrics::METRICS;
use crate::node::Node;
use crate::peers::Source;

/// Who sees what is wrong in words. Everybody sees whether something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Audience {
    /// The port of clients: strangers, but for this machine.
    Clients,
    /// The administrators' port.
    Operators,
}

pub(super) fn routes(audience: Audience) -> Router<Arc<Node>> {
    of_life().route("/readyz", get(readiness)).route("/metrics", get(metrics)).layer(Extension(audience))
}

/// What is answered even by a node that is full: restarting it would make room for nobody.
pub(super) fn of_life() -> Router<Arc<Node>> {
    Router::new().route("/livez", get(liveness)).route("/healthz", get(|| async { "ok\n" }))
}

/// Whether the node's own tasks answer.
async fn liveness(State(node): State<Arc<Node>>) -> Response {
    match tokio::time::timeout(LIVENESS_DEADLINE, node.is_alive()).await {
        Ok(true) => "alive\n".into_response(),
        Ok(false) => (StatusCode::SERVICE_UNAVAILABLE, "a task of the node has ended\n").into_response(),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "a task of the node does not answer\n").into_response(),
    }
}

/// Whether new clients should come here.
async fn readiness(
    State(node): State<Arc<Node>>,
    Extension(audience): Extension<Audience>,
    Extension(source): Extension<Source>,
) -> Response {
    let condition = Condition {
        is_draining: node.drain().has_begun(),
        store: node.store_health().await,
        bus: node.bus_health(),
    };
    let sees_reasons = audience == Audience::Operators || source.is_this_machine();
    let report = condition.report(node.name(), sees_reasons);
    let status = if report.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    // A report holds nothing that JSON cannot.
    let body = serde_json::to_string(&report).unwrap_or_default();
    (status, headers, body + "\n").into_response()
}

/// The metrics. They tell more than a stranger should know, so the port of clients shows them to this machine only.
async fn metrics(
    State(node): State<Arc<Node>>,
    Extension(audience): Extension<Audience>,
    Extension(source): Extension<Source>,
) -> Response {
    if audience == Audience::Clients && !source.is_this_machine() {
        return (StatusCode::FORBIDDEN, "metrics are shown to this machine only: see admin.listen\n")
            .into_response();
    }
    node.measure();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], METRICS.to_prometheus()).into_response()
}

/// What readiness is judged by.
#[derive(Debug, Clone)]
struct Condition {
    is_draining: bool,
    /// The error in words where the store does not answer.
    store: Result<(), String>,
    /// `None` on a node that is alone.
    bus: Option<bus::Health>,
}

/// What `/readyz` answers.
#[derive(Debug, Serialize, PartialEq, Eq)]
struct Report<'a> {
    node: &'a str,
    /// Whether new clients should come here.
    ready: bool,
    /// The worst of what follows.
    status: Status,
    draining: bool,
    store: Part<'a>,
    /// Absent on a node that is alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    bus: Option<Part<'a>>,
}

#[derive(Debug, Clone, Copy, Serialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
enum Status {
    Ok,
    /// Something is amiss that clients feel as slowness at most.
    Degraded,
    /// Clients are better off elsewhere.
    Unavailable,
}

#[derive(Debug, Serialize, PartialEq, Eq)]
struct Part<'a> {
    status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

impl Condition {
    /// Judges. What is wrong in words is left out where strangers read.
    fn report<'a>(&'a self, node: &'a str, sees_reasons: bool) -> Report<'a> {
        let part = |status, reason: Option<&'a String>| Part {
            status,
            reason: reason.map(String::as_str).filter(|_| sees_reasons),
        };
        let store = match &self.store {
            Ok(()) => part(Status::Ok, None),
            Err(reason) => part(Status::Unavailable, Some(reason)),
        };
        let bus = self.bus.as_ref().map(|health| match health {
            bus::Health::Live => part(Status::Ok, None),
            bus::Health::Degraded { reason } => part(Status::Degraded, Some(reason)),
        });
        let worst = bus.as_ref().map_or(store.status, |bus| bus.status.max(store.status));
        let status = if self.is_draining { Status::Unavailable } else { worst };
        Report { node, ready: status < Status::Unavailable, status, draining: self.is_draining, store, bus }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(condition: &Condition, sees_reasons: bool, expected: &str) {
        let report = serde_json::to_string(&condition.report("node-1", sees_reasons)).expect("JSON");
        assert_eq!(report, expected);
    }

    fn well() -> Condition {
        Condition { is_draining: false, store: Ok(()), bus: Some(bus::Health::Live) }
    }

    #[test]
    fn a_bus_that_is_away_degrades_a_node_and_leaves_it_ready() {
        let bus = bus::Health::Degraded { reason: "redis.internal: connection refused".to_owned() };
        let condition = Condition { bus: Some(bus), ..well() };
        check(
            &condition,
            true,
            r#"{"node":"node-1","ready":true,"status":"degraded","draining":false,"store":{"status":"ok"},"bus":{"status":"degraded","reason":"redis.internal: connection refused"}}"#,
        );
        check(
            &condition,
            false,
            r#"{"node":"node-1","ready":true,"status":"degraded","draining":false,"store":{"status":"ok"},"bus":{"status":"degraded"}}"#,
        );
    }

    #[test]
    fn a_store_that_does_not_answer_makes_a_node_unready() {
        let condition = Condition { store: Err("it took too long".to_owned()), ..well() };
        check(
            &condition,
            true,
            r#"{"node":"node-1","ready":false,"status":"unavailable","draining":false,"store":{"status":"unavailable","reason":"it took too long"},"bus":{"status":"ok"}}"#,
        );
    }

    #[test]
    fn a_node_that_drains_is_not_ready_though_all_is_well() {
        check(
            &Condition { is_draining: true, ..well() },
            true,
            r#"{"node":"node-1","ready":false,"status":"unavailable","draining":true,"store":{"status":"ok"},"bus":{"status":"ok"}}"#,
        );
        check(
            &Condition { bus: None, ..well() },
            true,
            r#"{"node":"node-1","ready":true,"status":"ok","draining":false,"store":{"status":"ok"}}"#,
        );
        check(
            &well(),
            true,
            r#"{"node":"node-1","ready":true,"status":"ok","draining":false,"store":{"status":"ok"},"bus":{"status":"ok"}}"#,
        );
    }
}
