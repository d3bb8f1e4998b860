//! Requests to the admin API.

use std::io::{ErrorKind, Write as _};
use std::path::PathBuf;

use anyhow::{Context as _, bail, ensure};
use bytes::{Bytes, BytesMut};
use clap::{Args, ValueEnum};
use http::{Method, Request, Response, header};
use hyper::body::Body;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::table::Table;
use crate::http_client::{self, Streamed};
use crate::limits::{ADMIN_ANSWER_BYTES_MAX, ADMIN_ANSWER_DEADLINE};

/// Where the admin API is, who asks, and how the answer looks.
#[derive(Debug, Args)]
#[command(next_help_heading = "Admin API")]
pub struct ApiArgs {
    /// A node's port of administrators
    #[arg(long, env = "BONGSU_ADMIN_URL", default_value = "http://127.0.0.1:8081")]
    admin_url: String,
    /// Read the administrator's token from this file
    #[arg(long, value_name = "FILE", conflicts_with = "admin_token")]
    admin_token_file: Option<PathBuf>,
    /// The administrator's token; other users of this machine may see it, so prefer --admin-token-file or the environment
    #[arg(long, env = "BONGSU_ADMIN_TOKEN", hide_env_values = true)]
    admin_token: Option<String>,
    /// How the answer looks
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

/// How an answer looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// For people
    #[default]
    Table,
    /// The API's own JSON
    Json,
}

/// Text as one segment of a path, or the value of a parameter.
pub(super) fn escaped(text: &str) -> String {
    let keep = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    text.bytes()
        .map(|byte| if keep(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// A path with those parameters that have a value.
pub(super) fn with_parameters(path: &str, parameters: &[(&str, Option<String>)]) -> String {
    let given =
        parameters.iter().filter_map(|(name, value)| Some(format!("{name}={}", escaped(value.as_deref()?))));
    let given: Vec<String> = given.collect();
    if given.is_empty() { path.to_owned() } else { format!("{path}?{}", given.join("&")) }
}

impl ApiArgs {
    /// How the answer looks.
    pub(super) const fn output(&self) -> Output {
        self.output
    }

    /// Reads something.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.ask(Method::GET, path, None).await
    }

    /// Sends a request, and reads the answer.
    pub(super) async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<serde_json::Value>,
    ) -> anyhow::Result<T> {
        let answer = self.send(method, path, body).await?;
        serde_json::from_slice(answer.body())
            .with_context(|| format!("{}: an answer that this version does not understand", self.admin_url))
    }

    /// Sends a request, and gives the answer if it is a success.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<serde_json::Value>,
    ) -> anyhow::Result<Response<Bytes>> {
        self.deliver(self.request(method, path)?, body).await
    }

    /// Changes something of which this version was seen, and reads the answer.
    pub(super) async fn change<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        version: &str,
        body: serde_json::Value,
    ) -> anyhow::Result<T> {
        let request = self.request(method, path)?.header(header::IF_MATCH, format!("\"{version}\""));
        let answer = self.deliver(request, Some(body)).await?;
        serde_json::from_slice(answer.body())
            .with_context(|| format!("{}: an answer that this version does not understand", self.admin_url))
    }

    /// Sends JSON as it is, and gives the answer if it is a success.
    pub(super) async fn send_text(
        &self,
        method: Method,
        path: &str,
        json: Bytes,
    ) -> anyhow::Result<Response<Bytes>> {
        let request = self.request(method, path)?.header(header::CONTENT_TYPE, "application/json");
        self.exchange(request, json).await
    }

    async fn deliver(
        &self,
        request: http::request::Builder,
        body: Option<serde_json::Value>,
    ) -> anyhow::Result<Response<Bytes>> {
        let Some(body) = body else { return self.exchange(request, Bytes::new()).await };
        let request = request.header(header::CONTENT_TYPE, "application/json");
        self.exchange(request, body.to_string().into()).await
    }

    async fn exchange(
        &self,
        request: http::request::Builder,
        body: Bytes,
    ) -> anyhow::Result<Response<Bytes>> {
        let request = request.body(body).with_context(|| format!("{} is no address", self.admin_url))?;
        let Ok(answer) = tokio::time::timeout(ADMIN_ANSWER_DEADLINE, whole(request)).await else {
            bail!("{}: no answer within {ADMIN_ANSWER_DEADLINE:?}", self.admin_url);
        };
        let answer = answer.with_context(|| format!("{} (see --admin-url)", self.admin_url))?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let problem: serde_json::Value = serde_json::from_slice(answer.body()).unwrap_or_default();
        let detail = problem["detail"].as_str().unwrap_or_default();
        bail!("{}: {detail}", answer.status())
    }

    /// Sends a request of any length and gives the answer, if it is a success, to be read as it comes.
    pub(super) async fn stream<B>(&self, request: Request<B>) -> anyhow::Result<Streamed>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let answer = http_client::stream(request).await;
        let mut answer = answer.with_context(|| format!("{} (see --admin-url)", self.admin_url))?;
        if answer.head.status.is_success() {
            return Ok(answer);
        }
        let problem = answer.chunk().await?.unwrap_or_default();
        let problem: serde_json::Value = serde_json::from_slice(&problem).unwrap_or_default();
        bail!("{}: {}", answer.head.status, problem["detail"].as_str().unwrap_or_default())
    }

    /// Whether the answer is to be the API's own JSON.
    pub(super) fn is_json(&self) -> bool {
        self.output == Output::Json
    }

    /// A request that says who asks, without a body yet.
    pub(super) fn request(&self, method: Method, path: &str) -> anyhow::Result<http::request::Builder> {
        let uri = format!("{}{path}", self.admin_url.trim_end_matches('/'));
        let mut request = Request::builder().method(method).uri(uri);
        let token = match (&self.admin_token_file, &self.admin_token) {
            (Some(file), _) => {
                let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
                Some(text.trim().to_owned())
            }
            (None, token) => token.clone(),
        };
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        Ok(request)
    }

    /// Prints an answer, as JSON or as the table that is made of it.
    pub(super) fn print<T: Serialize>(
        &self,
        answer: &T,
        table: impl FnOnce(&T) -> Table,
    ) -> anyhow::Result<()> {
        match self.output {
            Output::Table => say(&table(answer).to_string()),
            Output::Json => say(&format!("{}\n", serde_json::to_string_pretty(answer)?)),
        }
    }
}

