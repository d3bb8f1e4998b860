//! `bongsu topics`.

use std::fs::File;
use std::io::{Read, Write as _};
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use bongsu_admin_api::lines::{self, Progress};
use bongsu_admin_api::resources::topics::{Kind, Removed, Topic, TopicList};
use bytes::{Bytes, BytesMut};
use clap::{Args, Subcommand};
use futures_util::{StreamExt as _, stream};
use http::{Method, header};
use http_body_util::StreamBody;
use hyper::body::Frame;

use super::rest::{ApiArgs, escaped, with_parameters};
use super::table::{Table, bytes};

/// Bytes of an import that are read at once.
const CHUNK_BYTES: usize = 64 << 10;

/// What to do with topics.
#[derive(Debug, Subcommand)]
pub enum TopicsCommand {
    /// List topics that have a log, by name
    List(ListArgs),
    /// Show one topic
    Show(TopicArgs),
    /// Delete a topic's log; a later message begins a new one
    Delete(TopicArgs),
    /// Remove a topic's oldest messages
    Purge(PurgeArgs),
    /// Write a topic's messages to standard output, as lines of JSON
    Export(ExportArgs),
    /// Publish the messages of an export, or any lines of messages, on a topic
    Import(ImportArgs),
}

/// Which topics.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Topics whose names begin so
    #[arg(long)]
    prefix: Option<String>,
    /// Topics that match this filter, such as `chat/+/42` or `chat/#`
    #[arg(long)]
    filter: Option<String>,
    /// How many at most
    #[arg(long, default_value_t = 100)]
    limit: usize,
    #[command(flatten)]
    api: ApiArgs,
}

/// Which topic.
#[derive(Debug, Args)]
pub struct TopicArgs {
    /// The topic
    topic: String,
    #[command(flatten)]
    api: ApiArgs,
}

/// What to remove.
#[derive(Debug, Args)]
pub struct PurgeArgs {
    /// The topic
    topic: String,
    /// The offset of the last message to go; without it, all go
    #[arg(long)]
    until: Option<u64>,
    #[command(flatten)]
    api: ApiArgs,
}

/// What to export.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// The topic
    topic: String,
    /// The offset to begin with
    #[arg(long)]
    from: Option<u64>,
    /// The offset to end with
    #[arg(long)]
    until: Option<u64>,
    #[command(flatten)]
    api: ApiArgs,
}

/// What to import.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// The topic
    topic: String,
    /// The file to read; without it, standard input
    file: Option<PathBuf>,
    #[command(flatten)]
    api: ApiArgs,
}

pub(super) async fn run(command: TopicsCommand) -> anyhow::Result<()> {
    match command {
        TopicsCommand::List(args) => list(args).await,
        TopicsCommand::Show(TopicArgs { topic, api }) => {
            let answer = api.get::<Topic>(&path(&topic, "")).await?;
            api.print(&answer, |topic| table(std::slice::from_ref(topic)))
        }
        TopicsCommand::Delete(TopicArgs { topic, api }) => {
            let answer = api.ask::<Removed>(Method::DELETE, &path(&topic, ""), None).await?;
            api.print(&answer, removed)
        }
        TopicsCommand::Purge(PurgeArgs { topic, until, api }) => {
            let body =
                until.map_or_else(|| serde_json::json!({}), |until| serde_json::json!({ "until": until }));
            let answer = api.ask::<Removed>(Method::POST, &path(&topic, "/purge"), Some(body)).await?;
            api.print(&answer, removed)
        }
        TopicsCommand::Export(args) => export(args).await,
        TopicsCommand::Import(args) => import(args).await,
    }
}

/// The path of a topic, and what is below it.
pub(super) fn path(topic: &str, below: &str) -> String {
    format!("/v1/topics/{}{below}", escaped(topic))
}

pub(super) fn removed(removed: &Removed) -> Table {
    let mut table = Table::new(&["MESSAGES REMOVED"]);
    table.row([removed.messages.to_string()]);
    table
}

/// Page by page, since a page may be short although there are more.
async fn list(ListArgs { prefix, filter, limit, api }: ListArgs) -> anyhow::Result<()> {
    let mut all = TopicList { topics: Vec::new(), next: None, missing: Vec::new() };
    loop {
        let n_wanted = (limit - all.topics.len()).clamp(1, 1000);
        let parameters = [
            ("prefix", prefix.clone()),
            ("filter", filter.clone()),
            ("limit", Some(n_wanted.to_string())),
            ("after", all.next.take()),
        ];
        let page = api.get::<TopicList>(&with_parameters("/v1/topics", &parameters)).await?;
        all.topics.extend(page.topics);
        all.next = page.next;
        all.missing = page.missing;
        if all.next.is_none() || all.topics.len() >= limit {
            return api.print(&all, |list| table(&list.topics));
        }
    }
}

