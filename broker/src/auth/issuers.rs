//! Who signs tokens, by which keys, and what their tokens mean.
//!
//! A token is judged in this order, so that whoever sends many bad ones costs little: its envelope, its claims, its issuer, the times,
//! the key it names; only then its signature, which costs some 50 microseconds; and last what it grants.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use bongsu_protocol::message::Time;
use bongsu_protocol::session::Grants;
use serde_json::Value;

use super::claims::Claims;
use super::jwks::{Jwks, Known};
use super::jwt::{self, Unverified};
use super::keys::Key;
use super::permissions::Permissions;
use super::refused::Refused;
use super::{Identity, Role, Wish, keyset, template};
use crate::clock;
use crate::config::settings::Issuer as Settings;
use crate::config::{Algorithm, Name};
use crate::limits::{KEY_FILE_BYTES_MAX, KEY_FILE_INTERVAL};
use crate::metrics::TokenRefusal;

/// What a token says, once its signature was found good.
#[derive(Debug, Clone)]
pub(super) struct Verified {
    /// Whose it is and what it grants.
    pub(super) identity: Identity,
    /// Which role its bearer has as an administrator.
    pub(super) role: Option<Role>,
    /// The issuer's name in the settings.
    pub(super) issuer: String,
}

/// Somebody who signs tokens.
#[derive(Debug)]
pub(super) struct Issuer {
    settings: Settings,
    algorithms: Vec<Algorithm>,
    source: Source,
}

/// Where its keys are.
#[derive(Debug)]
enum Source {
    File(KeyFile),
    Url(Jwks),
}

/// Keys in a file.
#[derive(Debug)]
struct KeyFile {
    path: PathBuf,
    kind: FileKind,
    /// What it held when it could be read last.
    keys: RwLock<Arc<Vec<Key>>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FileKind {
    Secret,
    PublicKey,
    Set,
}

impl Issuer {
    /// Takes what the settings say of it. Keys in a file are read; where that fails, there are none yet.
    pub(super) fn new(settings: &Settings) -> Self {
        let algorithms = settings.algorithms();
        let file = |path: &PathBuf, kind| {
            let file = KeyFile { path: path.clone(), kind, keys: RwLock::default() };
            file.load(settings.name.as_str(), &algorithms, &mut None);
            Source::File(file)
        };
        let source = match settings {
            Settings { secret_file: Some(path), .. } => file(path, FileKind::Secret),
            Settings { public_key_file: Some(path), .. } => file(path, FileKind::PublicKey),
            Settings { jwks_file: Some(path), .. } => file(path, FileKind::Set),
            Settings { jwks_url: Some(url), .. } => Source::Url(Jwks::new(settings, url.reveal())),
            // Refused with the settings; such an issuer has no keys.
            _ => file(&PathBuf::new(), FileKind::Set),
        };
        Self { settings: settings.clone(), algorithms, source }
    }

    /// Whether there is a key, or one may be fetched.
    pub(super) fn has_keys(&self) -> bool {
        match &self.source {
            Source::File(file) => !file.known().is_empty(),
            Source::Url(_) => true,
        }
    }

    /// Its name in the settings.
    pub(super) fn name(&self) -> &str {
        self.settings.name.as_str()
    }

    /// Whether its tokens name this `iss`.
    pub(super) fn is_called(&self, iss: &str) -> bool {
        self.settings.issuer.as_str() == iss
    }

    /// Looks for new keys again and again. Runs until it is dropped.
    pub(super) async fn keep(&self) {
        match &self.source {
            Source::Url(jwks) => jwks.keep().await,
            Source::File(file) => {
                let mut last = None;
                loop {
                    file.load(self.name(), &self.algorithms, &mut last);
                    tokio::time::sleep(KEY_FILE_INTERVAL).await;
                }
            }
        }
    }

    /// Judges everything but the signature: what costs nothing comes first.
    pub(super) fn judge(&self, token: &Unverified<'_>, claims: &Claims, now: Time) -> Result<(), Refused> {
        if !self.algorithms.contains(&token.algorithm) {
            let text = "the token's `alg` is none of its issuer's";
            return Err(Refused::new(TokenRefusal::Algorithm, text));
        }
        self.judge_times(claims, now)?;
        let audiences = claims.audiences()?;
        let own = &self.settings.audience;
        let is_for_us = match own.is_empty() {
            true => audiences.is_empty(),
            false => audiences.iter().any(|audience| own.iter().any(|own| own.as_str() == audience)),
        };
        if !is_for_us {
            let text = "the token is not for this broker: its `aud` must name one of the issuer's `audience`, and be absent where that is empty";
            return Err(Refused::new(TokenRefusal::Audience, text));
        }
        Ok(())
    }

