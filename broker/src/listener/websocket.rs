//! The endpoint `/v1/ws`: from an HTTP request to a connection.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::response::Response;
use axum::routing::any;
use bongsu_protocol::codec::Format;
use bongsu_protocol::command::Token;
use bongsu_protocol::reason::{CloseReason, Goodbye};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::serving::Admission;
use super::socket::Socket;
use crate::auth::{self, Identity};
use crate::config::{AllowedOrigin, Reject, Settings};
use crate::connection::{self, Framing, Io, Opened};
use crate::dialog::Language;
use crate::limits::HANDSHAKE_TIMEOUT;
use crate::metrics::METRICS;
use crate::node::Node;
use crate::peers::Source;
use crate::quota::{Refused, Seat};
use crate::websocket::handshake::{self, Accepted, Choice, Deflate, Origins, OwnHosts};
use crate::websocket::upgrade;

/// What the path offers.
pub(super) const SUBPROTOCOLS: &[&str] = &[Format::Binary.sub_protocol(), Format::Json.sub_protocol()];

pub(super) fn routes(node: &Node, origins: Origins) -> Router<Arc<Node>> {
    let settings = handshake::Settings {
        subprotocols: SUBPROTOCOLS,
        choice: Choice::Clients,
        // So that a plain WebSocket tool works by hand.
        default_subprotocol: Some(Format::Json.sub_protocol()),
        origins,
        own_hosts: own_hosts(node.settings()),
        deflate: if node.settings().websocket.compression { Deflate::On } else { Deflate::Off },
    };
    Router::new().route("/v1/ws", any(open)).layer(Extension(Arc::new(settings)))
}

/// Which pages may connect.
///
/// # Errors
/// With the entry that is no origin.
pub(super) fn origins(allowed: &[AllowedOrigin]) -> anyhow::Result<Origins> {
    let entries = allowed.iter().map(|origin| match origin {
        AllowedOrigin::Any => "*",
        AllowedOrigin::Exact(origin) => origin,
    });
    let entries: Vec<_> = entries.collect();
    Origins::parse(&entries).map_err(|entry| {
        anyhow::anyhow!("http.allowed_origins: {entry} is not an origin: scheme://host or scheme://host:port")
    })
}

/// A node on loopback without tokens trusts whoever reaches it: that must not be a page of another machine.
pub(super) fn own_hosts(settings: &Settings) -> OwnHosts {
    let trusts_all = settings.listen.ip().to_canonical().is_loopback() && !settings.auth.knows_tokens();
    if trusts_all { OwnHosts::Loopback } else { OwnHosts::Any }
}

async fn open(
    State(node): State<Arc<Node>>,
    Extension(settings): Extension<Arc<handshake::Settings>>,
    Extension(Source { address: peer, .. }): Extension<Source>,
    Extension(admission): Extension<Admission>,
    mut request: Request,
) -> Response {
    let accepted = match handshake::check(&request, &settings) {
        Ok(accepted) => accepted,
        Err(rejected) => {
            METRICS.handshakes_refused.add(1);
            return rejected.response();
        }
    };
    let identity = match identify(&node, &accepted).await {
        Ok(identity) => Ok(identity),
        Err(goodbye) if node.settings().auth.reject == Reject::Close => Err(goodbye),
        Err(goodbye) => {
            METRICS.handshakes_refused.add(1);
            return refuse(&goodbye);
        }
    };
    // The first WebSocket of an HTTP connection takes over its place; others, within HTTP/2, need their own.
    let place = admission.lock().ok().and_then(|mut place| place.take()).or_else(|| node.admit());
    let Some(admission) = place else {
        METRICS.turned_away.add(1);
        return status(
            StatusCode::SERVICE_UNAVAILABLE,
            "this node has as many connections as it takes",
            &[(header::RETRY_AFTER, "1")],
        );
    };
    let admission = match admission.at(node.quotas(), peer.ip()) {
        Ok(admission) => admission,
        Err(refused) => return too_many(&refused),
    };
    let on_upgrade = hyper::upgrade::on(&mut request);
    let format = match accepted.subprotocol {
        Some(name) if name == Format::Binary.sub_protocol() => Format::Binary,
        _ => Format::Json,
    };
    let deflate = accepted
        .deflate
        .filter(|_| node.connections() <= node.settings().websocket.compression_connections_max);
    let mut response = accepted.response();
    if deflate.is_none() {
        response.headers_mut().remove(header::SEC_WEBSOCKET_EXTENSIONS);
    }
    let (language, framing) = (Language::Native(format), Framing::WebSocket { deflate });
    let opening = Opening { language, framing, identity, peer, admission };
    tokio::spawn(opening.run(node, on_upgrade));
    response
}

