//! Who a client is and what it may do.
//!
//! | module | what it knows |
//! |---|---|
//! | `identity` | what a verified credential says |
//! | `jwt`, `claims`, `permissions`, `template` | what a signed token says: its envelope, its claims, what it grants, and `{sub}` |
//! | `keys`, `keyset`, `jwks` | keys, sets of them, and sets behind a URL |
//! | `issuers` | who signs tokens, by which keys, and what their tokens mean |
//! | `expiry` | when a token ends, and the warning before |
//! | `tickets` | what is good for one handshake, in the place of a token |
//! | `refused` | why a token is no good |

mod claims;
mod expiry;
mod identity;
mod issuers;
mod jwks;
mod jwt;
mod keys;
mod keyset;
mod permissions;
mod refused;
mod template;
#[cfg(test)]
mod tests;
mod tickets;

use std::sync::Arc;
use std::time::Duration;

use bongsu_persistence::store::Store;
use bongsu_protocol::command::Token;
use bongsu_protocol::reason::{CloseReason, Error, ErrorCode, Goodbye};
use bongsu_protocol::session::Grants;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::clock;
use crate::config::Settings;
use crate::metrics::TokenRefusal;

pub use expiry::{Due, Expiry, farewell};
pub use identity::{Identity, Limits, Role};
pub use refused::Refused;
pub use tickets::Ticket;

use claims::Claims;
use issuers::{Issuer, Verified};
use jwt::Unverified;
use tickets::Tickets;

/// What a good token says.
#[derive(Debug, Clone)]
pub struct Inspected {
    /// Whose it is and what it grants.
    pub identity: Identity,
    /// Who signed it, as the settings call it; `None` for a token of the settings.
    pub issuer: Option<String>,
    /// Which role its bearer has as an administrator.
    pub role: Option<Role>,
}

/// What a token should say that is signed here.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'a> {
    /// The issuer's name in the settings.
    pub issuer: Option<&'a str>,
    /// Whose it is.
    pub subject: &'a str,
    /// Its own name.
    pub id: &'a str,
    /// How long it is good.
    pub lifetime: Duration,
    /// The claim that says what its bearer may do; `None` leaves it out.
    pub permissions: Option<&'a serde_json::Value>,
}

/// The end of a connection whose token was refused.
#[must_use]
pub fn goodbye(error: Error) -> Goodbye {
    let reason = match error.code {
        ErrorCode::Forbidden => CloseReason::Forbidden,
        ErrorCode::Unavailable | ErrorCode::Internal => CloseReason::Internal,
        _ => CloseReason::Unauthenticated,
    };
    Goodbye { retry_after_ms: error.retry_after_ms, ..Goodbye::new(reason, error.text) }
}

/// Knows the tokens of the settings, and those that issuers of the settings sign.
#[derive(Debug)]
pub struct Authenticator {
    /// Digest of each token, and whose it is.
    tokens: Vec<([u8; 32], Arc<Identity>)>,
    issuers: Vec<Issuer>,
    anonymous: Arc<Identity>,
    /// `None`: there are none.
    tickets: Option<Tickets>,
}

