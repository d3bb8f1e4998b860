//! Who a client is and what it may do.

mod identity;

use std::sync::Arc;

use bongsu_protocol::command::Token;
use bongsu_protocol::reason::{Error, ErrorCode};
use bongsu_protocol::session::Grants;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::config::Settings;

pub use identity::{Identity, Limits};

/// Knows the tokens of the settings.
#[derive(Debug)]
pub struct Authenticator {
    /// Digest of each token, and whose it is.
    tokens: Vec<([u8; 32], Arc<Identity>)>,
    anonymous: Arc<Identity>,
}

impl Authenticator {
    /// Takes the tokens and the anonymous grant of the settings.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        let known = |token: &crate::config::settings::Token| {
            let grants = Grants {
                subject: token.name.as_str().to_owned(),
                subscribe: token.subscribe.clone(),
                history: token.history.clone(),
                publish: token.publish.clone(),
                presence: token.presence.clone(),
            };
            (*token.sha256.as_bytes(), Arc::new(Identity::of(grants)))
        };
        let grant = settings.anonymous();
        let anonymous = Grants {
            subject: String::new(),
            subscribe: grant.subscribe,
            history: grant.history,
            publish: grant.publish,
            presence: grant.presence,
        };
        Self {
            tokens: settings.auth.tokens.0.iter().map(known).collect(),
            anonymous: Arc::new(Identity::of(anonymous)),
        }
    }

    /// What a client without a token may do.
    #[must_use]
    pub const fn anonymous(&self) -> &Arc<Identity> {
        &self.anonymous
    }

    /// Whether there is any token that could be known.
    #[must_use]
    pub const fn knows_tokens(&self) -> bool {
        !self.tokens.is_empty()
    }

    /// Whose a token is. It may wait for the keys of its issuer, for as long as an issuer is waited for.
    ///
    /// # Errors
    /// `unauthenticated` if the token is not known: the client needs another one. `unavailable` if nobody can tell now.
    #[expect(clippy::unused_async, reason = "the keys of issuers are waited for")]
    pub async fn verify(&self, token: &Token) -> Result<Arc<Identity>, Error> {
        let digest: [u8; 32] = Sha256::digest(token.0.as_bytes()).into();
        // Every token is compared, in constant time each: how long it takes says nothing about any of them.
        let mut found = None;
        for (known, identity) in &self.tokens {
            if bool::from(known.ct_eq(&digest)) {
                found = Some(identity);
            }
        }
        found.cloned().ok_or_else(|| Error::new(ErrorCode::Unauthenticated, "this token is not known here"))
    }
}