/// Writes to standard output. That its reader went away, as `head` does, is no failure of what was asked: the command just ends.
pub(super) fn say(text: &str) -> anyhow::Result<()> {
    let mut output = std::io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        written => Ok(written?),
    }
}

/// A whole answer, which may be a page of a thousand large entries.
async fn whole(request: Request<Bytes>) -> anyhow::Result<Response<Bytes>> {
    let mut answer = http_client::stream(request.map(http_body_util::Full::new)).await?;
    let mut body = BytesMut::new();
    while let Some(chunk) = answer.chunk().await? {
        body.extend_from_slice(&chunk);
        ensure!(
            body.len() <= ADMIN_ANSWER_BYTES_MAX,
            "the answer has more than {ADMIN_ANSWER_BYTES_MAX} bytes"
        );
    }
    Ok(Response::from_parts(answer.head, body.freeze()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_one_segment_of_a_path() {
        assert_eq!(escaped("chat/room 1?"), "chat%2Froom%201%3F");
        assert_eq!(escaped("불"), "%EB%B6%88");
    }

    #[test]
    fn only_parameters_with_a_value_are_sent() {
        let parameters = [("subject", Some("a&b".to_owned())), ("topic", None)];
        assert_eq!(with_parameters("/v1/x", &parameters), "/v1/x?subject=a%26b");
        assert_eq!(with_parameters("/v1/x", &[]), "/v1/x");
    }
}
