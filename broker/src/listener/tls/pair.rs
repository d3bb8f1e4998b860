//! A certificate and its key, as their files hold them: looked at again and again, and replaced for handshakes to come.
//!
//! Files are read whole and compared by what they hold, not by their times: so it does not matter how they are replaced, in place, by
//! renaming, or behind a symbolic link that is turned, as Kubernetes does with mounted secrets. A pair that was replaced by half, or by
//! something else, is complained of once, and the one before stays until a whole one is there.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::Duration;

use anyhow::Context as _;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;

use super::expiry;
use crate::clock;
use crate::limits::{TLS_FILE_BYTES_MAX, TLS_LOOK_INTERVAL};
use crate::metrics::METRICS;

/// The pairs that some port uses.
static IN_USE: Mutex<Vec<Weak<Current>>> = Mutex::new(Vec::new());

/// What TLS is made of.
pub(super) fn provider() -> CryptoProvider {
    ring::default_provider()
}

/// The pair that handshakes see.
#[derive(Debug)]
pub(super) struct Current {
    files: Files,
    pair: RwLock<Arc<CertifiedKey>>,
}

/// Where a pair is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

/// What the files hold.
#[derive(PartialEq, Eq)]
struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Current {
    /// The pair of these files, which is read unless another port uses it, and followed as long as anybody does.
    ///
    /// # Errors
    /// As `from_settings` has it.
    pub(super) fn of(certificate: &Path, key: &Path) -> anyhow::Result<Arc<Self>> {
        let files = Files { certificate: certificate.to_owned(), key: key.to_owned() };
        let mut in_use = IN_USE.lock().unwrap_or_else(PoisonError::into_inner);
        in_use.retain(|current| current.strong_count() > 0);
        if let Some(current) = in_use.iter().filter_map(Weak::upgrade).find(|current| current.files == files)
        {
            return Ok(current);
        }
        let contents = files.read()?;
        let pair = files.pair(&contents)?;
        tell_expiry(&pair);
        let current = Arc::new(Self { files, pair: RwLock::new(Arc::new(pair)) });
        in_use.push(Arc::downgrade(&current));
        tokio::spawn(follow(Arc::downgrade(&current), contents));
        Ok(current)
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.pair.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// Looks at the files until no port uses the pair.
async fn follow(current: Weak<Current>, mut seen: Contents) {
    let mut is_unreadable = false;
    loop {
        tokio::time::sleep(TLS_LOOK_INTERVAL).await;
        let Some(files) = current.upgrade().map(|current| current.files.clone()) else { return };
        let read = tokio::task::spawn_blocking(move || files.read().map(|contents| (files, contents))).await;
        let (files, contents) = match read {
            Ok(Ok(read)) => read,
            Ok(Err(error)) => {
                // Between two steps of whoever replaces them, perhaps.
                if !std::mem::replace(&mut is_unreadable, true) {
                    complain(&error);
                }
                continue;
            }
            // The runtime ends.
            Err(_) => return,
        };
        is_unreadable = false;
        if contents == seen {
            continue;
        }
        match files.pair(&contents) {
            Ok(pair) => {
                let Some(current) = current.upgrade() else { return };
                let expires = tell_expiry(&pair);
                *current.pair.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(pair);
                METRICS.tls_reloads.add(1);
                tracing::info!(certificate = %files.certificate.display(), expires, "new TLS handshakes see the new certificate");
            }
            Err(error) => complain(&error),
        }
        seen = contents;
    }
}

fn complain(error: &anyhow::Error) {
    METRICS.tls_reload_failures.add(1);
    tracing::error!(error = %format!("{error:#}"), "the new certificate cannot be used: handshakes see the one before");
}

/// Tells until when the pair is valid, in seconds since 1970, and warns if that is over.
fn tell_expiry(pair: &CertifiedKey) -> u64 {
    let expires = pair.cert.first().and_then(|certificate| expiry::not_after(certificate)).unwrap_or(0);
    METRICS.tls_certificate_expires.set(expires);
    let left = Duration::from_secs(expires).saturating_sub(Duration::from_millis(clock::wall().0));
    if expires > 0 && left.is_zero() {
        tracing::warn!(expires, "the TLS certificate has expired: clients will not take it");
    }
    expires
}

impl Files {
    fn read(&self) -> anyhow::Result<Contents> {
        let certificate = read(&self.certificate)
            .with_context(|| format!("tls.certificate: {} cannot be read", self.certificate.display()))?;
        let key =
            read(&self.key).with_context(|| format!("tls.key: {} cannot be read", self.key.display()))?;
        Ok(Contents { certificate, key })
    }

    fn pair(&self, contents: &Contents) -> anyhow::Result<CertifiedKey> {
        let problem = || {
            format!("tls.certificate: {} is not a chain of certificates in PEM", self.certificate.display())
        };
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&contents.certificate).collect();
        let chain = chain.with_context(problem)?;
        anyhow::ensure!(!chain.is_empty(), problem());
        let key = PrivateKeyDer::from_pem_slice(&contents.key)
            .with_context(|| format!("tls.key: {} is not a private key in PEM", self.key.display()))?;
        CertifiedKey::from_der(chain, key, &provider())
            .context("tls.certificate and tls.key do not belong together")
    }
}

/// A file's bytes, as far as it is no longer than any certificate.
fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(TLS_FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > TLS_FILE_BYTES_MAX {
        return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, "it is longer than 1 MiB"));
    }
    Ok(bytes)
}
