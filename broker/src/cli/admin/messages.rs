//! `bongsu messages`.

use std::collections::BTreeMap;
use std::io::Read as _;

use anyhow::Context as _;
use bongsu_admin_api::resources::messages::{Message, MessageList, Published};
use bongsu_admin_api::resources::topics::Removed;
use bytes::{Bytes, BytesMut};
use clap::{Args, Subcommand};
use http::Method;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::rest::{ApiArgs, say, with_parameters};
use super::table::{Table, bytes};
use super::topics::{path, removed};

/// Characters of a payload in a table.
const SHOWN_MAX: usize = 80;

/// What to do with messages.
#[derive(Debug, Subcommand)]
pub enum MessagesCommand {
    /// Show messages of a topic, newest first unless --from or --since says otherwise
    List(ListArgs),
    /// Show one message
    Show(MessageArgs),
    /// Show messages that have a text, in payload, headers, id, publisher or content type
    Search(SearchArgs),
    /// Publish a message
    Publish(PublishArgs),
    /// Publish a message once more, on its topic or another one
    Republish(RepublishArgs),
    /// Take a message's content away
    Erase(MessageArgs),
    /// Show messages as they are published, until interrupted
    Tail(TailArgs),
}

/// Which messages.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// The topic
    topic: String,
    #[command(flatten)]
    start: StartArgs,
    #[command(flatten)]
    api: ApiArgs,
}

/// Where to begin.
#[derive(Debug, Args)]
struct StartArgs {
    /// `earliest`, `latest` or an offset
    #[arg(long, group = "start")]
    from: Option<String>,
    /// A time, such as 2026-11-22T15:04:05Z
    #[arg(long, group = "start")]
    since: Option<String>,
    /// The messages before this offset, newest first
    #[arg(long, group = "start")]
    before: Option<u64>,
    /// How many at most
    #[arg(long, default_value_t = 20)]
    limit: usize,
}

/// Which message.
#[derive(Debug, Args)]
pub struct MessageArgs {
    /// The topic
    topic: String,
    /// The message's offset
    offset: u64,
    #[command(flatten)]
    api: ApiArgs,
}

/// What to look for.
#[derive(Debug, Args)]
pub struct SearchArgs {
    /// The topic
    topic: String,
    /// The text
    text: String,
    #[command(flatten)]
    start: StartArgs,
    #[command(flatten)]
    api: ApiArgs,
}

/// What to publish.
#[derive(Debug, Args)]
pub struct PublishArgs {
    /// The topic
    topic: String,
    /// The payload; without it, what standard input has. JSON if it is some, else text, unless --text
    payload: Option<String>,
    /// The payload is text, also where it looks like JSON
    #[arg(long)]
    text: bool,
    /// Its media type
    #[arg(long = "type")]
    content_type: Option<String>,
    /// A header
    #[arg(long = "header", value_name = "NAME=VALUE")]
    headers: Vec<String>,
    /// Its id, which makes a retry safe
    #[arg(long)]
    id: Option<String>,
    #[command(flatten)]
    api: ApiArgs,
}

/// What to publish once more.
#[derive(Debug, Args)]
pub struct RepublishArgs {
    /// The topic
    topic: String,
    /// The message's offset
    offset: u64,
    /// Another topic
    #[arg(long)]
    to: Option<String>,
    /// The new message's id, which makes a retry safe
    #[arg(long)]
    id: Option<String>,
    #[command(flatten)]
    api: ApiArgs,
}

/// What to follow.
#[derive(Debug, Args)]
pub struct TailArgs {
    /// The topic
    topic: String,
    /// The offset to begin with; without it, what comes from now on
    #[arg(long)]
    from: Option<u64>,
    #[command(flatten)]
    api: ApiArgs,
}

