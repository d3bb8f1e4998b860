//! HTTP/1.1 on one connection: hyper serves it, and is put away while nothing is to be served.
//!
//! ```text
//!           first bytes                     a request that waits
//!   quiet ───────────────▶ served by hyper ──────────────────────▶ parked
//!     ▲                                                               │
//!     └───────────────────── the answer was written ──────────────────┘
//! ```
//!
//! A connection that is quiet or parked is a socket and a small future; hyper's buffers, some 30 KiB, exist only while a request comes or is
//! answered by it.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::{Buf as _, BytesMut};
use http::{StatusCode, Version, header};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncWriteExt as _;

use super::serving::Ways;
use super::socket::Socket;
use crate::clock;
use crate::connection::Duplex;
use crate::drain::Phase;
use crate::http::Parking;
use crate::limits::{HTTP_HEADER_BYTES_MAX, PARKED_AHEAD_BYTES_MAX};
use crate::metrics::METRICS;

/// What answers a request.
type Answering = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

/// The request that a connection answers: hyper's half of it has one end, the connection's loop the other.
#[derive(Default)]
struct Current {
    answering: Option<Answering>,
    parking: Parking,
    /// The client will not use the connection again.
    is_last: bool,
}

/// What a turn of hyper ended with.
enum Turn<T> {
    /// The connection is over, or another's.
    Over(Option<hyper::Error>),
    /// The request waits, and everything before it was answered.
    Parked(Socket<T>, Answering, bool),
}

/// Serves a connection until it ends or the node has drained. Where it is not kept, its first answer is its last.
pub(super) async fn serve<T: Duplex + 'static>(ways: &Ways, mut socket: Socket<T>, is_kept: bool) {
    let mut phase = ways.node.drain().subscribe();
    loop {
        if socket.read_ahead.is_empty() {
            let begun = tokio::select! {
                biased;
                _ = phase.wait_for(|phase| *phase == Phase::Draining) => return,
                begun = tokio::time::timeout(ways.header_timeout, socket.read_some()) => begun,
            };
            match begun {
                Ok(Ok(n_bytes)) if n_bytes > 0 => {}
                Ok(_) => return,
                Err(_) => {
                    METRICS.header_timeouts.add(1);
                    return tracing::debug!(peer = %ways.source.address, "no request came in time");
                }
            }
        }
        // Boxed, so that a connection that is quiet or parked does not hold the place for hyper's.
        match Box::pin(take_turn(ways, socket, is_kept)).await {
            Turn::Over(error) => return ways.note_end(error.as_ref().map(|error| error as _)),
            Turn::Parked(parked, answering, is_last) => {
                socket = parked;
                let Some(response) = wait(&mut socket, answering).await else { return };
                let is_last = is_last || *phase.borrow() == Phase::Draining;
                let writing = Box::pin(write(&mut socket.stream, response, is_last));
                match tokio::time::timeout(ways.write_timeout, writing).await {
                    Ok(Ok(false)) => {}
                    Ok(Ok(true) | Err(_)) | Err(_) => return,
                }
            }
        }
    }
}

/// Lets hyper serve until a request of the connection waits.
async fn take_turn<T: Duplex + 'static>(ways: &Ways, socket: Socket<T>, is_kept: bool) -> Turn<T> {
    let refusal = socket.refusal.clone();
    let current = Arc::new(Mutex::new(Current::default()));
    let service = {
        let (current, ways) = (Arc::clone(&current), ways.clone());
        hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
            let parking = Parking::default();
            let mut request = request.map(Body::new);
            // Whoever speaks HTTP/1.0 is answered by hyper, which knows how.
            if is_kept && request.version() == Version::HTTP_11 {
                request.extensions_mut().insert(parking.clone());
            }
            let is_last = says_close(&request);
            let answering: Answering = Box::pin(ways.answer(request));
            *lock(&current) = Current { answering: Some(answering), parking, is_last };
            Relay { current: Arc::clone(&current) }
        })
    };
    let mut server = http1::Builder::new();
    server
        .timer(TokioTimer::new())
        .header_read_timeout(ways.header_timeout)
        .keep_alive(is_kept)
        .max_buf_size(HTTP_HEADER_BYTES_MAX);
    let mut connection = server.serve_connection(TokioIo::new(socket), service).with_upgrades();
    let mut phase = ways.node.drain().subscribe();
    let mut is_draining = false;
    let end = loop {
        let serving = poll_fn(|cx| match Pin::new(&mut connection).poll(cx) {
            Poll::Ready(result) => Poll::Ready(Err(result.err())),
            // What hyper still has to write would be lost with it. It takes a request when all before it was written, but does not promise to.
            Poll::Pending if refusal.is_pending() => Poll::Pending,
            Poll::Pending => {
                lock(&current).take_parked().map_or(Poll::Pending, |parked| Poll::Ready(Ok(parked)))
            }
        });
        tokio::select! {
            biased;
            _ = phase.wait_for(|phase| *phase == Phase::Draining), if !is_draining => is_draining = true,
            end = serving => break end,
        }
        Pin::new(&mut connection).graceful_shutdown();
    };
    match end {
        Err(error) => Turn::Over(error),
        Ok((answering, is_last)) => match connection.into_parts() {
            Some(parts) => {
                let mut socket = parts.io.into_inner();
                // A copy: the bytes are a slice of hyper's buffer, and mostly none.
                let mut read_ahead = BytesMut::from(&parts.read_buf[..]);
                read_ahead.extend_from_slice(&socket.read_ahead);
                socket.read_ahead = read_ahead;
                Turn::Parked(socket, answering, is_last)
            }
            None => Turn::Over(None),
        },
    }
}

