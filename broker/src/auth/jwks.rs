//! An issuer's public keys behind a URL: fetched, kept, and fetched again.
//!
//! ```text
//!   every jwks_refresh ──▶ fetch ──▶ a good set: takes the place of the one before
//!   an unknown kid ──▶ (not within jwks_cooldown of the last attempt)
//!                          └──────▶ anything else: the one before stays, until it is older than jwks_age_max
//! ```
//!
//! At most one fetch is under way. Whoever needs one waits for it, no longer than [`JWKS_DEADLINE`] twice.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header};

use super::keys::Key;
use super::keyset::{self, NoSet};
use crate::clock;
use crate::config::settings::Issuer;
use crate::http_client;
use crate::limits::{JWKS_DEADLINE, JWKS_RETRY_MAX};
use crate::metrics::METRICS;

/// A set of keys behind a URL.
#[derive(Debug)]
pub(super) struct Jwks {
    issuer: String,
    url: String,
    refresh: Duration,
    age_max: Duration,
    cooldown: Duration,
    state: Mutex<State>,
    /// Held by whoever fetches.
    fetching: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default, Clone)]
struct State {
    /// The last good set; empty before the first.
    keys: Arc<Vec<Key>>,
    /// When that came.
    fetched_at: Option<Duration>,
    /// When the last attempt ended, whatever came of it.
    tried_at: Option<Duration>,
}

/// Why there is no new set.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("{0}")]
    Request(#[from] http::Error),
    #[error("{0}")]
    Http(#[from] http_client::Error),
    #[error("it did not answer within {JWKS_DEADLINE:?}")]
    Slow,
    #[error("it answered {0}; redirects are not followed")]
    Status(StatusCode),
    #[error("{0}")]
    NoSet(#[from] NoSet),
}

/// What is known of the keys.
pub(super) enum Known {
    /// They are these.
    Keys(Arc<Vec<Key>>),
    /// There never was a good set, or the last one is too old.
    Nothing,
}

impl Jwks {
    /// Knows nothing yet.
    pub(super) fn new(issuer: &Issuer, url: &str) -> Self {
        Self {
            issuer: issuer.name.as_str().to_owned(),
            url: url.to_owned(),
            refresh: issuer.jwks_refresh,
            age_max: issuer.jwks_age_max,
            cooldown: issuer.jwks_cooldown,
            state: Mutex::default(),
            fetching: tokio::sync::Mutex::default(),
        }
    }

    /// The keys, as they are known.
    pub(super) fn known(&self) -> Known {
        let state = self.lock();
        let is_good = |at: &Duration| clock::monotonic().saturating_sub(*at) <= self.age_max;
        match state.fetched_at.as_ref().is_some_and(is_good) {
            true => Known::Keys(Arc::clone(&state.keys)),
            false => Known::Nothing,
        }
    }

    /// Fetches the set for somebody who did not find a key in it, unless that was tried a moment ago.
    pub(super) async fn look_again(&self) {
        if self.was_tried_within(self.cooldown) {
            return;
        }
        let _fetching = self.fetching.lock().await;
        // Whoever was first has done it for all who wait here.
        if !self.was_tried_within(self.cooldown) {
            self.fetch().await;
        }
    }

    /// Keeps the set fresh. Runs until it is dropped.
    pub(super) async fn keep(&self) {
        let mut retry = Duration::from_secs(1);
        loop {
            let is_good = {
                let _fetching = self.fetching.lock().await;
                self.fetch().await
            };
            let pause = if is_good { self.refresh } else { retry.min(self.refresh) };
            retry = if is_good { Duration::from_secs(1) } else { (retry * 2).min(JWKS_RETRY_MAX) };
            tokio::time::sleep(pause).await;
        }
    }

    /// Whether a good set came of it. To be called by whoever holds `fetching`.
    async fn fetch(&self) -> bool {
        let answer = tokio::time::timeout(JWKS_DEADLINE, self.ask()).await.unwrap_or(Err(Failed::Slow));
        let now = clock::monotonic();
        let mut state = self.lock();
        state.tried_at = Some(now);
        match answer {
            Ok(keys) => {
                METRICS.jwks_fetched.add(1);
                let names = |keys: &[Key]| keys.iter().map(|key| key.kid.clone()).collect::<Vec<_>>();
                if names(&state.keys) != names(&keys) {
                    tracing::info!(issuer = self.issuer, keys = ?names(&keys), "the issuer's keys are known");
                }
                state.keys = Arc::new(keys);
                state.fetched_at = Some(now);
                true
            }
            Err(error) => {
                METRICS.jwks_failures.add(1);
                let age = state.fetched_at.map(|at| (now - at).as_secs());
                tracing::warn!(issuer = self.issuer, url = self.url, %error, age_seconds = age, "the issuer's keys could not be fetched");
                false
            }
        }
    }

    async fn ask(&self) -> Result<Vec<Key>, Failed> {
        let request = Request::get(&self.url)
            .header(header::ACCEPT, "application/jwk-set+json, application/json")
            .body(Bytes::new())?;
        let answer = http_client::send(request).await?;
        if answer.status() != StatusCode::OK {
            return Err(Failed::Status(answer.status()));
        }
        Ok(keyset::parse(&self.issuer, answer.body())?)
    }

    fn was_tried_within(&self, time: Duration) -> bool {
        self.lock().tried_at.is_some_and(|at| clock::monotonic().saturating_sub(at) < time)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
