//! Which node has which HTTP session, and the secret by which nodes know each other: what they need to answer for one another.

use std::fmt;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::registry::{take, unexpected};
use super::{Error, Registry, scripts};

/// What stands for an HTTP session in Redis: a digest, since a session's own name is its key as well, and as long as a client likes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionKey([u8; 16]);

impl SessionKey {
    /// The key of a session.
    #[must_use]
    pub fn of(session: &str) -> Self {
        let digest = Sha256::digest(session.as_bytes());
        let (half, _) = digest.split_first_chunk().expect("32 bytes begin with 16");
        Self(*half)
    }
}

impl fmt::Display for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Registry {
    /// Says that `owner` has these sessions for the `lifetime`, unless another node said so before, and tells the owner of each.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: some or all may have been written. Say it again.
    pub async fn own(
        &self,
        sessions: &[SessionKey],
        owner: &str,
        lifetime: Duration,
    ) -> Result<Vec<String>, Error> {
        if sessions.is_empty() {
            return Ok(Vec::new());
        }
        let lifetime_ms = lifetime.as_millis().to_string();
        let keys = self.session_keys(sessions);
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let answer = self.script(&scripts::OWN, &keys, &[owner.as_bytes(), lifetime_ms.as_bytes()]).await?;
        let owners: Vec<String> = take(answer)?;
        if owners.len() == sessions.len() {
            Ok(owners)
        } else {
            Err(unexpected(&"as many owners as sessions were expected"))
        }
    }

    /// Says that these sessions of `owner` ended. Others stay as they are.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: some or all may be there still, until their lifetime ends.
    pub async fn disown(&self, sessions: &[SessionKey], owner: &str) -> Result<(), Error> {
        if sessions.is_empty() {
            return Ok(());
        }
        let keys = self.session_keys(sessions);
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        self.script(&scripts::DISOWN, &keys, &[owner.as_bytes()]).await?;
        Ok(())
    }

    /// Which node said that it has the session; `None`: nobody.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: Redis does not say.
    pub async fn owner(&self, session: SessionKey) -> Result<Option<String>, Error> {
        let key = self.keys.session(session);
        let mut command = redis::cmd("GET");
        command.arg(&key);
        take(self.commands.query(&key, &command).await?)
    }

    /// The secret by which nodes know each other: `candidate`, where nobody gave one before.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: Redis does not say.
    pub async fn secret(&self, candidate: &str) -> Result<String, Error> {
        take(self.script(&scripts::SECRET, &[&self.keys.secret], &[candidate.as_bytes()]).await?)
    }

    fn session_keys(&self, sessions: &[SessionKey]) -> Vec<String> {
        sessions.iter().map(|session| self.keys.session(*session)).collect()
    }
}
