//! The checker's own clients: frames in, frames out, and nothing remembered.
//!
//! They share no code with the broker or its client libraries, so that both being wrong in the same way is noticed. [`Connection`] speaks
//! the native protocol of `docs/protocol.md` over each of its carriers, `stomp` and `http` what their names say.

mod binary;
mod event;
pub(crate) mod http;
mod pipe;
mod socket;
mod sockjs;
pub(crate) mod stomp;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::transport::Transport;
use pipe::Pipe;

pub(crate) use event::{Event, Lost, Position, Published, Refusal, Reply, Reset, Results, Subscribed, parse};

/// How long a connection may take until its `welcome`. A frozen node never sends one.
pub(crate) const WELCOME_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a node may take to answer a request before the client tries another node.
pub(crate) const REPLY_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection to some node.
pub(crate) struct Connection {
    pipe: Pipe,
    next_id: u64,
    /// A connection on which nothing came for this long is dead: twice the `heartbeatMs` of its `welcome`.
    silence_max: Duration,
    /// The node that answered.
    pub(crate) node: String,
}

impl Connection {
    /// Connects in JSON and waits for the `welcome`.
    ///
    /// # Errors
    /// Nobody is there, or did not answer in time: try another node.
    pub(crate) async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        Self::open_by(Transport::Json, address).await
    }

    /// Connects by one of the transports that carry the native protocol, and waits for the `welcome`.
    ///
    /// # Errors
    /// Nobody is there, or did not answer in time: try another node.
    pub(crate) async fn open_by(transport: Transport, address: SocketAddr) -> anyhow::Result<Self> {
        timeout(WELCOME_TIMEOUT, Self::greeted(transport, address)).await.context("no welcome in time")?
    }

    /// The same in JSON, with all the time that ten thousand others leave.
    pub(crate) async fn open_in_crowd(address: SocketAddr) -> anyhow::Result<Self> {
        let greeted = Self::greeted(Transport::Json, address);
        timeout(Duration::from_secs(120), greeted).await.context("no welcome in time")?
    }

    async fn greeted(transport: Transport, address: SocketAddr) -> anyhow::Result<Self> {
        let pipe = Pipe::open(transport, address).await?;
        let mut connection = Self { pipe, next_id: 1, silence_max: WELCOME_TIMEOUT, node: String::new() };
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
        let sent = timeout(self.silence_max, self.pipe.send(id, command, &body)).await;
        sent.context("the node takes nothing")??;
        Ok(id)
    }

    /// The events of the next frame.
    ///
    /// # Errors
    /// The connection is over, or was silent for longer than the broker promised to be.
    pub(crate) async fn events(&mut self) -> anyhow::Result<Vec<Event>> {
        loop {
            let events = timeout(self.silence_max, self.pipe.receive()).await.context("no heartbeat")??;
            if !events.is_empty() {
                return Ok(events);
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