impl Authenticator {
    /// Takes the tokens and the anonymous grant of the settings.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        let known = |token: &crate::config::settings::Token| {
            let subject = token.name.as_str();
            // Whether the name fits was looked at with the settings: one that does not gets nothing.
            let fill = |filters| template::fill(filters, subject).unwrap_or_default();
            let grants = Grants {
                subject: subject.to_owned(),
                subscribe: fill(&token.subscribe),
                history: fill(&token.history),
                publish: fill(&token.publish),
                presence: fill(&token.presence),
            };
            // Named, so that it can be revoked, too.
            let token_id = Some(token.name.as_str().into());
            (*token.sha256.as_bytes(), Arc::new(Identity { token_id, ..Identity::of(grants) }))
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
            issuers: settings.auth.issuers.0.iter().map(Issuer::new).collect(),
            anonymous: Arc::new(Identity::of(anonymous)),
            tickets: None,
        }
    }

    /// Makes tickets and takes them, by this store, which all nodes share.
    #[must_use]
    pub fn with_tickets(self, store: Arc<dyn Store>) -> Self {
        Self { tickets: Some(Tickets::new(store)), ..self }
    }

    /// Makes a ticket that is good for one handshake or request of this identity, on any node, within
    /// [`TICKET_LIFETIME`](crate::limits::TICKET_LIFETIME).
    ///
    /// # Errors
    /// `unauthenticated` for somebody who showed no token: there is nothing to keep out of a URL. `unavailable` while the store does not answer.
    pub async fn mint_ticket(&self, identity: &Identity) -> Result<Ticket, Error> {
        match &self.tickets {
            Some(tickets) if !identity.subject().is_empty() => Ok(tickets.mint(identity).await?),
            _ => {
                Err(Error::new(ErrorCode::Unauthenticated, "a ticket is for the bearer of a token: send one"))
            }
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
        !self.tokens.is_empty() || !self.issuers.is_empty()
    }

    /// The issuers whose keys could not be read, by name. A node whose operator said who signs should not start without knowing by what.
    #[must_use]
    pub fn without_keys(&self) -> Vec<&str> {
        self.issuers.iter().filter(|issuer| !issuer.has_keys()).map(Issuer::name).collect()
    }

    /// Keeps the keys of all issuers fresh. Runs until it is dropped.
    pub async fn keep_keys(&self) {
        futures_util::future::join_all(self.issuers.iter().map(Issuer::keep)).await;
    }

    /// Whose a token is. It may wait for the keys of its issuer, for as long as an issuer is waited for.
    ///
    /// # Errors
    /// `unauthenticated` if the token is no good: the client needs another one, and the text says why. `unavailable` if nobody can tell now.
    pub async fn verify(&self, token: &Token) -> Result<Arc<Identity>, Error> {
        if let Some(identity) = self.known(token) {
            return Ok(Arc::clone(identity));
        }
        if let Some(tickets) = &self.tickets
            && tickets::is_meant(&token.0)
        {
            return Ok(Arc::new(tickets.redeem(&token.0).await?));
        }
        Ok(Arc::new(self.verify_signed(&token.0).await?.identity))
    }

    /// Which role an administrator has by a token that an issuer signed: none if its issuer gives it none.
    ///
    /// # Errors
    /// As [`verify`](Self::verify).
    pub async fn role_of(&self, token: &Token) -> Result<Inspected, Error> {
        let Verified { identity, role, issuer } = self.verify_signed(&token.0).await?;
        Ok(Inspected { identity, issuer: Some(issuer), role })
    }

    /// Whether the tokens of some issuer can have a role.
    #[must_use]
    pub fn knows_roles(&self) -> bool {
        self.issuers.iter().any(Issuer::knows_roles)
    }

    /// What a token says, without using anything up or counting anything.
    ///
    /// # Errors
    /// Why it is no good.
    pub async fn inspect(&self, token: &Token) -> Result<Inspected, Refused> {
        if let Some(identity) = self.known(token) {
            return Ok(Inspected { identity: Identity::clone(identity), issuer: None, role: None });
        }
        if tickets::is_meant(&token.0) {
            let text = "this is a ticket: whoever looked at it would use it up";
            return Err(Refused::new(TokenRefusal::Ticket, text));
        }
        let Verified { identity, role, issuer } = self.verify_signed(&token.0).await?;
        Ok(Inspected { identity, issuer: Some(issuer), role })
    }

    /// Signs claims by an issuer whose secret this node has: the one of that name, or the first. The claims need no `iss`, `aud`, subject and
    /// times: they come from the issuer's settings, and from what is given here.
    ///
    /// # Errors
    /// Why it would be refused. `None`: there is no such issuer.
    pub async fn mint(&self, wish: &Wish<'_>) -> Option<Result<(String, Inspected), Refused>> {
        let is_meant = |issuer: &&Issuer| wish.issuer.is_none_or(|name| issuer.name() == name);
        let token = self.issuers.iter().filter(is_meant).find_map(|issuer| issuer.mint(wish))?;
        // Judged as one that comes, so that nobody is given a token that nobody takes.
        let verified = self.verify_signed(&token).await;
        Some(verified.map(|Verified { identity, role, issuer }| {
            (token, Inspected { identity, issuer: Some(issuer), role })
        }))
    }

    /// Whose a token of the settings is.
    fn known(&self, token: &Token) -> Option<&Arc<Identity>> {
        let digest: [u8; 32] = Sha256::digest(token.0.as_bytes()).into();
        // Every token is compared, in constant time each: how long it takes says nothing about any of them.
        let mut found = None;
        for (known, identity) in &self.tokens {
            if bool::from(known.ct_eq(&digest)) {
                found = Some(identity);
            }
        }
        found
    }

    /// What a token says that an issuer signed.
    async fn verify_signed(&self, token: &str) -> Result<Verified, Refused> {
        if self.issuers.is_empty() || !jwt::is_meant(token) {
            return Err(Refused::new(TokenRefusal::Unknown, "this token is not known here"));
        }
        let token = Unverified::parse(token)?;
        let claims = Claims::parse(&token.payload)?;
        let iss = claims.text("iss")?.unwrap_or_default();
        let mut refused = Refused::new(TokenRefusal::Issuer, "the token's `iss` is no issuer of this broker");
        for issuer in self.issuers.iter().filter(|issuer| issuer.is_called(&iss)) {
            let verified = match issuer.judge(&token, &claims, clock::wall()) {
                Ok(()) => issuer.verify(&token).await.and_then(|()| issuer.read(&claims)),
                Err(refused) => Err(refused),
            };
            match verified {
                Ok(verified) => return Ok(verified),
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }
}
