//! Options of a client.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::limits::{
    BACKOFF_MAX_DEFAULT, BACKOFF_MIN_DEFAULT, CONNECT_DEADLINE_DEFAULT, REQUEST_DEADLINE_DEFAULT,
    SUBSCRIPTION_BYTES_DEFAULT, WINDOW_BYTES_DEFAULT,
};

pub(crate) type TokenFuture = Pin<Box<dyn Future<Output = Result<String, String>> + Send>>;

/// Gives the token for each connection.
#[derive(Clone)]
pub(crate) struct TokenSource(pub(crate) Arc<dyn Fn() -> TokenFuture + Send + Sync>);

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSource(…)")
    }
}

/// Options of a [`Client`](crate::Client), each with its default.
#[derive(Debug, Clone)]
#[must_use = "nothing happens until it is connected"]
pub struct Builder {
    pub(crate) url: String,
    pub(crate) token: Option<TokenSource>,
    pub(crate) subscription_bytes: usize,
    pub(crate) window_bytes: usize,
    pub(crate) request_deadline: Duration,
    pub(crate) connect_deadline: Duration,
    pub(crate) backoff_min: Duration,
    pub(crate) backoff_max: Duration,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<Arc<tokio_rustls::rustls::ClientConfig>>,
}

impl Builder {
    pub(crate) fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            token: None,
            subscription_bytes: SUBSCRIPTION_BYTES_DEFAULT,
            window_bytes: WINDOW_BYTES_DEFAULT,
            request_deadline: REQUEST_DEADLINE_DEFAULT,
            connect_deadline: CONNECT_DEADLINE_DEFAULT,
            backoff_min: BACKOFF_MIN_DEFAULT,
            backoff_max: BACKOFF_MAX_DEFAULT,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    /// Asks for a token before each connection, and again when the broker warns that it ends soon, so that it is never an old one.
    /// Default: none, an anonymous client.
    ///
    /// When the broker ends a connection because its token ran out, the client asks again and connects again. An error is one failed
    /// attempt to connect: the next one asks again.
    pub fn token<F, T, E>(mut self, source: F) -> Self
    where
        F: Fn() -> T + Send + Sync + 'static,
        T: Future<Output = Result<String, E>> + Send + 'static,
        E: fmt::Display,
    {
        let source = move || -> TokenFuture {
            let token = source();
            Box::pin(async move { token.await.map_err(|error| error.to_string()) })
        };
        self.token = Some(TokenSource(Arc::new(source)));
        self
    }

    /// Uses this one token for each connection. Once it has run out, the broker refuses the next handshake and the client closes.
    pub fn fixed_token(self, token: impl Into<String>) -> Self {
        let token = token.into();
        self.token(move || std::future::ready(Ok::<_, String>(token.clone())))
    }

    /// Bytes that each subscription holds for a slow reader, its messages' overhead of 256 bytes each included. Default: 1 MiB.
    pub const fn subscription_bytes(mut self, bytes: usize) -> Self {
        self.subscription_bytes = bytes;
        self
    }

    /// Bytes of published messages without an acknowledgment, 256 bytes of overhead for each included; a publish beyond waits.
    /// Default: 4 MiB; at most 512 MiB.
    pub const fn window_bytes(mut self, bytes: usize) -> Self {
        const WINDOW_BYTES_MAX: usize = 512 << 20;
        self.window_bytes = if bytes < WINDOW_BYTES_MAX { bytes } else { WINDOW_BYTES_MAX };
        self
    }

    /// From a call to its answer, reconnects included; then it fails with [`Error::Timeout`](crate::Error::Timeout). Default: 30 seconds.
    pub const fn request_deadline(mut self, deadline: Duration) -> Self {
        self.request_deadline = deadline;
        self
    }

    /// From the start of an attempt to connect to the broker's welcome. Default: 10 seconds.
    pub const fn connect_deadline(mut self, deadline: Duration) -> Self {
        self.connect_deadline = deadline;
        self
    }

    /// The pause after the first failed attempt to connect, and the longest pause; between them it doubles, and half of each is random.
    /// Defaults: 250 milliseconds and 30 seconds.
    pub const fn backoff(mut self, min: Duration, max: Duration) -> Self {
        self.backoff_min = min;
        self.backoff_max = max;
        self
    }

    /// Uses this configuration for `wss`, for a private authority or a client certificate. Default: the roots that the crate's
    /// features name.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, config: Arc<tokio_rustls::rustls::ClientConfig>) -> Self {
        self.tls = Some(config);
        self
    }
}
