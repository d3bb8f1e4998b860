//! Keys of administrators: made and revoked while nodes run, known to every node.
//!
//! The register `keys` holds what is known of each: its digest and never its secret, which is 256 random bits, so that the digest needs no
//! salt and no slowness. When keys were used last is in a register of its own, which is written once a minute for each key at the most, and
//! whose loss hurts nobody.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bongsu_protocol::message::Time;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::chance;
use crate::clock;
use crate::limits::{KEY_NAME_BYTES_MAX, KEY_USED_INTERVAL, KEYS_MAX};
use crate::registers::{ChangeError, Register, Registers};

/// What the secrets of keys begin with, so that whoever scans texts for secrets knows one.
pub const PREFIX: &str = "bongsu_key_";

/// Characters of a secret that are kept to tell keys apart: the prefix and four more, which leaves 232 bits to guess.
const SHOWN_BYTES: usize = PREFIX.len() + 4;

/// All keys.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRing {
    /// By name.
    pub keys: BTreeMap<String, Key>,
}

/// A key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// SHA-256 of the secret, in hexadecimal digits.
    sha256: String,
    /// How the secret begins.
    pub begins: String,
    /// What it may do: the name of a role.
    pub role: String,
    /// When it was made, in milliseconds since 1970.
    pub made_ms: u64,
    /// Who made it.
    pub by: String,
    /// When it ends, in milliseconds since 1970; `None`: it does not.
    pub expires_ms: Option<u64>,
}

/// When keys were used last, in milliseconds since 1970, by the digests of their secrets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Used(BTreeMap<String, u64>);

/// Why a key was not made or revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is a key of that name.
    #[error("there is a key of that name")]
    Exists,
    /// There is none.
    #[error("there is no key of that name")]
    Missing,
    /// Too many.
    #[error("there are at most {KEYS_MAX} keys")]
    Full,
    /// No name of a key.
    #[error("a key's name has letters, digits, `-`, `_` and `.`, from 1 to {KEY_NAME_BYTES_MAX}")]
    Name,
}

/// Whether there may be a key of that name already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// There may, or not.
    Either,
    /// There must not.
    Nothing,
    /// There must.
    One,
}

/// What came of asking for a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is this key, which holds.
    Known {
        /// Its name.
        name: String,
        /// Its role.
        role: String,
    },
    /// No key has this secret, or it has ended.
    Unknown,
    /// This node could not look at the keys yet.
    NotYet,
}

/// The keys of all nodes.
#[derive(Debug, Clone)]
pub struct Keys {
    ring: Register<KeyRing>,
    used: Register<Used>,
}

impl Keys {
    /// Follows the keys from now on.
    #[must_use]
    pub fn open(registers: &Registers) -> Self {
        Self { ring: registers.open("keys"), used: registers.open("keys-used") }
    }

    /// Whose secret this is. Every key is compared, in constant time each: how long it takes says nothing about any of them. Never waits.
    #[must_use]
    pub fn verify(&self, secret: &str) -> Verdict {
        if !self.ring.is_known() {
            return Verdict::NotYet;
        }
        let digest = digest_of(secret);
        let ring = self.ring.current();
        let mut found = None;
        for (name, key) in &ring.document.keys {
            if bool::from(key.sha256.as_bytes().ct_eq(digest.as_bytes())) {
                found = Some((name, key));
            }
        }
        let holds = |key: &Key| key.expires_ms.is_none_or(|expires| clock::wall().0 < expires);
        match found.filter(|(_, key)| holds(key)) {
            Some((name, key)) => {
                self.note_use(digest);
                Verdict::Known { name: name.clone(), role: key.role.clone() }
            }
            None => Verdict::Unknown,
        }
    }

    /// Whether there is any key, also one that has ended: whoever lets somebody in without a credential asks this first. `None`: this
    /// node could not look yet.
    #[must_use]
    pub fn any(&self) -> Option<bool> {
        self.ring.is_known().then(|| !self.ring.current().document.keys.is_empty())
    }

    /// The keys, as the store has them now, each with when it was used last.
    ///
    /// # Errors
    /// The store's.
    pub async fn list(&self) -> Result<Vec<(String, Key, Option<Time>)>, bongsu_persistence::store::Error> {
        let ring = self.ring.look().await?;
        // Only a convenience: what is known of it will do.
        let used = self.used.look().await.unwrap_or_else(|_| self.used.current());
        let used = &used.document.0;
        let keys = ring.document.keys.iter();
        Ok(keys
            .map(|(name, key)| (name.clone(), key.clone(), used.get(&key.sha256).map(|used| Time(*used))))
            .collect())
    }

