//! One connection of the listener: TLS, then HTTP/2 or HTTP/1.1, whichever the client speaks.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::BytesMut;
use hyper::server::conn::http2;
use hyper::service::Service as _;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;

use super::socket::{Refusal, Socket};
use super::{http1, tls, tune};
use crate::connection::Duplex;
use crate::drain::Phase;
use crate::limits::HTTP_HEADER_BYTES_MAX;
use crate::metrics::METRICS;
use crate::node::Node;
use crate::peers::Source;
use crate::quota::Seat;

/// The place of a connection, until a WebSocket takes it over; an extension of each request.
pub(super) type Admission = Arc<std::sync::Mutex<Option<Seat>>>;

/// What a client of HTTP/2 sends first (RFC 9113, 3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A connection that was accepted, before it said what it wants.
pub(super) struct Accepted {
    pub stream: TcpStream,
    pub source: Source,
    pub tls: Option<tls::Acceptor>,
}

/// What answers the requests of a connection, and how long it has for them.
#[derive(Clone)]
pub(super) struct Ways {
    pub node: Arc<Node>,
    /// The connection's other end. Behind proxies, each request says more.
    pub source: Source,
    pub admission: Admission,
    service: TowerToHyperService<Router>,
    pub header_timeout: Duration,
    pub write_timeout: Duration,
}

impl Ways {
    /// The ways of a connection that has a place; without one, a WebSocket of it must find one.
    pub(super) fn new(
        node: &Arc<Node>,
        source: Source,
        admission: Option<Seat>,
        service: TowerToHyperService<Router>,
    ) -> Self {
        let settings = node.settings();
        Self {
            node: Arc::clone(node),
            source,
            admission: Arc::new(std::sync::Mutex::new(admission)),
            service,
            header_timeout: settings.http.header_timeout,
            write_timeout: settings.websocket.write_timeout,
        }
    }

    /// Answers a request.
    pub(super) fn answer(
        &self,
        mut request: Request,
    ) -> impl Future<Output = Result<Response, Infallible>> + Send + use<> {
        let source = self.node.proxies().source(self.source, request.headers());
        request.extensions_mut().insert(source);
        // The same for whoever does not know nodes.
        request.extensions_mut().insert(source.address);
        request.extensions_mut().insert(Arc::clone(&self.admission));
        self.service.call(request)
    }

    /// Notes how a connection ended, if it did not end well.
    pub(super) fn note_end(&self, error: Option<&hyper::Error>) {
        let Some(error) = error else { return };
        if error.is_timeout() {
            METRICS.header_timeouts.add(1);
        }
        tracing::debug!(%error, peer = %self.source.address, "an HTTP connection ended early");
    }
}

impl Accepted {
    /// Serves it to its end. Where it is not kept, each answer is the connection's last.
    pub(super) async fn serve(self, ways: Ways, is_kept: bool) {
        let Self { stream, source, tls } = self;
        let peer = source.address;
        if let Err(error) = tune(&stream, &ways.node) {
            tracing::debug!(%error, %peer, "a socket could not be set up");
            return;
        }
        match tls {
            // Boxed, so that a connection without TLS does not hold the place for one with it.
            None => Box::pin(serve_stream(ways, stream, is_kept)).await,
            Some(tls) => match Box::pin(tls.accept(stream)).await {
                Ok(stream) => Box::pin(serve_stream(ways, stream, is_kept)).await,
                Err(error) => tracing::debug!(%error, %peer, "a TLS handshake failed"),
            },
        }
    }
}

async fn serve_stream<T: Duplex + 'static>(ways: Ways, stream: T, is_kept: bool) {
    let mut phase = ways.node.drain().subscribe();
    let mut socket = Socket { stream, read_ahead: BytesMut::new(), refusal: Refusal::default() };
    let begun = tokio::select! {
        biased;
        _ = phase.wait_for(|phase| *phase == Phase::Draining) => return,
        begun = tokio::time::timeout(ways.header_timeout, speaks_http2(&mut socket)) => begun,
    };
    match begun {
        Ok(Ok(true)) => Box::pin(serve_http2(&ways, socket, is_kept)).await,
        Ok(Ok(false)) if socket.read_ahead.is_empty() => {}
        Ok(Ok(false)) => http1::serve(&ways, socket, is_kept).await,
        Ok(Err(error)) => {
            tracing::debug!(%error, peer = %ways.source.address, "a connection ended before its first request")
        }
        Err(_) => {
            METRICS.header_timeouts.add(1);
            tracing::debug!(peer = %ways.source.address, "no request came in time");
        }
    }
}

/// Reads until it is clear whether the client speaks HTTP/2 with prior knowledge, or after TLS agreed on it.
async fn speaks_http2<T: Duplex>(socket: &mut Socket<T>) -> std::io::Result<bool> {
    loop {
        let read_ahead = &socket.read_ahead;
        let n_bytes = read_ahead.len().min(HTTP2_PREFACE.len());
        if read_ahead[..n_bytes] != HTTP2_PREFACE[..n_bytes] {
            return Ok(false);
        }
        if n_bytes == HTTP2_PREFACE.len() {
            return Ok(true);
        }
        if socket.read_some().await? == 0 {
            return Ok(false);
        }
    }
}

async fn serve_http2<T: Duplex + 'static>(ways: &Ways, socket: Socket<T>, is_kept: bool) {
    let has_request = Arc::new(AtomicBool::new(false));
    // Who sends half of a first request would stay for ever.
    let is_late = has_no_request_after(ways.header_timeout, Arc::clone(&has_request));
    let service = {
        let ways = ways.clone();
        hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
            has_request.store(true, Ordering::Relaxed);
            ways.answer(request.map(Body::new))
        })
    };
    let mut server = http2::Builder::new(TokioExecutor::new());
    server
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(ways.node.settings().websocket.ping_interval))
        .max_concurrent_streams(100)
        .max_header_list_size(u32::try_from(HTTP_HEADER_BYTES_MAX).unwrap_or(u32::MAX));
    if is_kept {
        // RFC 8441: WebSocket over HTTP/2.
        server.enable_connect_protocol();
    }
    let connection = server.serve_connection(TokioIo::new(socket), service);
    let mut phase = ways.node.drain().subscribe();
    tokio::pin!(connection);
    tokio::select! {
        biased;
        _ = phase.wait_for(|phase| *phase == Phase::Draining) => connection.as_mut().graceful_shutdown(),
        result = connection.as_mut() => return ways.note_end(result.as_ref().err()),
        () = is_late => {
            METRICS.header_timeouts.add(1);
            return tracing::debug!(peer = %ways.source.address, "no request came in time");
        }
    }
    let result = connection.await;
    ways.note_end(result.as_ref().err());
}

/// Waits until a connection has had its time without a request; for ever, if one came by then.
pub(super) async fn has_no_request_after(timeout: Duration, has_request: Arc<AtomicBool>) {
    tokio::time::sleep(timeout).await;
    if has_request.load(Ordering::Relaxed) {
        std::future::pending().await
    }
}
