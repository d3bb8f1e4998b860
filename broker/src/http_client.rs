//! The few HTTP requests that the broker itself makes: telemetry to a collector, and the health check of its own command line.
//!
//! One connection per request. Both happen every few seconds at most, so a pool would only be one more thing to go stale.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::uri::Scheme;
use http::{HeaderValue, Request, Response, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore, crypto};

use crate::limits::HTTP_ANSWER_BYTES_MAX;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is none that this client knows.
    #[error("it takes http:// or https:// with a host, and no user")]
    Address,
    /// Nobody answers there.
    #[error("cannot connect: {0}")]
    Connect(#[source] std::io::Error),
    /// The other side's certificate is not trusted, or there is no list of whom to trust.
    #[error("TLS: {0}")]
    Tls(String),
    /// The other side does not speak HTTP, or ended early.
    #[error("HTTP: {0}")]
    Http(#[from] hyper::Error),
    /// The answer is longer than [`HTTP_ANSWER_BYTES_MAX`], or ended early.
    #[error("the answer cannot be read: {0}")]
    Answer(String),
}

/// Makes a request, whose address is absolute, and takes the whole answer. Waits as long as the other side does: bound it.
///
/// # Errors
/// There is no answer, with the reason. The other side may have taken the request all the same.
pub async fn send(request: Request<Bytes>) -> Result<Response<Bytes>, Error> {
    let target = Target::of(request.uri())?;
    let socket = TcpStream::connect((target.host.as_str(), target.port)).await.map_err(Error::Connect)?;
    if !target.tls {
        return exchange(socket, request).await;
    }
    let name = ServerName::try_from(target.host).map_err(|error| Error::Tls(error.to_string()))?;
    let tls = TlsConnector::from(tls_config()?).connect(name, socket).await;
    exchange(tls.map_err(|error| Error::Tls(error.to_string()))?, request).await
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<Bytes>,
) -> Result<Response<Bytes>, Error> {
    let (mut parts, body) = request.into_parts();
    let authority = parts.uri.authority().map_or("", |authority| authority.as_str());
    parts.headers.insert(header::HOST, HeaderValue::from_str(authority).map_err(|_| Error::Address)?);
    parts.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    parts.uri = path.parse().map_err(|_| Error::Address)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let answer = async {
        let answer = sender.send_request(Request::from_parts(parts, Full::new(body))).await?;
        let (parts, body) = answer.into_parts();
        let body = Limited::new(body, HTTP_ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| Error::Answer(error.to_string()))?.to_bytes();
        Ok(Response::from_parts(parts, body))
    };
    tokio::pin!(connection, answer);
    // Driven here and not in a task of its own, so that dropping this future ends the connection too.
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        ended = &mut connection => {
            ended?;
            // What came before the end may still be the whole answer.
            answer.await
        }
    }
}

/// Where a request goes.
struct Target {
    tls: bool,
    host: String,
    port: u16,
}

impl Target {
    fn of(uri: &Uri) -> Result<Self, Error> {
        let tls = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => false,
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            _ => return Err(Error::Address),
        };
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'));
        let authority = authority.ok_or(Error::Address)?;
        // An IPv6 address stands in brackets in a URL only.
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        if host.is_empty() { Err(Error::Address) } else { Ok(Self { tls, host, port }) }
    }
}

/// Trusts whom this machine trusts. Read once: the list is long.
fn tls_config() -> Result<Arc<ClientConfig>, Error> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if let Some(config) = CONFIG.get() {
        return Ok(Arc::clone(config));
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(Error::Tls("this machine has no list of trusted certificates".to_owned()));
    }
    let config = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error: rustls::Error| Error::Tls(error.to_string()))?;
    let config = Arc::new(config.with_root_certificates(roots).with_no_client_auth());
    Ok(Arc::clone(CONFIG.get_or_init(|| config)))
}