    fn judge_times(&self, claims: &Claims, now: Time) -> Result<(), Refused> {
        let leeway = milliseconds(self.settings.leeway);
        let (from, until) = self.lifetime(claims)?;
        if until.0.saturating_add(leeway) <= now.0 {
            return Err(Refused::new(TokenRefusal::Expired, "the token has expired: get a new one"));
        }
        if claims.time("nbf")?.is_some_and(|begin| begin.0 > now.0.saturating_add(leeway)) {
            return Err(Refused::new(
                TokenRefusal::Early,
                "the token does not hold yet: its `nbf` is to come",
            ));
        }
        if from.0 > now.0.saturating_add(leeway) {
            let text = "the token was issued in the future: the issuer's clock and this broker's are apart";
            return Err(Refused::new(TokenRefusal::Early, text));
        }
        if until.0.saturating_sub(from.0) > milliseconds(self.settings.token_lifetime_max) {
            let text = "the token lives longer than `token_lifetime_max`: get one that ends sooner";
            return Err(Refused::new(TokenRefusal::Lifetime, text));
        }
        Ok(())
    }

    /// When the token was issued and when it ends. One that does not say when it was issued counts as issued as long before its end as a
    /// token may live, so that whatever was revoked by that time stays so.
    fn lifetime(&self, claims: &Claims) -> Result<(Time, Time), Refused> {
        let until = claims.time("exp")?.ok_or_else(|| {
            Refused::new(TokenRefusal::Lifetime, "the token never ends: it needs the claim `exp`")
        })?;
        let earliest = || Time(until.0.saturating_sub(milliseconds(self.settings.token_lifetime_max)));
        Ok((claims.time("iat")?.unwrap_or_else(earliest), until))
    }

    /// Checks the signature, by whatever key can be meant. May wait for keys to be fetched.
    pub(super) async fn verify(&self, token: &Unverified<'_>) -> Result<(), Refused> {
        let found = match (&self.source, self.find(token)) {
            (Source::Url(jwks), Err(_)) => {
                jwks.look_again().await;
                self.find(token)?
            }
            (_, found) => found?,
        };
        if found.verify(token.algorithm, token.signed, &token.signature) {
            Ok(())
        } else {
            Err(Refused::new(TokenRefusal::Signature, "the token's signature is not its issuer's"))
        }
    }

    /// The one key that the token can be signed with.
    fn find(&self, token: &Unverified<'_>) -> Result<Key, Refused> {
        let unavailable = || {
            Refused::new(
                TokenRefusal::KeysUnavailable,
                "the keys of the token's issuer are not known just now",
            )
        };
        let keys = match &self.source {
            Source::File(file) => file.known(),
            Source::Url(jwks) => match jwks.known() {
                Known::Keys(keys) => keys,
                Known::Nothing => return Err(unavailable()),
            },
        };
        if keys.is_empty() {
            return Err(unavailable());
        }
        // A key of its own file needs no name, whatever the token calls it.
        let is_named = |key: &&Key| match (&token.kid, &key.kid) {
            (_, None) if keys.len() == 1 && matches!(self.source, Source::File(_)) => true,
            (None, _) => true,
            (kid, own) => kid == own,
        };
        let mut fitting = keys.iter().filter(is_named).filter(|key| key.fits(token.algorithm));
        match (fitting.next(), fitting.next()) {
            (Some(key), None) => Ok(key.clone()),
            (None, _) => {
                let text = "no key of the token's issuer has its `kid` and goes with its `alg`";
                Err(Refused::new(TokenRefusal::Key, text))
            }
            (Some(_), Some(_)) => {
                let text = "the token's issuer has several such keys: the token must say which, by `kid`";
                Err(Refused::new(TokenRefusal::Key, text))
            }
        }
    }