impl Current {
    /// Takes the answer away from hyper, if it is a long time coming.
    fn take_parked(&mut self) -> Option<(Answering, bool)> {
        if !self.parking.has_begun() {
            return None;
        }
        self.answering.take().map(|answering| (answering, self.is_last))
    }
}

/// The answer as hyper waits for it.
struct Relay {
    current: Arc<Mutex<Current>>,
}

impl Future for Relay {
    type Output = Result<Response, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut current = lock(&self.current);
        // Without one, the connection is being taken from hyper.
        let Some(answering) = &mut current.answering else { return Poll::Pending };
        let answer = answering.as_mut().poll(cx);
        if answer.is_ready() {
            current.answering = None;
        }
        answer
    }
}

/// Waits for the answer; `None` if the client is gone first. What it sends meanwhile is kept, up to a bound.
async fn wait<T: Duplex>(socket: &mut Socket<T>, mut answering: Answering) -> Option<Response> {
    poll_fn(|cx| {
        if let Poll::Ready(Ok(response)) = answering.as_mut().poll(cx) {
            return Poll::Ready(Some(response));
        }
        while socket.read_ahead.len() < PARKED_AHEAD_BYTES_MAX {
            match socket.poll_ahead(cx) {
                Poll::Ready(Ok(n_bytes)) if n_bytes > 0 => {}
                Poll::Ready(_) => return Poll::Ready(None),
                Poll::Pending => break,
            }
        }
        Poll::Pending
    })
    .await
}

/// Writes an answer whose body is whole. True if it was the connection's last.
async fn write<T: Duplex>(stream: &mut T, response: Response, is_last: bool) -> io::Result<bool> {
    let (parts, body) = response.into_parts();
    // Its pieces are there, or the request would not have been parked; one piece is not copied.
    let body = axum::body::to_bytes(body, usize::MAX).await.map_err(io::Error::other)?;
    let says_close = parts.headers.get(header::CONNECTION).is_some_and(|value| value == "close");
    let mut head = BytesMut::with_capacity(1024);
    head.extend_from_slice(format!("HTTP/1.1 {}\r\n", parts.status).as_bytes());
    for (name, value) in &parts.headers {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            head.extend_from_slice(part);
        }
    }
    if is_last && !says_close {
        head.extend_from_slice(b"connection: close\r\n");
    }
    // RFC 9110, 8.6: no length where there can be no body.
    if !matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
        && !parts.headers.contains_key(header::CONTENT_LENGTH)
    {
        head.extend_from_slice(format!("content-length: {}\r\n", body.len()).as_bytes());
    }
    let now = std::time::UNIX_EPOCH + Duration::from_millis(clock::wall().0);
    head.extend_from_slice(format!("date: {}\r\n\r\n", httpdate::fmt_http_date(now)).as_bytes());
    let mut answer = head.freeze().chain(body);
    stream.write_all_buf(&mut answer).await?;
    stream.flush().await?;
    let is_last = is_last || says_close;
    if is_last {
        stream.shutdown().await?;
    }
    Ok(is_last)
}

/// Whether the client closes the connection after this request (RFC 9112, 9.6).
fn says_close(request: &Request) -> bool {
    let lines = request.headers().get_all(header::CONNECTION).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|option| option.trim().eq_ignore_ascii_case("close"))
}

fn lock(current: &Mutex<Current>) -> MutexGuard<'_, Current> {
    current.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::routing::get;
    use bongsu_persistence::memory::MemoryStore;
    use hyper_util::service::TowerToHyperService;
    use tokio::io::{AsyncReadExt as _, DuplexStream};
    use tokio::sync::Notify;

    use super::*;
    use crate::config::Settings;
    use crate::listener::socket::Refusal;
    use crate::node::Node;
    use crate::peers::Source;

    /// A client of a server whose `/wait` waits until it is told.
    fn serve_pipe(begun: &Arc<Notify>, done: &Arc<Notify>) -> DuplexStream {
        let (client, stream) = tokio::io::duplex(64 << 10);
        let node = Node::start(Settings::default(), Arc::new(MemoryStore::default()), None);
        let (begun, done) = (Arc::clone(begun), Arc::clone(done));
        let wait = async move |request: Request| {
            let waiting = request.extensions().get::<Parking>().map(Parking::begin);
            begun.notify_one();
            done.notified().await;
            drop(waiting);
            "waited"
        };
        let routes = Router::new().route("/wait", get(wait));
        let source = Source::direct("127.0.0.1:1".parse().expect("an address"), false);
        let ways = Ways::new(&node, source, None, TowerToHyperService::new(routes));
        let socket = Socket { stream, read_ahead: BytesMut::new(), refusal: Refusal::default() };
        tokio::spawn(async move { serve(&ways, socket, true).await });
        client
    }

    #[tokio::test]
    async fn what_comes_while_a_poll_waits_is_served_after_it() {
        let (begun, done) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let mut client = serve_pipe(&begun, &done);
        client.write_all(b"GET /wait HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("it reads");
        begun.notified().await;
        for piece in ["GET /wai", "t HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"] {
            client.write_all(piece.as_bytes()).await.expect("it reads");
            tokio::task::yield_now().await;
        }
        done.notify_one();
        begun.notified().await;
        done.notify_one();
        let mut answers = String::new();
        client.read_to_string(&mut answers).await.expect("text");
        assert_eq!(answers.matches("\r\n\r\nwaited").count(), 2, "{answers}");
    }
}
