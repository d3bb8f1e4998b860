//! The port for nodes: the routes of clients, for requests that another node forwards, and nothing for anybody else.
//!
//! It is served until the process ends, so that a node that drains tells its clients so through other nodes, too.

#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use futures_util::StreamExt as _;
use http::{Request, Response};
use hyper::service::Service as _;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::serving::{Admission, has_no_request_after};
use crate::admin::{self, Answer};
use crate::limits::{
    HTTP_HEADER_BYTES_MAX, PEER_CONNECTION_WINDOW_BYTES, PEER_CONNECTIONS_MAX, PEER_HEADER_BYTES_MAX,
    PEER_INTRODUCTION_TIMEOUT, PEER_PING_INTERVAL, PEER_PING_TIMEOUT, PEER_REQUESTS_MAX, PEER_RESETS_MAX,
    PEER_STREAM_WINDOW_BYTES,
};
use crate::node::Node;
use crate::peers::Admitted;

type Routes = TowerToHyperService<Router>;

/// Answers nodes until it is aborted.
pub(super) async fn serve(tcp: TcpListener, node: Arc<Node>, routes: Routes) {
    let places = Arc::new(Semaphore::new(PEER_CONNECTIONS_MAX));
    loop {
        let (stream, address) = match tcp.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of open files, mostly.
                tracing::warn!(%error, "accepting a connection of another node failed");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let answering = Box::pin(answer(stream, address, Arc::clone(&node), routes.clone()));
        tokio::spawn(async move {
            answering.await;
            drop(place);
        });
    }
}

/// Answers the requests of one connection. Whoever does not prove to be a node in time is cut off.
async fn answer(stream: TcpStream, address: SocketAddr, node: Arc<Node>, routes: Routes) {
    // Without it, a small chunk may wait 40 ms for the acknowledgment of the one before.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let is_node = Arc::new(AtomicBool::new(false));
    let is_stranger = has_no_request_after(PEER_INTRODUCTION_TIMEOUT, Arc::clone(&is_node));
    let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
        let admitted = node.peers().admit(request);
        is_node.fetch_or(admitted.is_ok(), Ordering::Relaxed);
        let (routes, node) = (routes.clone(), Arc::clone(&node));
        async move {
            match admitted {
                Ok(Admitted::Request(request)) => {
                    let mut request = request.map(Body::new);
                    // It takes no place: its client has one at the other node, and its session one here.
                    request.extensions_mut().insert(Admission::default());
                    routes.call(request).await
                }
                Ok(Admitted::Question(uri)) => Ok(match admin::answer(&node, &uri).await {
                    Some(Answer::Whole(answer)) => Response::new(Body::from(answer)),
                    Some(Answer::Lines(lines)) => {
                        Response::new(Body::from_stream(lines.map(Ok::<_, Infallible>)))
                    }
                    None => {
                        let mut response = Response::new(Body::empty());
                        *response.status_mut() = http::StatusCode::NOT_FOUND;
                        response
                    }
                }),
                Ok(Admitted::Introduction(response)) => Ok(without_body(response)),
                Err(refused) => Ok::<_, Infallible>(without_body(refused.refusal())),
            }
        }
    });
    let mut server = auto::Builder::new(TokioExecutor::new());
    server
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(PEER_INTRODUCTION_TIMEOUT)
        .max_buf_size(HTTP_HEADER_BYTES_MAX)
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(PEER_PING_INTERVAL))
        .keep_alive_timeout(PEER_PING_TIMEOUT)
        .initial_stream_window_size(PEER_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(PEER_CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(PEER_STREAM_WINDOW_BYTES as usize)
        .max_concurrent_streams(u32::try_from(PEER_REQUESTS_MAX).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(PEER_RESETS_MAX)
        .max_header_list_size(u32::try_from(PEER_HEADER_BYTES_MAX).unwrap_or(u32::MAX));
    let connection = server.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let served = tokio::select! {
        biased;
        served = connection.as_mut() => served,
        () = is_stranger => return tracing::debug!(%address, "nobody proved to be a node in time"),
    };
    if let Err(error) = served {
        tracing::debug!(%error, %address, "a connection of another node ended early");
    }
}

fn without_body(response: Response<()>) -> Response<Body> {
    response.map(|()| Body::empty())
}
