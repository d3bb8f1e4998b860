//! TLS in process: versions 1.2 and 1.3, with the certificate that the files hold at the moment.
//!
//! | module | what it holds |
//! |---|---|
//! | `pair` | a certificate with its key: read, watched and replaced while connections go on |
//! | `expiry` | until when a certificate is valid |
//!
//! All ports of a process that name the same files share one pair, which is looked at once for all of them.

mod expiry;
mod pair;

use std::sync::Arc;

use anyhow::Context as _;
use tokio::net::TcpStream;
use tokio_rustls::rustls::{ServerConfig, version};
use tokio_rustls::server::TlsStream;

use crate::config::settings;
use crate::limits::HANDSHAKE_TIMEOUT;
use crate::metrics::{METRICS, Refusal};

use pair::Current;

/// Answers TLS handshakes.
#[derive(Clone)]
pub(super) struct Acceptor {
    tls: tokio_rustls::TlsAcceptor,
    /// Lives, and follows its files, as long as any port uses it.
    _current: Arc<Current>,
}

impl Acceptor {
    /// Reads the certificate and its key; `None` if the settings name none. `protocols`: what is spoken inside, best first (RFC 7301);
    /// none where there is only one thing to speak. To be called within the runtime, where a task follows the files from then on.
    ///
    /// # Errors
    /// The files cannot be read, or are no certificate and key that belong together: say so and do not start.
    pub(super) fn from_settings(
        settings: &settings::Tls,
        protocols: &[&[u8]],
    ) -> anyhow::Result<Option<Self>> {
        let (Some(certificate), Some(key)) = (&settings.certificate, &settings.key) else { return Ok(None) };
        let current = Current::of(certificate, key)?;
        // The suites of the provider: of TLS 1.3 all three, of TLS 1.2 those with ephemeral keys and authenticated encryption only.
        let provider = Arc::new(pair::provider());
        let resolver = Arc::<Current>::clone(&current);
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])
            .context("the provider of TLS speaks neither of its versions")?
            .with_no_client_auth()
            .with_cert_resolver(resolver);
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Ok(Some(Self { tls: Arc::new(config).into(), _current: current }))
    }

    /// Answers a handshake within [`HANDSHAKE_TIMEOUT`]; one that fails is counted.
    ///
    /// # Errors
    /// The client spoke no TLS, or none that this node speaks; it went away, or took too long. Close the socket.
    pub(super) async fn accept(&self, stream: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
        let accepted = match tokio::time::timeout(HANDSHAKE_TIMEOUT, self.tls.accept(stream)).await {
            Ok(accepted) => accepted,
            Err(_) => Err(std::io::Error::new(std::io::ErrorKind::TimedOut, "the handshake took too long")),
        };
        if accepted.is_err() {
            METRICS.count_refused(Refusal::Tls);
        }
        accepted
    }
}

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Acceptor")
    }
}