pub(super) async fn run(command: MessagesCommand) -> anyhow::Result<()> {
    match command {
        MessagesCommand::List(ListArgs { topic, start, api }) => list(&topic, None, start, &api).await,
        MessagesCommand::Search(SearchArgs { topic, text, start, api }) => {
            list(&topic, Some(text), start, &api).await
        }
        MessagesCommand::Show(MessageArgs { topic, offset, api }) => {
            let answer = api.get::<Message>(&path(&topic, &format!("/messages/{offset}"))).await?;
            api.print(&answer, one)
        }
        MessagesCommand::Publish(args) => publish(args).await,
        MessagesCommand::Republish(RepublishArgs { topic, offset, to, id, api }) => {
            let path = path(&topic, &format!("/messages/{offset}/republish"));
            let answer =
                api.ask::<Published>(Method::POST, &path, Some(json!({ "to": to, "id": id }))).await?;
            api.print(&answer, published)
        }
        MessagesCommand::Erase(MessageArgs { topic, offset, api }) => {
            let path = path(&topic, &format!("/messages/{offset}"));
            api.print(&api.ask::<Removed>(Method::DELETE, &path, None).await?, removed)
        }
        MessagesCommand::Tail(args) => tail(args).await,
    }
}

/// Page by page, since a page may be short although there are more.
async fn list(topic: &str, search: Option<String>, start: StartArgs, api: &ApiArgs) -> anyhow::Result<()> {
    let StartArgs { mut from, mut since, before, limit } = start;
    let mut before = before.map(|before| before.to_string());
    let mut all: Option<MessageList> = None;
    loop {
        let n_found = all.as_ref().map_or(0, |all| all.messages.len());
        let after = all.as_mut().and_then(|all| all.next.take());
        let parameters = [
            ("from", from.take()),
            ("since", since.take()),
            ("before", before.take()),
            ("after", after),
            ("search", search.clone()),
            ("limit", Some((limit - n_found).clamp(1, 1000).to_string())),
        ];
        let page = api.get::<MessageList>(&with_parameters(&path(topic, "/messages"), &parameters)).await?;
        let list = match &mut all {
            None => all.insert(page),
            Some(all) => {
                all.messages.extend(page.messages);
                all.next = page.next;
                all.looked_at += page.looked_at;
                all
            }
        };
        if list.next.is_none() || list.messages.len() >= limit {
            return api.print(list, |list| {
                let mut table = Table::new(&["OFFSET", "TIME", "PUBLISHER", "TYPE", "SIZE", "PAYLOAD"]);
                for message in &list.messages {
                    table.row(row(message));
                }
                table
            });
        }
    }
}

fn row(message: &Message) -> [String; 6] {
    let payload = payload(message);
    let is_long = payload.chars().count() > SHOWN_MAX;
    let shown: String = payload.chars().take(SHOWN_MAX).chain(is_long.then_some('…')).collect();
    [
        message.position.offset.to_string(),
        message.time.to_string(),
        message.publisher.clone(),
        message.r#type.clone().unwrap_or_default(),
        bytes(message.size),
        shown,
    ]
}

fn payload(message: &Message) -> String {
    if message.erased {
        return "(erased)".to_owned();
    }
    let data = message.data.as_ref().map(|data| data.get().to_owned());
    data.or_else(|| message.text.clone()).or_else(|| message.bytes.clone()).unwrap_or_default()
}