    /// What a good token says.
    pub(super) fn read(&self, claims: &Claims) -> Result<Verified, Refused> {
        let settings = &self.settings;
        let subject = claims.subject(settings.subject_claim.as_str())?;
        let permissions = match claims.raw(settings.claim.as_str()) {
            Some(claim) => Permissions::parse(settings.claim.as_str(), claim)?,
            None => Permissions {
                subscribe: settings.subscribe.clone(),
                history: settings.history.clone(),
                publish: settings.publish.clone(),
                presence: settings.presence.clone(),
                ..Permissions::default()
            },
        };
        let fill = |filters| {
            template::fill(filters, &subject)
                .map_err(|unfit| Refused::new(TokenRefusal::Subject, unfit.to_string()))
        };
        let grants = Grants {
            subscribe: fill(&permissions.subscribe)?,
            history: fill(&permissions.history)?,
            publish: fill(&permissions.publish)?,
            presence: fill(&permissions.presence)?,
            subject,
        };
        let (issued_at, expires_at) = self.lifetime(claims)?;
        let identity = Identity {
            grants: Arc::new(grants),
            token_id: claims.id()?.map(Arc::from),
            issued_at: Some(issued_at),
            // The leeway is for the clocks: whoever is here stays until it is surely over.
            expires_at: Some(Time(expires_at.0.saturating_add(milliseconds(settings.leeway)))),
            limits: permissions.limits,
        };
        Ok(Verified { identity, role: self.role(claims), issuer: self.name().to_owned() })
    }

    /// Whether its tokens can have a role.
    pub(super) fn knows_roles(&self) -> bool {
        let Settings { viewers, operators, admins, .. } = &self.settings;
        [viewers, operators, admins].into_iter().any(|values| !values.is_empty())
    }

    fn role(&self, claims: &Claims) -> Option<Role> {
        let settings = &self.settings;
        let roles = [
            (&settings.admins, Role::Admin),
            (&settings.operators, Role::Operator),
            (&settings.viewers, Role::Viewer),
        ];
        let held = claims.texts(settings.roles_claim.as_str());
        let has = |values: &[Name]| values.iter().any(|value| held.iter().any(|held| held == value.as_str()));
        roles.into_iter().find(|(values, _)| has(values)).map(|(_, role)| role)
    }

    /// Signs a token, for who wants to try something out; `None` where this node has only public keys.
    pub(super) fn mint(&self, wish: &Wish<'_>) -> Option<String> {
        let Source::File(file) = &self.source else { return None };
        let settings = &self.settings;
        let now = clock::wall().0 / 1000;
        let mut claims = serde_json::Map::new();
        let mut put = |name: &str, value: Value| drop(claims.insert(name.to_owned(), value));
        put("iss", settings.issuer.as_str().into());
        put("iat", now.into());
        put("exp", now.saturating_add(wish.lifetime.as_secs()).into());
        put("jti", wish.id.into());
        if let Some(audience) = settings.audience.first() {
            put("aud", audience.as_str().into());
        }
        if let Some(permissions) = wish.permissions {
            put(settings.claim.as_str(), permissions.clone());
        }
        put(settings.subject_claim.as_str(), wish.subject.into());
        let payload = serde_json::to_vec(&claims).ok()?;
        jwt::sign(file.known().first()?, *self.algorithms.first()?, &payload)
    }
}

impl KeyFile {
    fn known(&self) -> Arc<Vec<Key>> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the file again, if it holds something else than `last`. What cannot be taken is told, once, and changes nothing.
    fn load(&self, issuer: &str, algorithms: &[Algorithm], last: &mut Option<Result<Vec<u8>, String>>) {
        let read = read(&self.path);
        if last.as_ref() == Some(&read) {
            return;
        }
        let is_first = last.is_none();
        let keys = read.clone().and_then(|bytes| self.parse(issuer, algorithms, &bytes));
        *last = Some(read);
        match keys {
            Ok(keys) => {
                let mut known = self.keys.write().unwrap_or_else(PoisonError::into_inner);
                *known = Arc::new(keys);
                if !is_first {
                    tracing::info!(issuer, file = %self.path.display(), "keys of the issuer were read again");
                }
            }
            Err(error) => {
                tracing::error!(issuer, file = %self.path.display(), error, "keys of the issuer cannot be read");
            }
        }
    }

    fn parse(&self, issuer: &str, algorithms: &[Algorithm], bytes: &[u8]) -> Result<Vec<Key>, String> {
        match self.kind {
            FileKind::Secret => {
                Key::from_secret(bytes, algorithms).map(|key| vec![key]).map_err(|e| e.to_string())
            }
            FileKind::PublicKey => Key::from_pem(bytes).map(|key| vec![key]).map_err(|e| e.to_string()),
            FileKind::Set => keyset::parse(issuer, bytes).map_err(|e| e.to_string()),
        }
    }
}

/// A small file, whole. Short reads of local files are made in place.
fn read(path: &Path) -> Result<Vec<u8>, String> {
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    // Devices have no length, so it is read that says whether it is too long.
    file.take(KEY_FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > KEY_FILE_BYTES_MAX {
        return Err(format!("it has more than {KEY_FILE_BYTES_MAX} bytes"));
    }
    Ok(bytes)
}

fn milliseconds(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
