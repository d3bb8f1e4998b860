//! What a browser or a probe gets without a WebSocket.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{StatusCode, header};

use super::Peer;
use crate::metrics::METRICS;
use crate::node::Node;

/// What pages may load and connect to: only this host. `connect-src 'self'` covers WebSockets to it.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                                       connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(super) fn routes() -> Router<Arc<Node>> {
    let page = |kind: &'static str, body: &'static str| get(move || async move { asset(kind, body) });
    Router::new()
        .route("/", page("text/html; charset=utf-8", include_str!("../../assets/index.html")))
        .route("/page.js", page("text/javascript; charset=utf-8", include_str!("../../assets/page.js")))
        .route("/bongsu.js", page("text/javascript; charset=utf-8", include_str!("../../assets/bongsu.js")))
        .route("/style.css", page("text/css; charset=utf-8", include_str!("../../assets/style.css")))
        .route("/icon.svg", page("image/svg+xml", include_str!("../../assets/icon.svg")))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readiness))
        .route("/metrics", get(metrics))
}

fn asset(kind: &'static str, body: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (headers, body).into_response()
}

/// Whether new clients should come here.
async fn readiness(State(node): State<Arc<Node>>) -> Response {
    if node.drain().has_begun() {
        return (StatusCode::SERVICE_UNAVAILABLE, "draining\n").into_response();
    }
    match node.history().probe().await {
        Ok(()) => "ready\n".into_response(),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the store does not answer\n").into_response(),
    }
}

/// The counters, for this machine only: they tell more than a stranger should know.
async fn metrics(State(node): State<Arc<Node>>, Extension(Peer(peer)): Extension<Peer>) -> Response {
    if !peer.ip().to_canonical().is_loopback() {
        return (StatusCode::FORBIDDEN, "metrics are shown to this machine only\n").into_response();
    }
    let connections = node.connections();
    let text = METRICS.to_prometheus();
    let text = format!(
        "{text}# HELP bongsu_connections Connections that hold a place now.\n# TYPE bongsu_connections gauge\n\
         bongsu_connections {connections}\n"
    );
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}