fn one(message: &Message) -> Table {
    let mut table = Table::new(&["FIELD", "VALUE"]);
    let position = format!("{}:{}", message.position.epoch, message.position.offset);
    let optional = |text: &Option<String>| text.clone().unwrap_or_default();
    for (name, value) in [
        ("topic", message.topic.clone()),
        ("position", position),
        ("time", message.time.to_string()),
        ("publisher", message.publisher.clone()),
        ("id", optional(&message.id)),
        ("type", optional(&message.r#type)),
        ("size", bytes(message.size)),
    ] {
        table.row([name.to_owned(), value]);
    }
    for (name, value) in &message.headers {
        table.row([format!("header {name}"), value.clone()]);
    }
    table.row(["payload".to_owned(), payload(message)]);
    table
}

fn published(published: &Published) -> Table {
    let mut table = Table::new(&["EPOCH", "OFFSET", "DUPLICATE"]);
    let (epoch, offset) = published.position.map_or_else(
        || ("–".to_owned(), "–".to_owned()),
        |position| (position.epoch.to_string(), position.offset.to_string()),
    );
    table.row([epoch, offset, published.duplicate.to_string()]);
    table
}

async fn publish(args: PublishArgs) -> anyhow::Result<()> {
    let PublishArgs { topic, payload, text, content_type, headers, id, api } = args;
    let payload = match payload {
        Some(payload) => payload.into_bytes(),
        None => {
            let mut payload = Vec::new();
            std::io::stdin().read_to_end(&mut payload).context("standard input")?;
            payload
        }
    };
    let mut body = BTreeMap::new();
    let raw = |value: Value| RawValue::from_string(value.to_string());
    let as_text = std::str::from_utf8(&payload).ok();
    let as_json = as_text.filter(|_| !text).and_then(|text| serde_json::from_str::<Box<RawValue>>(text).ok());
    match (as_json, as_text) {
        (Some(data), _) => body.insert("data", data),
        (None, Some(text)) => body.insert("text", raw(text.into())?),
        (None, None) => {
            use base64::Engine as _;
            let bytes = base64::engine::general_purpose::STANDARD.encode(&payload);
            body.insert("bytes", raw(bytes.into())?)
        }
    };
    for (name, value) in [("type", content_type), ("id", id)] {
        if let Some(value) = value {
            body.insert(name, raw(value.into())?);
        }
    }
    let mut given = serde_json::Map::new();
    for header in &headers {
        let (name, value) =
            header.split_once('=').with_context(|| format!("{header:?}: a header is NAME=VALUE"))?;
        given.insert(name.to_owned(), value.into());
    }
    if !given.is_empty() {
        body.insert("headers", raw(given.into())?);
    }
    // As text, so that JSON is published as it was written.
    let body: Bytes = serde_json::to_vec(&body)?.into();
    let answer = api.send_text(Method::POST, &path(&topic, "/messages"), body).await?;
    api.print(&serde_json::from_slice::<Published>(answer.body())?, published)
}

async fn tail(TailArgs { topic, from, api }: TailArgs) -> anyhow::Result<()> {
    let path = with_parameters(&path(&topic, "/tail"), &[("from", from.map(|from| from.to_string()))]);
    let request = api.request(Method::GET, &path)?.body(http_body_util::Empty::<Bytes>::new())?;
    let mut answer = api.stream(request).await?;
    let mut buffer = BytesMut::new();
    while let Some(chunk) = answer.chunk().await.context("the connection was lost")? {
        buffer.extend_from_slice(&chunk);
        while let Some(length) = buffer.iter().position(|byte| *byte == b'\n') {
            let line = buffer.split_to(length + 1);
            if let Some(data) = line.strip_prefix(b"data:") {
                show(data.trim_ascii(), api.is_json())?;
            }
        }
    }
    Ok(())
}

/// Prints what came: the payload of a message, or the whole line.
fn show(line: &[u8], is_whole: bool) -> anyhow::Result<()> {
    #[derive(Deserialize)]
    struct Event {
        delivery: Delivered,
    }
    #[derive(Deserialize)]
    struct Delivered {
        offset: Option<u64>,
        data: Option<Box<RawValue>>,
        text: Option<String>,
        bytes: Option<String>,
    }
    let text = String::from_utf8_lossy(line);
    match serde_json::from_slice::<Event>(line) {
        Ok(Event { delivery }) if !is_whole => {
            let data = delivery.data.map(|data| data.get().to_owned());
            let payload = data.or(delivery.text).or(delivery.bytes).unwrap_or_default();
            let offset = delivery.offset.map_or_else(|| "–".to_owned(), |offset| offset.to_string());
            let mut table = Table::new(&[]);
            table.row([offset, payload]);
            say(table.to_string().trim_start())
        }
        _ => say(&format!("{text}\n")),
    }
}