fn table(topics: &[Topic]) -> Table {
    let mut table = Table::new(&[
        "TOPIC",
        "KIND",
        "MESSAGES",
        "BYTES",
        "FIRST",
        "HEAD",
        "READERS",
        "PER SECOND",
        "PUBLISHED",
    ]);
    for topic in topics {
        table.row([
            topic.topic.clone(),
            if topic.kind == Kind::Durable { "durable" } else { "live" }.to_owned(),
            topic.messages.to_string(),
            bytes(topic.bytes),
            topic.first.offset.to_string(),
            topic.head.offset.to_string(),
            topic.subscribers.to_string(),
            topic.messages_per_second.map_or_else(|| "–".to_owned(), |rate| format!("{rate:.1}")),
            topic.published_at.map_or_else(|| "–".to_owned(), |time| time.to_string()),
        ]);
    }
    table
}

async fn export(ExportArgs { topic, from, until, api }: ExportArgs) -> anyhow::Result<()> {
    let parameters =
        [("from", from.map(|from| from.to_string())), ("until", until.map(|until| until.to_string()))];
    let path = with_parameters(&path(&topic, "/export"), &parameters);
    let request = api.request(Method::GET, &path)?.body(http_body_util::Empty::<Bytes>::new())?;
    let mut answer = api.stream(request).await?;
    let mut output = std::io::stdout().lock();
    let mut last_line = BytesMut::new();
    while let Some(chunk) = answer.chunk().await.context("the export was cut off; go on with --from")? {
        output.write_all(&chunk)?;
        // The last line begins behind the last but one line's end.
        let end = chunk.len().saturating_sub(1);
        match chunk[..end].iter().rposition(|byte| *byte == b'\n') {
            Some(place) => last_line = BytesMut::from(&chunk[place + 1..]),
            None if last_line.ends_with(b"\n") => last_line = BytesMut::from(&chunk[..]),
            None => last_line.extend_from_slice(&chunk),
        }
    }
    output.flush()?;
    if lines::is_end(&last_line) { Ok(()) } else { bail!("the export was cut off; go on with --from") }
}

async fn import(ImportArgs { topic, file, api }: ImportArgs) -> anyhow::Result<()> {
    let input: Box<dyn Read + Send> = match &file {
        None => Box::new(std::io::stdin()),
        Some(file) => Box::new(File::open(file).with_context(|| file.display().to_string())?),
    };
    let chunks = stream::try_unfold(input, |mut input| async move {
        // Whatever is on the other side of a pipe may take its time, and the answer is to be read meanwhile.
        let read = tokio::task::spawn_blocking(move || {
            let mut chunk = vec![0; CHUNK_BYTES];
            let n_read = input.read(&mut chunk)?;
            chunk.truncate(n_read);
            Ok::<_, std::io::Error>((Bytes::from(chunk), input))
        });
        let (chunk, input) = read.await.map_err(std::io::Error::other)??;
        Ok::<_, std::io::Error>((!chunk.is_empty()).then(|| (Frame::data(chunk), input)))
    });
    let request = api.request(Method::POST, &path(&topic, "/import"))?;
    let request = request.header(header::CONTENT_TYPE, "application/x-ndjson");
    let mut answer = api.stream(request.body(StreamBody::new(chunks.boxed()))?).await?;
    let mut progress = Progress::default();
    let mut buffer = BytesMut::new();
    while let Some(chunk) = answer.chunk().await.context("the import was cut off; begin it again")? {
        buffer.extend_from_slice(&chunk);
        while let Some(length) = buffer.iter().position(|byte| *byte == b'\n') {
            let line = buffer.split_to(length + 1);
            progress =
                serde_json::from_slice(&line).context("an answer that this version does not understand")?;
            if !progress.done && progress.failed.is_none() {
                tell(&progress);
            }
        }
    }
    api.print(&progress, |progress| {
        let mut table = Table::new(&["LINES", "STORED", "DUPLICATES", "ERASED"]);
        let counts = [progress.lines, progress.stored, progress.duplicates, progress.erased];
        table.row(counts.map(|count| count.to_string()));
        table
    })?;
    match progress.failed {
        Some(failed) => bail!("line {}: {}", failed.line, failed.detail),
        None if !progress.done => bail!("the import was cut off; begin it again"),
        None => Ok(()),
    }
}

#[expect(clippy::print_stderr, reason = "this is for whoever waits, not for what reads the output")]
fn tell(progress: &Progress) {
    eprintln!("{} lines, {} stored", progress.lines, progress.stored);
}
