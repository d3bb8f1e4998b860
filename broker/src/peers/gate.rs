//! The port for nodes: where this one is found, and the secret that its operator gave.

use std::io::Read as _;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use super::signature::Secret;
use crate::config::Settings;
use crate::limits::{PEER_SECRET_BYTES_MAX, PEER_SECRET_BYTES_MIN};

/// The bound port for nodes, not yet served.
#[derive(Debug)]
pub struct Gate {
    pub(super) tcp: TcpListener,
    /// Where other nodes find it.
    pub(super) url: String,
    /// `None`: the nodes agree on one in Redis.
    pub(super) secret: Option<Secret>,
}

/// Why a node cannot have a port for others.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// The address is taken, or none of this machine's.
    #[error("cannot listen on {address}: choose another address with --set cluster.listen=…")]
    Address {
        /// The address of the settings.
        address: SocketAddr,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The file with the secret cannot be read.
    #[error("cannot read cluster.secret_file {}", path.display())]
    File {
        /// The file of the settings.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// What is in the file could be guessed, or is no secret at all.
    #[error("cluster.secret_file {} holds {bytes} bytes: it takes 16 to 4096", path.display())]
    Secret {
        /// The file of the settings.
        path: PathBuf,
        /// How much is in it, without white space around it; one more than is taken stands for all that are too many.
        bytes: usize,
    },
}

impl Gate {
    /// Binds `cluster.listen` and reads `cluster.secret_file`; `None` where no other node is to reach this one.
    ///
    /// # Errors
    /// What the operator must change.
    pub fn bind(settings: &Settings) -> Result<Option<Self>, GateError> {
        let Some(address) = settings.cluster.listen else { return Ok(None) };
        let tcp = TcpListener::bind(address).map_err(|source| GateError::Address { address, source })?;
        let bound = tcp.set_nonblocking(true).and_then(|()| tcp.local_addr());
        let bound = bound.map_err(|source| GateError::Address { address, source })?;
        let advertised = settings.cluster.advertise.as_ref();
        let url = advertised.map_or_else(|| format!("http://{bound}"), |url| url.reveal().to_owned());
        let secret = settings.cluster.secret_file.as_deref().map(read_secret).transpose()?;
        Ok(Some(Self { tcp, url, secret }))
    }

    /// Where other nodes find it.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }
}

fn read_secret(path: &Path) -> Result<Secret, GateError> {
    let mut text = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(PEER_SECRET_BYTES_MAX + 1).read_to_end(&mut text))
        .map_err(|source| GateError::File { path: path.to_owned(), source })?;
    let is_too_long = text.len() as u64 > PEER_SECRET_BYTES_MAX;
    let secret = text.trim_ascii();
    if is_too_long || secret.len() < PEER_SECRET_BYTES_MIN {
        return Err(GateError::Secret { path: path.to_owned(), bytes: secret.len() });
    }
    Ok(Secret::new(secret))
}
