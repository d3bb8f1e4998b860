//! A WebSocket to a node.

use std::net::SocketAddr;

use anyhow::{Context as _, bail};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

/// An open one.
pub(super) struct Socket(WebSocketStream<TcpStream>);

impl Socket {
    /// Opens one at a path, with a sub-protocol if there is one to ask for.
    pub(super) async fn open(
        address: SocketAddr,
        path: &str,
        protocol: Option<&str>,
    ) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut request = format!("ws://{address}{path}").into_client_request()?;
        if let Some(protocol) = protocol {
            request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_str(protocol)?);
        }
        // The default of 128 KiB for each of ten thousand connections would not fit.
        let config = WebSocketConfig::default().read_buffer_size(4096);
        let (socket, _) = tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await?;
        Ok(Self(socket))
    }

    pub(super) async fn send(&mut self, message: Message) -> anyhow::Result<()> {
        Ok(self.0.send(message).await?)
    }

    /// The next message of text or bytes. `None`: a ping or a pong, which the library answers with the next message that is sent or read.
    pub(super) async fn receive(&mut self) -> anyhow::Result<Option<Message>> {
        match self.0.next().await.context("the connection ended")?? {
            message @ (Message::Text(_) | Message::Binary(_)) => Ok(Some(message)),
            Message::Ping(_) | Message::Pong(_) => Ok(None),
            Message::Close(frame) => bail!("closed: {frame:?}"),
            Message::Frame(_) => bail!("a frame outside of a message"),
        }
    }
}
