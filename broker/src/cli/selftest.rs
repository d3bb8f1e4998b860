//! `bongsu selftest`: what stands between here and a node, and how to mend it.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use clap::{Args, ValueEnum};
use http::{Request, StatusCode, header};
use http_body_util::Full;

use crate::clock;
use crate::http_client;
use crate::limits::HEALTH_DEADLINE;
use crate::selftest::{ANSWER_HEADERS, Finding, PIECE_PAUSE_MS, PIECES, REQUEST_HEADERS, Seen, Trouble};

/// Where to look, and how thoroughly.
#[derive(Debug, Args)]
pub struct SelftestArgs {
    /// The node as its clients reach it, such as `https://broker.example.org`
    url: String,
    /// How many seconds a silent request must last; a node's long polls take 25
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=120))]
    wait: u64,
    /// How to say it
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// How findings are said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Text,
    /// For programs: what the node saw, and a list of findings.
    Json,
}

/// Tries everything, and says on standard output what was found.
///
/// # Errors
/// Nothing answers there as a node does; or something was found, after it was said.
#[expect(clippy::print_stdout, reason = "this is what the command prints")]
pub async fn selftest(args: SelftestArgs) -> anyhow::Result<()> {
    let base = args.url.trim_end_matches('/').to_owned();
    let (seen, mut findings) = look(&base).await?;
    findings.extend(stream(&base).await?);
    findings.extend(upgrade(&base).await);
    findings.extend(wait(&base, args.wait).await);
    match args.output {
        Output::Json => println!("{}", serde_json::json!({ "seen": seen, "findings": findings })),
        Output::Text => {
            println!("node {} sees {} by {}", seen.node, seen.client, seen.http);
            for Finding { code, problem, detail, nginx, haproxy, alb } in &findings {
                let detail = if detail.is_empty() { String::new() } else { format!(" ({detail})") };
                println!(
                    "\n{code}: {problem}{detail}\n  nginx:   {nginx}\n  HAProxy: {haproxy}\n  ALB:     {alb}"
                );
            }
            if findings.is_empty() {
                println!("nothing between does harm");
            }
        }
    }
    ensure!(findings.is_empty(), "{} of what stands between does harm", findings.len());
    Ok(())
}

/// What arrives there, and what comes back.
async fn look(base: &str) -> anyhow::Result<(Seen, Vec<Finding>)> {
    let url = format!("{base}/v1/selftest");
    let mut request = Request::get(&url);
    for name in REQUEST_HEADERS {
        request = request.header(*name, "0");
    }
    let request = request.body(Bytes::new()).with_context(|| format!("{url} is no address"))?;
    let answer = tokio::time::timeout(HEALTH_DEADLINE, http_client::send(request)).await;
    let answer = answer.with_context(|| format!("{url}: no answer within {HEALTH_DEADLINE:?}"))?;
    let answer = answer.with_context(|| url.clone())?;
    let seen: Seen = serde_json::from_slice(answer.body())
        .with_context(|| format!("{url}: {}: this is no node's answer", answer.status()))?;
    let mut findings = seen.findings.clone();
    let lost = |names: &[&str], is_there: &dyn Fn(&str) -> bool| {
        names.iter().filter(|name| !is_there(name)).copied().collect::<Vec<_>>().join(", ")
    };
    let lost_there = lost(REQUEST_HEADERS, &|name| seen.arrived.iter().any(|arrived| arrived == name));
    let lost_here = lost(ANSWER_HEADERS, &|name| answer.headers().contains_key(name));
    for (trouble, lost) in [(Trouble::RequestHeaders, lost_there), (Trouble::AnswerHeaders, lost_here)] {
        if !lost.is_empty() {
            findings.push(trouble.found(lost));
        }
    }
    Ok((seen, findings))
}

/// Whether pieces come as they are written, and as they are.
async fn stream(base: &str) -> anyhow::Result<Vec<Finding>> {
    let request = Request::get(format!("{base}/v1/selftest/stream"))
        .header(header::ACCEPT, "text/event-stream")
        .header(header::ACCEPT_ENCODING, "gzip, br, zstd")
        .body(Bytes::new())?;
    let reading = async {
        let mut answer = http_client::stream(request.map(Full::new)).await?;
        let is_packed = answer.head.headers.contains_key(header::CONTENT_ENCODING);
        let mut first_at = None;
        while answer.chunk().await?.is_some() {
            first_at.get_or_insert_with(clock::monotonic);
        }
        let lasted = first_at.map_or(Duration::ZERO, |first| clock::monotonic().saturating_sub(first));
        Ok::<_, http_client::Error>((is_packed, lasted))
    };
    let read = tokio::time::timeout(HEALTH_DEADLINE, reading).await;
    let mut findings = Vec::new();
    match read {
        Ok(Ok((is_packed, lasted))) => {
            if is_packed {
                findings.push(Trouble::Compression.found(""));
            }
            let whole = Duration::from_millis((PIECES - 1) * PIECE_PAUSE_MS);
            // Half of it, so that a busy machine is not taken for a proxy.
            if lasted < whole / 2 {
                findings
                    .push(Trouble::Buffering.found(format!("pieces of {whole:?} came within {lasted:?}")));
            }
        }
        Ok(Err(error)) => findings.push(Trouble::Buffering.found(error.to_string())),
        Err(_) => findings.push(Trouble::Buffering.found("no end came")),
    }
    Ok(findings)
}

/// Whether a WebSocket's handshake arrives as one. Whoever is refused for want of a token got through.
async fn upgrade(base: &str) -> Option<Finding> {
    let request = Request::get(format!("{base}/v1/ws"))
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        // RFC 6455, 1.3: its own example.
        .header(header::SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ==")
        .body(Bytes::new())
        .ok()?;
    let found = |detail: String| Some(Trouble::NoUpgrade.found(detail));
    match tokio::time::timeout(HEALTH_DEADLINE, http_client::stream(request.map(Full::new))).await {
        Ok(Ok(answer)) => match answer.head.status {
            StatusCode::SWITCHING_PROTOCOLS | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => None,
            status => found(format!("answered with {status}")),
        },
        Ok(Err(error)) => found(error.to_string()),
        Err(_) => found("no answer came".to_owned()),
    }
}

/// Whether a request that is silent for so long is answered.
async fn wait(base: &str, seconds: u64) -> Option<Finding> {
    let request =
        Request::get(format!("{base}/v1/selftest/wait?seconds={seconds}")).body(Bytes::new()).ok()?;
    let begun = clock::monotonic();
    let patience = Duration::from_secs(seconds) + HEALTH_DEADLINE;
    let answered = tokio::time::timeout(patience, http_client::send(request)).await;
    let lasted = clock::monotonic().saturating_sub(begun).as_secs();
    match answered {
        Ok(Ok(answer)) if answer.status().is_success() => None,
        Ok(Ok(answer)) => Some(Trouble::CutOff.found(format!("{} after {lasted} s", answer.status()))),
        Ok(Err(error)) => Some(Trouble::CutOff.found(format!("{error} after {lasted} s"))),
        Err(_) => Some(Trouble::CutOff.found(format!("no answer within {lasted} s"))),
    }
}
