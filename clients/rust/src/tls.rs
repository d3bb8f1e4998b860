//! TLS for `wss`.

use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

use crate::error::Disconnected;

/// Performs the TLS handshake as `host`'s client.
pub(crate) async fn handshake(
    socket: TcpStream,
    host: &str,
    config: Option<Arc<ClientConfig>>,
) -> Result<TlsStream<TcpStream>, Disconnected> {
    let config = match config {
        Some(config) => config,
        None => Arc::new(default_config()?),
    };
    let name = ServerName::try_from(host.to_owned()).map_err(|error| Disconnected::Tls(error.to_string()))?;
    Ok(TlsConnector::from(config).connect(name, socket).await?)
}

/// Trusts what the crate's features say. The provider is named: where an application links several, there is no default one.
fn default_config() -> Result<ClientConfig, Disconnected> {
    let builder = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Disconnected::Tls(error.to_string()))?;
    let roots = roots();
    if roots.is_empty() {
        return Err(Disconnected::Tls("no trust roots were found".to_owned()));
    }
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn roots() -> RootCertStore {
    #[cfg_attr(not(any(feature = "tls-native-roots", feature = "tls-webpki-roots")), expect(unused_mut))]
    let mut roots = RootCertStore::empty();
    #[cfg(feature = "tls-native-roots")]
    {
        let found = rustls_native_certs::load_native_certs();
        for error in found.errors {
            tracing::warn!(%error, "some of this machine's trust roots cannot be read");
        }
        roots.add_parsable_certificates(found.certs);
    }
    #[cfg(feature = "tls-webpki-roots")]
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    roots
}
