//! TLS in process.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::net::TcpStream;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::server::TlsStream;

use crate::config::settings;

/// Answers TLS handshakes.
#[derive(Clone)]
pub(super) struct Acceptor(tokio_rustls::TlsAcceptor);

impl Acceptor {
    /// Reads the certificate and its key; `None` if the settings name none. `protocols`: what is spoken inside, best first (RFC 7301);
    /// none where there is only one thing to speak.
    pub(super) fn from_settings(
        settings: &settings::Tls,
        protocols: &[&[u8]],
    ) -> anyhow::Result<Option<Self>> {
        let (Some(certificate), Some(key)) = (&settings.certificate, &settings.key) else { return Ok(None) };
        let certificates = read_certificates(certificate)?;
        let key = PrivateKeyDer::from_pem_file(key)
            .with_context(|| format!("tls.key: {} is not a private key in PEM", key.display()))?;
        let mut config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(certificates, key)
            .context("tls.certificate and tls.key do not belong together")?;
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Ok(Some(Self(Arc::new(config).into())))
    }

    pub(super) async fn accept(&self, stream: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
        self.0.accept(stream).await
    }
}

fn read_certificates(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let problem = || format!("tls.certificate: {} is not a chain of certificates in PEM", path.display());
    let certificates: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).with_context(problem)?.collect();
    let certificates = certificates.with_context(problem)?;
    anyhow::ensure!(!certificates.is_empty(), problem());
    Ok(certificates)
}

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Acceptor")
    }
}
