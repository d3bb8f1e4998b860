//! The checker's own client of `docs/protocol.md`, sub-protocol `bongsu.v1.json`: frames in, frames out, and nothing remembered.
//!
//! It shares no code with the broker or its client libraries, so that both being wrong in the same way is noticed.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use futures_util::{SinkExt as _, StreamExt as _};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

/// How long a connection may take until its `welcome`. A frozen node never sends one.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a node may take to answer a request before the client tries another node.
pub(crate) const REPLY_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection to some node.
pub(crate) struct Connection {
    socket: WebSocketStream<TcpStream>,
    next_id: u64,
    /// A connection on which nothing came for this long is dead: twice the `heartbeatMs` of its `welcome`.
    silence_max: Duration,
    /// The node that answered.
    pub(crate) node: String,
}

/// A message's place in its topic's log. Positions compare by epoch, then by offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Position {
    pub(crate) epoch: u64,
    pub(crate) offset: u64,
}

/// One event of the broker. It has exactly one of these.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Event {
    pub(crate) welcome: Option<Welcome>,
    pub(crate) reply: Option<Reply>,
    pub(crate) delivery: Option<Delivery>,
    pub(crate) lost: Option<Lost>,
    pub(crate) reset: Option<Reset>,
    pub(crate) unsubscribed: Option<Value>,
    pub(crate) goodbye: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Welcome {
    node: String,
    heartbeat_ms: u64,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Reply {
    pub(crate) id: u64,
    pub(crate) published: Option<Results<Published>>,
    pub(crate) subscribed: Option<Results<SubscribedResult>>,
    pub(crate) history: Option<History>,
    pub(crate) error: Option<Refusal>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Results<T> {
    pub(crate) results: Vec<T>,
}

/// What became of one message: one of the two is there.
#[derive(Debug, Deserialize)]
pub(crate) struct Published {
    pub(crate) published: Option<Receipt>,
    pub(crate) error: Option<Refusal>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Receipt {
    pub(crate) position: Position,
}

/// What became of one subscription: one of the two is there.
#[derive(Debug, Deserialize)]
pub(crate) struct SubscribedResult {
    pub(crate) subscribed: Option<Subscribed>,
    pub(crate) error: Option<Refusal>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Subscribed {
    pub(crate) filter: String,
    pub(crate) since: u64,
    #[serde(default)]
    pub(crate) positions: Vec<TopicPosition>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct TopicPosition {
    pub(crate) topic: String,
    pub(crate) position: Position,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Refusal {
    pub(crate) code: String,
    #[serde(default)]
    pub(crate) text: String,
    pub(crate) retry_after_ms: Option<u64>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct History {
    #[serde(default)]
    pub(crate) messages: Vec<Delivery>,
    #[serde(default)]
    pub(crate) more: bool,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Delivery {
    pub(crate) topic: String,
    pub(crate) epoch: u64,
    pub(crate) offset: u64,
    /// The message id that the publisher gave.
    #[serde(default)]
    pub(crate) id: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Lost {
    pub(crate) topic: String,
    #[serde(default)]
    pub(crate) epoch: u64,
    #[serde(default)]
    pub(crate) from: u64,
    #[serde(default)]
    pub(crate) until: u64,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Reset {
    pub(crate) topic: String,
    pub(crate) epoch: u64,
}

impl Delivery {
    pub(crate) const fn position(&self) -> Position {
        Position { epoch: self.epoch, offset: self.offset }
    }
}

impl Connection {
    /// Connects and waits for the `welcome`.
    ///
    /// # Errors
    /// Nobody is there, or did not answer in time: try another node.
    pub(crate) async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        timeout(WELCOME_TIMEOUT, Self::greeted(address)).await.context("no welcome in time")?
    }

    /// The same, with all the time that ten thousand others leave.
    pub(crate) async fn open_in_crowd(address: SocketAddr) -> anyhow::Result<Self> {
        timeout(Duration::from_secs(120), Self::greeted(address)).await.context("no welcome in time")?
    }

    async fn greeted(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut request = format!("ws://{address}/v1/ws").into_client_request()?;
        request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static("bongsu.v1.json"));
        // The default of 128 KiB for each of ten thousand connections would not fit.
        let config = WebSocketConfig::default().read_buffer_size(4096);
        let (socket, _) = tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await?;
        let silence_max = WELCOME_TIMEOUT;
        let mut connection = Self { socket, next_id: 1, silence_max, node: String::new() };
        let first = connection.events().await?.into_iter().next().and_then(|event| event.welcome);
        let welcome = first.context("the first event is no welcome")?;
        connection.silence_max = Duration::from_millis(welcome.heartbeat_ms * 2);
        connection.node = welcome.node;
        Ok(connection)
    }

    /// Sends one request and returns its id.
    ///
    /// # Errors
    /// The connection is lost.
    pub(crate) async fn request(&mut self, command: &str, body: Value) -> anyhow::Result<u64> {
        let id = self.next_id;
        self.next_id += 1;
        let frame = json!({ "id": id, command: body }).to_string();
        let sent = timeout(self.silence_max, self.socket.send(Message::text(frame))).await;
        sent.context("the node takes nothing")??;
        Ok(id)
    }

    /// The events of the next frame.
    ///
    /// # Errors
    /// The connection is over, or was silent for longer than the broker promised to be.
    pub(crate) async fn events(&mut self) -> anyhow::Result<Vec<Event>> {
        loop {
            let message = timeout(self.silence_max, self.socket.next()).await.context("no heartbeat")?;
            match message.context("the connection ended")?? {
                Message::Text(text) => return parse(&text),
                Message::Close(frame) => bail!("closed: {frame:?}"),
                Message::Ping(_) | Message::Pong(_) => {}
                other => bail!("neither text nor control: {other:?}"),
            }
        }
    }

    /// Waits for the reply to a request, on a connection that reads nothing else.
    ///
    /// # Errors
    /// The connection is over, or the reply did not come in time: the request may have been done or not.
    pub(crate) async fn reply(&mut self, id: u64) -> anyhow::Result<Reply> {
        let replied = async {
            loop {
                for reply in self.events().await?.into_iter().filter_map(|event| event.reply) {
                    if reply.id == id {
                        return anyhow::Ok(reply);
                    }
                }
            }
        };
        timeout(REPLY_TIMEOUT, replied).await.context("no reply in time")?
    }

    /// One whole log, oldest message first.
    ///
    /// # Errors
    /// The connection is over, or the broker refused: try again.
    pub(crate) async fn log_of(&mut self, topic: &str) -> anyhow::Result<Vec<(Position, String)>> {
        let mut log: Vec<(Position, String)> = Vec::new();
        loop {
            let from = log.last().map_or_else(|| json!("earliest"), |(last, _)| json!({ "after": last }));
            let body = json!({ "topic": topic, "from": from, "limit": 1024 });
            let id = self.request("history", body).await?;
            let reply = self.reply(id).await?;
            if let Some(refusal) = reply.error {
                bail!("{}: {}", refusal.code, refusal.text);
            }
            let page = reply.history.context("the reply to history is none")?;
            ensure!(!page.more || !page.messages.is_empty(), "an empty page with more behind it");
            log.extend(page.messages.into_iter().map(|message| (message.position(), message.id)));
            if !page.more {
                return Ok(log);
            }
        }
    }
}

/// A frame is one event or an array of them.
fn parse(text: &str) -> anyhow::Result<Vec<Event>> {
    let parsed = if text.starts_with('[') {
        serde_json::from_str(text)
    } else {
        serde_json::from_str(text).map(|event| vec![event])
    };
    parsed.with_context(|| format!("not a frame of events: {text}"))
}