    /// Makes a key, and gives out its secret, which nobody else ever has.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub async fn make(
        &self,
        by: &str,
        name: &str,
        role: &str,
        expires: Option<Time>,
        before: Before,
    ) -> Result<(Key, String), ChangeError<Refusal>> {
        let secret = format!("{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(chance::secret()));
        let key = Key {
            sha256: digest_of(&secret),
            begins: secret[..SHOWN_BYTES].to_owned(),
            role: role.to_owned(),
            made_ms: clock::wall().0,
            by: by.to_owned(),
            expires_ms: expires.map(|time| time.0),
        };
        let change = |ring: &KeyRing| {
            if !is_name(name) {
                return Err(Refusal::Name);
            }
            match (ring.keys.contains_key(name), before) {
                (true, Before::Nothing) => return Err(Refusal::Exists),
                (false, Before::One) => return Err(Refusal::Missing),
                (false, _) if ring.keys.len() >= KEYS_MAX => return Err(Refusal::Full),
                _ => {}
            }
            let mut ring = ring.clone();
            ring.keys.insert(name.to_owned(), key.clone());
            Ok(ring)
        };
        self.ring.change(None, by, change).await?;
        Ok((key, secret))
    }

    /// Revokes a key: no node takes it a second later.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub async fn revoke(&self, by: &str, name: &str) -> Result<(), ChangeError<Refusal>> {
        let change = |ring: &KeyRing| {
            let mut ring = ring.clone();
            ring.keys.remove(name).map(|_| ring).ok_or(Refusal::Missing)
        };
        self.ring.change(None, by, change).await.map(drop)
    }

    /// Writes down that a key was used, unless that was done lately.
    fn note_use(&self, digest: String) {
        let now = clock::wall().0;
        let known = self.used.current().document.0.get(&digest).copied().unwrap_or_default();
        let interval_ms = u64::try_from(KEY_USED_INTERVAL.as_millis()).unwrap_or(u64::MAX);
        if now.saturating_sub(known) < interval_ms {
            return;
        }
        let (used, ring) = (self.used.clone(), self.ring.clone());
        tokio::spawn(async move {
            let change = |used: &Used| {
                let before = used.0.get(&digest).copied().unwrap_or_default();
                if now.saturating_sub(before) < interval_ms {
                    return Err(());
                }
                let ring = ring.current().document;
                let mut used = used.clone();
                // What is known of keys that are gone goes with them.
                used.0.retain(|digest, _| ring.keys.values().any(|key| key.sha256 == *digest));
                used.0.insert(digest.clone(), now);
                Ok(used)
            };
            // Whoever was faster wrote the same; where the store is away it is not known, which hurts nobody.
            let _ = used.change(None, "", change).await;
        });
    }
}

fn digest_of(secret: &str) -> String {
    Sha256::digest(secret.as_bytes()).iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}

fn is_name(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !name.is_empty() && name.len() <= KEY_NAME_BYTES_MAX && name.chars().all(is_plain)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bongsu_persistence::memory::MemoryStore;
    use bongsu_persistence::store::Store;

    use super::*;
    use crate::bus::Bell;

    async fn node(store: &Arc<dyn Store>) -> Keys {
        let registers = Registers::new(store, None, &Bell::default());
        let keys = Keys::open(&registers);
        registers.caught_up().await;
        keys
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_holds_everywhere_until_it_is_revoked_or_ends() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let (one, other) = (node(&store).await, node(&store).await);
        assert_eq!(one.any(), Some(false));
        let (key, secret) = one.make("ada", "deploy", "operator", None, Before::Nothing).await.unwrap();
        assert!(secret.starts_with(&key.begins) && secret.len() == PREFIX.len() + 43, "{secret}");
        let known = Verdict::Known { name: "deploy".to_owned(), role: "operator".to_owned() };
        assert_eq!(one.verify(&secret), known);
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        assert_eq!(other.verify(&secret), known);
        assert_eq!(other.verify(&secret[..secret.len() - 1]), Verdict::Unknown);
        assert_eq!(other.verify(&key.sha256), Verdict::Unknown);

        one.revoke("ada", "deploy").await.unwrap();
        assert_eq!(one.verify(&secret), Verdict::Unknown);
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        assert_eq!(other.verify(&secret), Verdict::Unknown);

        let soon = Time(clock::wall().0 + 60_000);
        let (_, secret) = one.make("ada", "short", "viewer", Some(soon), Before::Either).await.unwrap();
        assert!(matches!(one.verify(&secret), Verdict::Known { .. }));
        let past = Time(clock::wall().0);
        let (_, secret) = one.make("ada", "short", "viewer", Some(past), Before::One).await.unwrap();
        assert_eq!(one.verify(&secret), Verdict::Unknown);
        assert_eq!(one.any(), Some(true), "one that has ended lets nobody in without a credential");
    }

    #[tokio::test(start_paused = true)]
    async fn the_store_never_has_the_secret_and_knows_of_its_use() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let keys = node(&store).await;
        let (_, secret) = keys.make("ada", "deploy", "admin", None, Before::Either).await.unwrap();
        let document = serde_json::to_string(&*keys.ring.current().document).unwrap();
        assert!(!document.contains(&secret[SHOWN_BYTES..]), "{document}");
        assert_eq!(keys.list().await.unwrap()[0].2, None);
        let _ = keys.verify(&secret);
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        assert!(keys.list().await.unwrap()[0].2.is_some());
        let head = keys.used.current().position;
        let _ = keys.verify(&secret);
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        assert_eq!(keys.used.current().position, head, "once a minute");
    }

    #[tokio::test]
    async fn names_and_what_was_there_before_are_checked() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let keys = node(&store).await;
        let make = async |name: &str, before| match keys.make("", name, "admin", None, before).await {
            Ok(_) => None,
            Err(ChangeError::Refused(refusal)) => Some(refusal),
            Err(error) => panic!("{error}"),
        };
        assert_eq!(make("a b", Before::Either).await, Some(Refusal::Name));
        assert_eq!(make("a", Before::One).await, Some(Refusal::Missing));
        assert_eq!(make("a", Before::Nothing).await, None);
        assert_eq!(make("a", Before::Nothing).await, Some(Refusal::Exists));
        assert!(matches!(keys.revoke("", "b").await, Err(ChangeError::Refused(Refusal::Missing))));
    }

    #[tokio::test]
    async fn nobody_is_let_in_before_the_keys_were_looked_at() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let keys = Keys::open(&Registers::new(&store, None, &Bell::default()));
        assert_eq!((keys.verify("x"), keys.any()), (Verdict::NotYet, None));
    }
}
