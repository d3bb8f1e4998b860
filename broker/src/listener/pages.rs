//! What a browser gets without a WebSocket.

use std::sync::Arc;

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header;

use crate::node::Node;

/// What pages may load and connect to: only this host. `connect-src 'self'` covers WebSockets to it.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                                       connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(super) fn routes() -> Router<Arc<Node>> {
    let page = |kind: &'static str, body: &'static str| get(move || async move { asset(kind, body) });
    let client = || async {
        let script = asset("text/javascript; charset=utf-8", include_str!("../../assets/bongsu.js"));
        // Pages of any site may import it: it is nobody's secret, and what it connects to is decided at the handshake.
        ([(header::ACCESS_CONTROL_ALLOW_ORIGIN, "*")], script)
    };
    Router::new()
        .route("/", page("text/html; charset=utf-8", include_str!("../../assets/index.html")))
        .route("/page.js", page("text/javascript; charset=utf-8", include_str!("../../assets/page.js")))
        .route("/bongsu.js", get(client))
        .route("/style.css", page("text/css; charset=utf-8", include_str!("../../assets/style.css")))
        .route("/icon.svg", page("image/svg+xml", include_str!("../../assets/icon.svg")))
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
