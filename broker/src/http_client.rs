//! The HTTP requests that the broker itself makes: webhooks, telemetry to a collector, and the health check of its own command line.
//!
//! Redirects are never followed: a request goes where somebody said it should, or nowhere. What happens every few seconds at most
//! has one connection per request, since a pool would only be one more thing to go stale; webhooks keep a few.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use http::uri::Scheme;
use http::{HeaderValue, Request, Response, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
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

/// Makes a request, whose address is absolute, on a connection of its own, and takes the whole answer. Waits as long as the other side
/// does: bound it.
///
/// # Errors
/// There is no answer, with the reason. The other side may have taken the request all the same.
pub async fn send(request: Request<Bytes>) -> Result<Response<Bytes>, Error> {
    let target = Target::of(request.uri())?;
    let (mut parts, body) = on_connection(request)?.into_parts();
    parts.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    let stream = connect(target).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let answer =
        async { whole(sender.send_request(Request::from_parts(parts, Full::new(body))).await?).await };
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

/// An answer that is read as it comes. Dropping it ends the connection.
#[derive(Debug)]
pub struct Streamed {
    /// Its status and headers.
    pub head: http::response::Parts,
    body: Incoming,
    _driver: AbortOnDropHandle,
}

impl Streamed {
    /// The next bytes; `None` at the end. Waits as long as the other side does.
    ///
    /// # Errors
    /// The answer ended early.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        while let Some(frame) = self.body.frame().await {
            if let Ok(data) = frame?.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }
}

/// As [`send`], for bodies of any length: the request's is sent while the answer's is read.
///
/// # Errors
/// As [`send`].
pub async fn stream<B>(request: Request<B>) -> Result<Streamed, Error>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let target = Target::of(request.uri())?;
    let request = on_connection(request)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(connect(target).await?)).await?;
    let driver = AbortOnDropHandle(tokio::spawn(async move { drop(connection.with_upgrades().await) }));
    let (head, body) = sender.send_request(request).await?.into_parts();
    Ok(Streamed { head, body, _driver: driver })
}

/// A socket, with TLS or without.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

async fn connect(target: Target) -> Result<Box<dyn Stream>, Error> {
    let socket = TcpStream::connect((target.host.as_str(), target.port)).await.map_err(Error::Connect)?;
    if !target.tls {
        return Ok(Box::new(socket));
    }
    let name = ServerName::try_from(target.host).map_err(|error| Error::Tls(error.to_string()))?;
    let tls = TlsConnector::from(tls_config()?).connect(name, socket).await;
    Ok(Box::new(tls.map_err(|error| Error::Tls(error.to_string()))?))
}

/// The request as it stands on a connection to its server.
fn on_connection<B>(request: Request<B>) -> Result<Request<B>, Error> {
    let (mut parts, body) = request.into_parts();
    let authority = parts.uri.authority().map_or("", |authority| authority.as_str());
    parts.headers.insert(header::HOST, HeaderValue::from_str(authority).map_err(|_| Error::Address)?);
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    parts.uri = path.parse().map_err(|_| Error::Address)?;
    Ok(Request::from_parts(parts, body))
}

/// The whole answer.
async fn whole(answer: Response<Incoming>) -> Result<Response<Bytes>, Error> {
    let (parts, body) = answer.into_parts();
    let body = Limited::new(body, HTTP_ANSWER_BYTES_MAX).collect().await;
    let body = body.map_err(|error| Error::Answer(error.to_string()))?.to_bytes();
    Ok(Response::from_parts(parts, body))
}

/// A client for one server, which keeps its connections for the next requests. One of these connections costs some KiB, and the server
/// ends it when it likes.
#[derive(Debug)]
pub struct Client {
    idle: Mutex<Vec<Kept>>,
    idle_max: usize,
}

/// A connection that can take another request. Ends when it is dropped.
#[derive(Debug)]
struct Kept {
    sender: SendRequest<Full<Bytes>>,
    _driver: AbortOnDropHandle,
}

/// Ends a task when it is dropped.
#[derive(Debug)]
struct AbortOnDropHandle(JoinHandle<()>);

impl Drop for AbortOnDropHandle {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Client {
    /// Keeps at most so many connections.
    #[must_use]
    pub const fn new(idle_max: usize) -> Self {
        Self { idle: Mutex::new(Vec::new()), idle_max }
    }

    /// As [`send`], on a connection that was used before where there is one. A server may have ended that just then: the request is
    /// sent once more on a new one, so it must be one that may come twice.
    ///
    /// # Errors
    /// As [`send`].
    pub async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, Error> {
        let target = Target::of(request.uri())?;
        let request = on_connection(request)?.map(Full::new);
        let idle = self.lock().pop();
        if let Some(kept) = idle
            && let Ok(answer) = self.exchange(kept, request.clone()).await
        {
            return Ok(answer);
        }
        let stream = connect(target).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let driver = tokio::spawn(async move { drop(connection.await) });
        self.exchange(Kept { sender, _driver: AbortOnDropHandle(driver) }, request).await
    }

    async fn exchange(
        &self,
        mut kept: Kept,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Bytes>, Error> {
        kept.sender.ready().await?;
        let answer = whole(kept.sender.send_request(request).await?).await?;
        let mut idle = self.lock();
        if idle.len() < self.idle_max && !kept.sender.is_closed() {
            idle.push(kept);
        }
        Ok(answer)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Kept>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
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
