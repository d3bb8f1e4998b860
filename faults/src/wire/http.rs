//! HTTP/1.1 as RFC 9112 has it, as far as the broker's answers go: one request after another on a connection that is kept.

use std::net::SocketAddr;

use anyhow::{Context as _, bail, ensure};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

/// A connection.
pub(crate) struct Http {
    stream: BufReader<TcpStream>,
    host: String,
    rest: Rest,
}

/// What is left of an answer's body.
#[derive(Clone, Copy)]
enum Rest {
    Nothing,
    Bytes(u64),
    Chunks,
    UntilClosed,
}

/// The head of an answer.
pub(crate) struct Response {
    pub(crate) status: u16,
    /// Names in lower case.
    headers: Vec<(String, String)>,
}

/// More than any head of the broker's has.
const HEADERS_MAX: usize = 100;

impl Response {
    /// The value of the first header of this name, which is in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

impl Http {
    /// Connects.
    ///
    /// # Errors
    /// Nobody is there.
    pub(crate) async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream), host: address.to_string(), rest: Rest::Nothing })
    }

    /// Sends a request and reads the head of its answer.
    ///
    /// # Errors
    /// The connection is over.
    pub(crate) async fn request(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> anyhow::Result<Response> {
        ensure!(matches!(self.rest, Rest::Nothing), "the answer before was not read to its end");
        let mut head = format!("{method} {target} HTTP/1.1\r\nhost: {}\r\n", self.host);
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if method != "GET" {
            head.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        self.stream.get_mut().write_all(&[head.as_bytes(), body].concat()).await?;
        let line = self.line().await?;
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let mut response =
            Response { status: status.with_context(|| format!("no status: {line}"))?, headers: Vec::new() };
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                break;
            }
            ensure!(response.headers.len() < HEADERS_MAX, "too many headers");
            let (name, value) = line.split_once(':').with_context(|| format!("no header: {line}"))?;
            response.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        self.rest = rest_of(&response)?;
        Ok(response)
    }

    /// The next part of the body as it comes; `None` at its end.
    ///
    /// # Errors
    /// The connection is over before the body.
    pub(crate) async fn part(&mut self) -> anyhow::Result<Option<Vec<u8>>> {
        match self.rest {
            Rest::Nothing => Ok(None),
            Rest::Bytes(n_bytes) => {
                let mut part = vec![0; usize::try_from(n_bytes.min(64 * 1024))?];
                let n_read = self.stream.read(&mut part).await?;
                ensure!(n_read > 0, "the connection ended within a body");
                part.truncate(n_read);
                let left = n_bytes - n_read as u64;
                self.rest = if left == 0 { Rest::Nothing } else { Rest::Bytes(left) };
                Ok(Some(part))
            }
            Rest::Chunks => {
                let size = self.line().await?;
                let size = size.split(';').next().unwrap_or_default().trim();
                let n_bytes =
                    usize::from_str_radix(size, 16).with_context(|| format!("no chunk: {size:?}"))?;
                let mut part = vec![0; n_bytes];
                self.stream.read_exact(&mut part).await?;
                ensure!(self.line().await?.is_empty(), "a chunk has no end");
                if n_bytes > 0 {
                    return Ok(Some(part));
                }
                self.rest = Rest::Nothing;
                Ok(None)
            }
            Rest::UntilClosed => {
                let mut part = vec![0; 64 * 1024];
                let n_read = self.stream.read(&mut part).await?;
                part.truncate(n_read);
                Ok((n_read > 0).then_some(part))
            }
        }
    }

    /// All that is left of the body.
    ///
    /// # Errors
    /// As [`part`](Self::part).
    pub(crate) async fn body(&mut self) -> anyhow::Result<Vec<u8>> {
        let mut body = Vec::new();
        while let Some(part) = self.part().await? {
            body.extend(part);
        }
        Ok(body)
    }

    async fn line(&mut self) -> anyhow::Result<String> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line).await?;
        ensure!(line.pop() == Some(b'\n'), "the connection ended");
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        String::from_utf8(line).context("a line of a head is text")
    }
}

/// How a body is delimited (RFC 9112, 6.3).
fn rest_of(response: &Response) -> anyhow::Result<Rest> {
    if matches!(response.status, 204 | 304) {
        return Ok(Rest::Nothing);
    }
    match (response.header("transfer-encoding"), response.header("content-length")) {
        (Some("chunked"), None) => Ok(Rest::Chunks),
        (None, Some("0")) => Ok(Rest::Nothing),
        (None, Some(length)) => Ok(Rest::Bytes(length.parse().context("content-length")?)),
        (None, None) => Ok(Rest::UntilClosed),
        (encoding, length) => bail!("{encoding:?} and {length:?} say nothing together"),
    }
}

/// A text as a value in a query or a segment of a path (RFC 3986, 2.1).
pub(crate) fn encode(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}
