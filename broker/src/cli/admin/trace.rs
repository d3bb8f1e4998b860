//! `bongsu trace`.

use anyhow::Context as _;
use bongsu_admin_api::resources::trace::TraceEvent;
use bytes::{Bytes, BytesMut};
use clap::Args;
use http::{Method, header};
use http_body_util::Full;

use super::rest::{ApiArgs, Output, say, with_parameters};
use super::table::printable;
use crate::http_client;
use crate::limits::TRACE_LINE_BYTES_MAX;

/// What to follow: at least one of session, subject and topic.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("wanted").required(true).multiple(true).args(["session", "subject", "topic"]))]
pub struct TraceArgs {
    /// The session of this name
    #[arg(long)]
    session: Option<String>,
    /// All sessions of this subject; '' is that of anonymous clients
    #[arg(long)]
    subject: Option<String>,
    /// What concerns this topic
    #[arg(long)]
    topic: Option<String>,
    /// Show messages too, which takes the role admin
    #[arg(long)]
    payloads: bool,
    #[command(flatten)]
    api: ApiArgs,
}

/// Follows until the other side ends it.
pub(super) async fn run(args: TraceArgs) -> anyhow::Result<()> {
    let parameters = [
        ("session", args.session),
        ("subject", args.subject),
        ("topic", args.topic),
        ("payloads", args.payloads.then(|| "true".to_owned())),
    ];
    let request = args.api.request(Method::GET, &with_parameters("/v1/trace", &parameters))?;
    let request = request.header(header::ACCEPT, "application/x-ndjson").body(Bytes::new())?;
    let mut answer = http_client::stream(request.map(Full::new)).await.context("see --admin-url")?;
    let status = answer.head.status;
    let mut ahead = BytesMut::new();
    while let Some(data) = answer.chunk().await? {
        ahead.extend_from_slice(&data);
        anyhow::ensure!(ahead.len() <= TRACE_LINE_BYTES_MAX, "the answer has a line that is too long");
        while status.is_success()
            && let Some(end) = ahead.iter().position(|byte| *byte == b'\n')
        {
            let line = ahead.split_to(end + 1);
            let line = String::from_utf8_lossy(line.trim_ascii());
            match args.api.output() {
                _ if line.is_empty() => {}
                Output::Json => say(&format!("{line}\n"))?,
                Output::Table => say(&format!("{}\n", shown(&serde_json::from_str(&line)?)))?,
            }
        }
    }
    if status.is_success() {
        return Ok(());
    }
    let problem: serde_json::Value = serde_json::from_slice(&ahead).unwrap_or_default();
    anyhow::bail!("{status}: {}", problem["detail"].as_str().unwrap_or_default())
}

fn shown(event: &TraceEvent) -> String {
    let mut parts = vec![event.time.to_string(), event.node.clone()];
    parts.extend(Some(event.session.clone()).filter(|session| !session.is_empty()));
    parts.extend(Some(event.subject.clone()).filter(|subject| !subject.is_empty()));
    parts.push(event.what.as_str().to_owned());
    parts.extend(event.frame.clone());
    parts.extend(event.bytes.filter(|bytes| *bytes > 0).map(|bytes| format!("{bytes} B")));
    parts.extend(event.count.map(|count| count.to_string()));
    parts.extend(event.topics.iter().cloned());
    parts.extend(event.code.clone());
    parts.extend(event.text.clone());
    parts.extend(event.payload.clone());
    printable(&parts.join(" "))
}
