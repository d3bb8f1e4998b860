//! Gets the socket back from hyper, so that a connection reads and writes it without hyper in between.
//!
//! ```no_run
//! # async fn serve(stream: tokio::net::TcpStream, settings: &'static bongsu::websocket::handshake::Settings) {
//! use bongsu::websocket::{handshake, upgrade};
//! use hyper::service::service_fn;
//! use hyper_util::rt::TokioIo;
//!
//! let service = service_fn(move |mut request: http::Request<hyper::body::Incoming>| async move {
//!     let response: http::Response<String> = match handshake::check(&request, settings) {
//!         Ok(accepted) => {
//!             let on_upgrade = hyper::upgrade::on(&mut request);
//!             let response = accepted.response();
//!             tokio::spawn(async move {
//!                 let Ok(upgraded) = on_upgrade.await else { return };
//!                 let socket = upgrade::into_socket::<tokio::net::TcpStream>(upgraded).expect("this port serves TCP");
//!                 // Decode `socket.read_ahead` first, then what `socket.io` gives.
//! #               drop((accepted, socket));
//!             });
//!             response
//!         }
//!         Err(rejected) => rejected.response(),
//!     };
//!     Ok::<_, std::convert::Infallible>(response)
//! });
//! let http = hyper::server::conn::http1::Builder::new();
//! let _ = http.serve_connection(TokioIo::new(stream), service).with_upgrades().await;
//! # }
//! ```

use bytes::Bytes;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};

/// A socket that hyper gave back.
#[derive(Debug)]
pub struct Socket<T> {
    /// What was given to hyper.
    pub io: T,
    /// What hyper read past the request: frames of a client that did not wait for the answer. Usually empty. Decode it
    /// before anything from `io`, then drop it, for it may keep hyper's read buffer alive.
    pub read_ahead: Bytes,
}

/// Takes the socket out of an upgraded connection that was served as [`TokioIo<T>`], be it by hyper's HTTP/1 server or by
/// `hyper-util`'s server for both versions.
///
/// # Errors
///
/// The upgraded connection as it was, if the socket is not a `T`, or if there is none because the connection is a stream
/// within HTTP/2: then read and write it through `TokioIo::new(upgraded)`.
pub fn into_socket<T>(upgraded: Upgraded) -> Result<Socket<T>, Upgraded>
where
    T: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let upgraded = match auto::upgrade::downcast::<TokioIo<T>>(upgraded) {
        Ok(parts) => return Ok(Socket { io: parts.io.into_inner(), read_ahead: parts.read_buf }),
        Err(upgraded) => upgraded,
    };
    let parts = upgraded.downcast::<TokioIo<T>>()?;
    Ok(Socket { io: parts.io.into_inner(), read_ahead: parts.read_buf })
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http::{Request, Response, StatusCode};
    use hyper::service::service_fn;
    use hyper_util::rt::TokioExecutor;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
    use tokio::sync::mpsc;

    use super::*;

    const REQUEST: &[u8] =
        b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nahead";

    /// Which of hyper's servers answers.
    enum Server {
        Http1,
        Auto,
    }

    async fn check(server: Server) {
        let (mut client, io) = tokio::io::duplex(1 << 10);
        let (upgrades_sender, mut upgrades) = mpsc::channel(1);
        let service = service_fn(move |request: Request<hyper::body::Incoming>| {
            upgrades_sender.try_send(hyper::upgrade::on(request)).unwrap();
            let mut response = Response::new(String::new());
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            async { Ok::<_, Infallible>(response) }
        });
        client.write_all(REQUEST).await.unwrap();
        let io = TokioIo::new(io);
        match server {
            Server::Http1 => {
                let http = hyper::server::conn::http1::Builder::new();
                http.serve_connection(io, service).with_upgrades().await.unwrap();
            }
            Server::Auto => {
                let http = auto::Builder::new(TokioExecutor::new());
                http.serve_connection_with_upgrades(io, service).await.unwrap();
            }
        }
        let upgraded = upgrades.recv().await.unwrap().await.unwrap();
        let upgraded = into_socket::<tokio::net::TcpStream>(upgraded).expect_err("it is no TCP socket");
        let mut socket = into_socket::<DuplexStream>(upgraded).unwrap();
        assert_eq!(socket.read_ahead, "ahead");
        socket.io.write_all(b"raw").await.unwrap();
        drop(socket);
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 101 ") && answer.ends_with("\r\n\r\nraw"), "{answer}");
    }

    #[tokio::test]
    async fn the_socket_comes_back_from_http1_with_what_was_read_ahead() {
        check(Server::Http1).await;
    }

    #[tokio::test]
    async fn the_socket_comes_back_from_the_server_for_both_versions() {
        check(Server::Auto).await;
    }
}
