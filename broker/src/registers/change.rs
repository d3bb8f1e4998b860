//! Changes a register, by an append on the condition that nobody else did.

use std::time::Duration;

use bongsu_persistence::store;
use bongsu_protocol::position::Position;

use super::{Document, Register, Versioned};
use crate::chance;
use crate::limits::{REGISTER_ATTEMPTS_MAX, REGISTER_BYTES_MAX, REGISTER_PAUSE_MAX_MS, REGISTER_TRIM_EVERY};

/// Why a register was not changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError<R> {
    /// Whoever wanted the change does not, as the document stands.
    #[error("the change was refused")]
    Refused(R),
    /// Somebody changed it since the version that was expected: read it again, and decide anew.
    #[error("the newest version is {newest}")]
    Conflict {
        /// The newest version that this node can read.
        newest: Position,
    },
    /// Others were faster every time. Try again.
    #[error("too many others change it at the same time")]
    Contended,
    /// A later version of the broker wrote the newest version, {head}, which this one cannot read. Change it on a node of that version.
    #[error("version {head} was written by a later version of the broker, which alone can change it")]
    Unreadable {
        /// The newest version.
        head: Position,
    },
    /// The document would be too large: take something out of it.
    #[error("the document would have {bytes} bytes, and may have {REGISTER_BYTES_MAX}")]
    TooLarge {
        /// How large.
        bytes: usize,
    },
    /// The store did not do it, or did not say so: it may have been changed all the same. Look, and change it again.
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl<T: Document> Register<T> {
    /// Changes the document in somebody's name, to what `change` makes of the newest one. When this returns, the change is in the store,
    /// holds on this node, and on every other one within milliseconds where the bus is well, within a second where it is not, and as
    /// soon as it is back where the node is away.
    ///
    /// With an expected version it changes only that one. Without, `change` is asked again where somebody else was faster.
    ///
    /// # Errors
    /// See [`ChangeError`]; nothing was changed, but for what is said of [`ChangeError::Store`].
    pub async fn change<R>(
        &self,
        expected: Option<Position>,
        by: &str,
        change: impl Fn(&T) -> Result<T, R> + Send,
    ) -> Result<Versioned<T>, ChangeError<R>> {
        let register = &*self.0;
        for attempt in 0..REGISTER_ATTEMPTS_MAX {
            if attempt > 0 {
                let pause_ms = chance::range(0..=REGISTER_PAUSE_MAX_MS);
                tokio::time::sleep(Duration::from_millis(pause_ms)).await;
            }
            let known = self.look().await?;
            if expected.is_some_and(|expected| expected != known.position) {
                return Err(ChangeError::Conflict { newest: known.position });
            }
            if known.head != known.position {
                return Err(ChangeError::Unreadable { head: known.head });
            }
            let document = change(&known.document).map_err(ChangeError::Refused)?;
            let payload = serde_json::to_vec(&document)
                .map_err(|error| store::Error::Corrupt(format!("a document has no JSON form: {error}")))?;
            if payload.len() > REGISTER_BYTES_MAX {
                return Err(ChangeError::TooLarge { bytes: payload.len() });
            }
            let appended = register.log.append(document, payload.into(), by, known.position).await?;
            if let Some(version) = appended {
                register.take_up(&known, version.clone());
                register.ringer.ring(register.log.topic.as_str());
                if version.position.offset.0.is_multiple_of(REGISTER_TRIM_EVERY) {
                    register.log.trim().await;
                }
                return Ok(version);
            }
        }
        Err(ChangeError::Contended)
    }
}
