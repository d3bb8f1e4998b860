//! What carries the native protocol.

use std::net::SocketAddr;

use anyhow::bail;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::socket::Socket;
use super::sockjs::{self, Session};
use super::{Event, binary, parse};
use crate::transport::Transport;

/// A way for frames to and fro.
pub(super) enum Pipe {
    /// A frame is a text.
    Json(Socket),
    /// A frame is protobuf.
    Binary(Socket),
    /// A frame is a message of SockJS, several of which come as one text.
    SockJs(Socket),
    /// The same over requests.
    Requests(Box<Session>),
}

impl Pipe {
    /// Connects; nothing was said yet.
    pub(super) async fn open(transport: Transport, address: SocketAddr) -> anyhow::Result<Self> {
        Ok(match transport {
            Transport::Json => Self::Json(Socket::open(address, "/v1/ws", Some("bongsu.v1.json")).await?),
            Transport::Binary => {
                Self::Binary(Socket::open(address, "/v1/ws", Some("bongsu.v1.proto")).await?)
            }
            Transport::SockJsWebSocket => {
                let path = format!("{}/websocket", sockjs::session_path(sockjs::NATIVE));
                Self::SockJs(Socket::open(address, &path, None).await?)
            }
            Transport::SockJsStreaming | Transport::SockJsPolling => {
                Self::Requests(Box::new(Session::open(transport, address).await?))
            }
            other => bail!("{other} does not carry the native protocol"),
        })
    }

    /// Sends a frame of one request.
    pub(super) async fn send(&mut self, id: u64, command: &str, body: &Value) -> anyhow::Result<()> {
        let text = || json!({ "id": id, command: body }).to_string();
        match self {
            Self::Json(socket) => socket.send(Message::text(text())).await,
            Self::Binary(socket) => socket.send(Message::binary(binary::request(id, command, body)?)).await,
            Self::SockJs(socket) => socket.send(Message::text(sockjs::messages(&text()))).await,
            Self::Requests(session) => session.send(&text()).await,
        }
    }

    /// The events of the next frame; none where it was a sign of life below the protocol.
    pub(super) async fn receive(&mut self) -> anyhow::Result<Vec<Event>> {
        let frame = match self {
            Self::Json(socket) | Self::Binary(socket) | Self::SockJs(socket) => match socket.receive().await?
            {
                None => return Ok(Vec::new()),
                Some(message) => message,
            },
            Self::Requests(session) => return sockjs::events(&session.receive().await?),
        };
        match (self, frame) {
            (Self::Json(_), Message::Text(text)) => parse(&text),
            (Self::Binary(_), Message::Binary(bytes)) => binary::events(&bytes),
            (Self::SockJs(_), Message::Text(text)) => sockjs::events(&text),
            (_, other) => bail!("a message of the wrong kind: {other:?}"),
        }
    }
}
