//! Where a publisher hands in its messages: one for each way into the broker.

use std::collections::HashSet;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::{Fate, Message, Publisher};
use crate::transport::Transport;
use crate::wire::http::Http;
use crate::wire::stomp::Stomp;
use crate::wire::{Connection, Published, REPLY_TIMEOUT, Refusal, Results};
use crate::world::Database;

/// An open way.
pub(super) enum Desk {
    /// Requests of the native protocol.
    Native(Box<Connection>),
    /// `POST /v1/publish`.
    Post(Http),
    /// SEND, each with a receipt.
    Stomp(Box<Stomp>),
    /// A function of the database.
    Sql(Arc<Database>),
}

/// What became of each message, in order.
type Answers = Vec<Result<Fate, Refusal>>;

impl Desk {
    /// Connects.
    ///
    /// # Errors
    /// Nobody is there: try again.
    pub(super) async fn open(publisher: &Publisher) -> anyhow::Result<Self> {
        let way = publisher.way;
        Ok(match publisher.transport {
            Transport::Post => Self::Post(timeout(REPLY_TIMEOUT, Http::open(way)).await??),
            Transport::Sql => {
                let database = publisher.database.clone();
                Self::Sql(database.context("there is no database to publish in")?)
            }
            transport @ (Transport::StompWebSocket | Transport::StompSockJs | Transport::StompTcp) => {
                Self::Stomp(Box::new(Stomp::open(transport, way).await?))
            }
            transport => Self::Native(Box::new(Connection::open_by(transport, way).await?)),
        })
    }

    /// Publishes these, and waits until each has an answer.
    ///
    /// # Errors
    /// Not all of them have: each may be in its log or not.
    pub(super) async fn publish(&mut self, messages: &[&mut Message]) -> anyhow::Result<Answers> {
        let published = async {
            match self {
                Self::Native(connection) => by_request(connection, messages).await,
                Self::Post(http) => by_post(http, messages).await,
                Self::Stomp(stomp) => by_stomp(stomp, messages).await,
                Self::Sql(database) => in_sql(Arc::clone(database), messages).await,
            }
        };
        timeout(REPLY_TIMEOUT, published).await.context("no answer in time")?
    }
}

fn body_of(messages: &[&mut Message]) -> Value {
    let message = |message: &&mut Message| json!({ "topic": message.topic, "data": message.number, "id": message.number.to_string() });
    json!({ "messages": messages.iter().map(message).collect::<Vec<_>>() })
}

fn answers_of(results: Results<Published>, n_messages: usize) -> anyhow::Result<Answers> {
    let results = results.results;
    ensure!(results.len() == n_messages, "{} results for {n_messages} messages", results.len());
    let answer = |result: Published| match (result.published, result.error) {
        (Some(receipt), None) => Ok(Ok(Fate::At(receipt.position))),
        (None, Some(refusal)) => Ok(Err(refusal)),
        _ => anyhow::bail!("a result is one of two"),
    };
    results.into_iter().map(answer).collect()
}

async fn by_request(connection: &mut Connection, messages: &[&mut Message]) -> anyhow::Result<Answers> {
    let id = connection.request("publish", body_of(messages)).await?;
    let reply = connection.reply(id).await?;
    if let Some(refusal) = reply.error {
        return Ok(messages.iter().map(|_| Err(refusal.clone())).collect());
    }
    answers_of(reply.published.context("the reply to publish is none")?, messages.len())
}

async fn by_post(http: &mut Http, messages: &[&mut Message]) -> anyhow::Result<Answers> {
    let headers = [("content-type", "application/json")];
    let response =
        http.request("POST", "/v1/publish", &headers, body_of(messages).to_string().as_bytes()).await?;
    let body = http.body().await?;
    if response.status == 200 {
        return answers_of(serde_json::from_slice(&body)?, messages.len());
    }
    // A problem with the same names (RFC 9457).
    let problem: Value = serde_json::from_slice(&body).with_context(|| response.status.to_string())?;
    let text = |name: &str| problem[name].as_str().unwrap_or_default().to_owned();
    let refusal = Refusal { code: text("code"), text: text("detail"), retry_after_ms: None };
    Ok(messages.iter().map(|_| Err(refusal.clone())).collect())
}

async fn by_stomp(stomp: &mut Stomp, messages: &[&mut Message]) -> anyhow::Result<Answers> {
    for message in messages {
        let (destination, number) = (format!("/topic/{}", message.topic), message.number.to_string());
        let headers = [
            ("destination", destination.as_str()),
            ("content-type", "application/json"),
            ("idempotency-key", &number),
            ("receipt", &number),
        ];
        stomp.send("SEND", &headers, number.as_bytes()).await?;
    }
    let mut open: HashSet<String> = messages.iter().map(|message| message.number.to_string()).collect();
    while !open.is_empty() {
        let frame = stomp.frame().await?;
        let receipt = frame.header("receipt-id").filter(|_| frame.command == "RECEIPT");
        let receipt = receipt.with_context(|| format!("no receipt: {frame:?}"))?;
        ensure!(open.remove(receipt), "a receipt {receipt:?} that nobody waits for");
    }
    Ok(messages.iter().map(|_| Ok(Fate::Taken)).collect())
}

/// All of them in one transaction, whose commit is the answer.
async fn in_sql(database: Arc<Database>, messages: &[&mut Message]) -> anyhow::Result<Answers> {
    let calls = messages.iter().map(|message| {
        let Message { number, topic, .. } = message;
        format!("bongsu.publish('{topic}', '{number}'::jsonb, id => '{number}')")
    });
    let statement = format!("select {}", calls.collect::<Vec<_>>().join(", "));
    let done = spawn_blocking(move || database.primary().try_sql(&statement)).await?;
    done.map_err(anyhow::Error::msg)?;
    Ok(messages.iter().map(|_| Ok(Fate::Taken)).collect())
}