/// A WebSocket whose handshake was answered.
pub(super) struct Opening {
    pub(super) language: Language,
    pub(super) framing: Framing,
    pub(super) identity: Result<Arc<Identity>, Goodbye>,
    pub(super) peer: std::net::SocketAddr,
    pub(super) admission: Seat,
}

impl Opening {
    pub(super) async fn run(self, node: Arc<Node>, on_upgrade: OnUpgrade) {
        let Ok(Ok(upgraded)) = tokio::time::timeout(HANDSHAKE_TIMEOUT, on_upgrade).await else { return };
        let (io, read_ahead) = socket_of(upgraded);
        let Self { language, framing, identity, peer, admission } = self;
        // Boxed, so that the task is as small as the connection once it runs.
        let opened = Opened { io, read_ahead, language, framing, identity, peer, admission };
        Box::pin(connection::run(node, opened)).await;
    }
}

/// The bare socket where there is one, else the stream that hyper gives.
fn socket_of(upgraded: Upgraded) -> (Io, Bytes) {
    match upgrade::into_socket::<Socket<TcpStream>>(upgraded) {
        // What hyper read comes before what was read for it and is still there, which is nothing after a request.
        Ok(socket) => (
            Io::Tcp(Arc::new(socket.io.stream)),
            [socket.read_ahead, socket.io.read_ahead.freeze()].concat().into(),
        ),
        Err(upgraded) => (Io::Stream(Box::new(TokioIo::new(upgraded))), Bytes::new()),
    }
}

/// Who the client is, by the token of its handshake.
async fn identify(node: &Node, accepted: &Accepted) -> Result<Arc<Identity>, Goodbye> {
    match &accepted.token {
        // Without one it may authenticate in its first request.
        None => Ok(Arc::clone(node.authenticator().anonymous())),
        Some(token) => node.verify(&Token(token.text.clone())).await.map_err(auth::goodbye),
    }
}

/// The answer to one more WebSocket than its address may have.
pub(super) fn too_many(refused: &Refused) -> Response {
    METRICS.turned_away.add(1);
    let mut response = status(StatusCode::TOO_MANY_REQUESTS, &refused.to_string(), &[]);
    let seconds = refused.retry_after_ms().div_ceil(1000);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    response
}

fn refuse(goodbye: &Goodbye) -> Response {
    match goodbye.reason {
        CloseReason::Forbidden => status(StatusCode::FORBIDDEN, &goodbye.text, &[]),
        CloseReason::Internal => {
            status(StatusCode::SERVICE_UNAVAILABLE, &goodbye.text, &[(header::RETRY_AFTER, "1")])
        }
        // RFC 6750, 3.
        _ => status(
            StatusCode::UNAUTHORIZED,
            &goodbye.text,
            &[(header::WWW_AUTHENTICATE, "Bearer error=\"invalid_token\"")],
        ),
    }
}

fn status(status: StatusCode, text: &str, headers: &[(header::HeaderName, &'static str)]) -> Response {
    let mut response = Response::new(Body::from(format!("{text}\n")));
    *response.status_mut() = status;
    for (name, value) in headers {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_allowed_as_the_settings_write_it() {
        let exact = |origin: &str| AllowedOrigin::Exact(origin.to_owned());
        let allowed = [exact("https://app.example"), exact("http://localhost:3000")];
        let settings = handshake::Settings {
            subprotocols: SUBPROTOCOLS,
            choice: Choice::Clients,
            default_subprotocol: Some(Format::Json.sub_protocol()),
            origins: origins(&allowed).expect("these are origins"),
            own_hosts: OwnHosts::Any,
            deflate: Deflate::Off,
        };
        let is_allowed = |origin: &str| {
            let request = http::Request::get("/v1/ws")
                .header("host", "broker.example")
                .header("upgrade", "websocket")
                .header("connection", "upgrade")
                .header("sec-websocket-version", "13")
                .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
                .header("origin", origin);
            handshake::check(&request.body(()).expect("a request"), &settings).is_ok()
        };
        assert!(is_allowed("https://app.example"));
        assert!(is_allowed("http://localhost:3000"));
        assert!(!is_allowed("http://app.example"));
        let error = origins(&[exact("https://::")]).expect_err("not an origin");
        assert!(error.to_string().contains("http.allowed_origins: https://::"), "{error}");
    }
}
