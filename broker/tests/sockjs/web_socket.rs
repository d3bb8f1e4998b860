//! The transport that is a socket: with SockJS' frames, and raw.

use std::time::Duration;

use bongsu::config::AllowedOrigin;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::server::{PATIENCE, Server};

struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    async fn connect(server: &Server, path: &str) -> Self {
        Self(connect_async(format!("ws://{}{path}", server.address)).await.unwrap().0)
    }

    async fn send(&mut self, text: &str) {
        self.0.send(Message::text(text)).await.unwrap();
    }

    /// The next text, or how it was closed.
    async fn next(&mut self) -> Result<String, (u16, String)> {
        loop {
            match tokio::time::timeout(PATIENCE, self.0.next()).await.unwrap().unwrap().unwrap() {
                Message::Text(text) => return Ok(text.to_string()),
                Message::Close(Some(close)) => return Err((close.code.into(), close.reason.to_string())),
                Message::Ping(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

fn text(text: &str) -> Result<String, (u16, String)> {
    Ok(text.to_owned())
}

// SJ-20
#[tokio::test]
async fn a_socket_carries_frames_and_takes_lists_or_single_texts() {
    let server = Server::start();
    let mut socket = Socket::connect(&server, "/echo/000/s/websocket").await;
    assert_eq!(socket.next().await, text("o"));
    for nothing in ["", "[]"] {
        socket.send(nothing).await;
    }
    socket.send("[\"a\",\"b\"]").await;
    socket.send("\"c\\ud83d\\ude00\"").await;
    assert_eq!(socket.next().await, text("a[\"a\"]"));
    assert_eq!(socket.next().await, text("a[\"b\"]"));
    assert_eq!(socket.next().await, text("a[\"c\\ud83d\\ude00\"]"));
    // The name is only a name: another socket has its own session.
    let mut other = Socket::connect(&server, "/echo/000/s/websocket").await;
    assert_eq!(other.next().await, text("o"));
    other.send("[\"other\"]").await;
    assert_eq!(other.next().await, text("a[\"other\"]"));
    socket.send("[\"a").await;
    assert_eq!(socket.next().await, Err((3000, "Broken framing.".to_owned())));
}

// SJ-14, SJ-20
#[tokio::test]
async fn a_close_is_a_frame_before_it_is_one_of_the_socket() {
    let server = Server::start();
    let mut socket = Socket::connect(&server, "/close/000/s/websocket").await;
    assert_eq!(socket.next().await, text("o"));
    assert_eq!(socket.next().await, text("c[3000,\"Go away!\"]"));
    assert_eq!(socket.next().await, Err((3000, "Go away!".to_owned())));
}

// SJ-5
#[tokio::test]
async fn a_raw_socket_has_no_framing() {
    let server = Server::start();
    let mut socket = Socket::connect(&server, "/echo/websocket").await;
    socket.send("Hello world!\u{ffff}").await;
    assert_eq!(socket.next().await, text("Hello world!\u{ffff}"));
    let mut closed = Socket::connect(&server, "/close/websocket").await;
    assert_eq!(closed.next().await, Err((3000, "Go away!".to_owned())));
}

// SJ-11
#[tokio::test]
async fn a_silent_socket_gets_heartbeats() {
    let server = Server::start_with(|settings| {
        settings.http.allowed_origins = vec![AllowedOrigin::Any];
        settings.sockjs.heartbeat = Duration::from_millis(50);
    });
    let mut socket = Socket::connect(&server, "/sockjs/000/s/websocket").await;
    assert_eq!(socket.next().await, text("o"));
    assert!(socket.next().await.unwrap().contains("welcome"));
    assert_eq!(socket.next().await, text("h"));
}

// SJ-20
#[tokio::test]
async fn what_is_no_handshake_is_refused_and_a_service_may_have_no_sockets() {
    let server = Server::start();
    for lines in ["", "upgrade: WebSocket\r\nconnection: close\r\n"] {
        let answer = server.ask("GET", "/echo/0/0/websocket", lines, "").await;
        assert_eq!((answer.status, &*answer.body), (400, "Not a valid websocket request"));
    }
    let handshake = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                     sec-websocket-key: x3JJHMbDL1EzLkh9GBhXDw==\r\n";
    let mut accepted = server.client().await;
    accepted.send(&accepted.request("1.1", "GET", "/echo/0/0/websocket", handshake, "")).await;
    let head = accepted.head().await;
    assert_eq!((head.status, head.header("content-length")), (101, ""));
    assert_eq!(head.header("sec-websocket-accept"), "HSmrc0sMlYUkAGmm5OPpG2HaGWk=");
    for path in ["/disabled_websocket_echo/0/0/websocket", "/disabled_websocket_echo/websocket"] {
        assert_eq!(server.ask("GET", path, handshake, "").await.status, 404, "{path}");
    }
}
