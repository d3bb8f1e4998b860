//! Tokens of clients: signed to try something out, and looked at.

use std::time::Duration;

use bongsu_admin_api::resources::tokens::{
    Action, MintedToken, NewToken, TokenAnswer, TokenGrants, TokenLimits, TokenQuestion, Tokens,
};
use bongsu_admin_api::time::Timestamp;
use bongsu_admin_api::{Error, Role};
use bongsu_protocol::command::Token;
use bongsu_protocol::session::Grants;
use bongsu_protocol::topic::{Topic, TopicFilter};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::json;

use super::Admin;
use crate::auth::{self, Inspected, Wish};
use crate::chance;
use crate::limits::MINTED_TOKEN_LIFETIME;

impl Tokens for Admin {
    fn mint(&self, wish: NewToken) -> BoxFuture<'_, Result<MintedToken, Error>> {
        async move { self.mint_token(wish).await }.boxed()
    }

    fn check(&self, question: TokenQuestion) -> BoxFuture<'_, Result<TokenAnswer, Error>> {
        async move { self.check_token(question).await }.boxed()
    }
}

impl Admin {
    async fn mint_token(&self, wish: NewToken) -> Result<MintedToken, Error> {
        let id: String = chance::secret()[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        let permissions = wish.can.as_ref().map(|can| json!({ "can": can }));
        let wish = Wish {
            issuer: wish.issuer.as_deref(),
            subject: &wish.subject,
            id: &id,
            lifetime: wish.lifetime_seconds.map_or(MINTED_TOKEN_LIFETIME, Duration::from_secs),
            permissions: permissions.as_ref(),
        };
        let minted = self.node.authenticator().mint(&wish).await.ok_or_else(|| {
            Error::Conflict(
                "this node has the secret of no such issuer: see auth.issuers and its secret_file".to_owned(),
            )
        })?;
        let (token, Inspected { identity, issuer, .. }) =
            minted.map_err(|refused| Error::invalid("token", refused.text))?;
        Ok(MintedToken {
            token,
            issuer: issuer.unwrap_or_default(),
            subject: identity.subject().to_owned(),
            expires_at: Timestamp(identity.expires_at.unwrap_or_default()),
            id,
        })
    }

    async fn check_token(&self, question: TokenQuestion) -> Result<TokenAnswer, Error> {
        let TokenQuestion { token, action, topic } = question;
        let asked = match (action, topic) {
            (None, None) => None,
            (Some(action), Some(topic)) => Some(Asked::of(action, &topic)?),
            (Some(_), None) => return Err(Error::invalid("topic", "it belongs to `action`")),
            (None, Some(_)) => return Err(Error::invalid("action", "it belongs to `topic`")),
        };
        let Inspected { identity, issuer, role } = match self
            .node
            .authenticator()
            .inspect(&Token(token))
            .await
        {
            Ok(inspected) => inspected,
            Err(refused) => {
                let reason = Some(refused.why.name().to_owned());
                return Ok(TokenAnswer { reason, text: Some(refused.text.into()), ..TokenAnswer::default() });
            }
        };
        let allowed = asked.map(|asked| asked.is_granted(&identity.grants));
        let texts =
            |filters: &[TopicFilter]| filters.iter().map(|filter| filter.as_str().to_owned()).collect();
        let Grants { subject, subscribe, history, publish, presence } = &*identity.grants;
        let grants = TokenGrants {
            subject: subject.clone(),
            issuer,
            id: identity.token_id.as_deref().map(str::to_owned),
            issued_at: identity.issued_at.map(Timestamp),
            expires_at: identity.expires_at.map(Timestamp),
            subscribe: texts(subscribe),
            history: texts(history),
            publish: texts(publish),
            presence: texts(presence),
            limits: limits(identity.limits),
            role: role.map(Role::from),
        };
        Ok(TokenAnswer { valid: true, grants: Some(grants), allowed, ..TokenAnswer::default() })
    }
}

/// What somebody asks whether a token may do it.
enum Asked {
    Subscribe(TopicFilter),
    History(TopicFilter),
    Publish(Topic),
    Presence(Topic),
}

impl Asked {
    fn of(action: Action, topic: &str) -> Result<Self, Error> {
        let filter = || TopicFilter::parse(topic).map_err(|error| Error::invalid("topic", error.to_string()));
        let topic = || Topic::parse(topic).map_err(|error| Error::invalid("topic", error.to_string()));
        Ok(match action {
            Action::Subscribe => Self::Subscribe(filter()?),
            Action::History => Self::History(filter()?),
            Action::Publish => Self::Publish(topic()?),
            Action::Presence => Self::Presence(topic()?),
        })
    }

    /// Asked of the same grants as every transport asks.
    fn is_granted(&self, grants: &Grants) -> bool {
        match self {
            Self::Subscribe(filter) => grants.may_subscribe(filter),
            Self::History(filter) => grants.may_read_history(filter),
            Self::Publish(topic) => grants.may_publish(topic),
            Self::Presence(topic) => grants.may_be_present(topic),
        }
    }
}

fn limits(limits: auth::Limits) -> TokenLimits {
    let number = |number: Option<usize>| number.map(|number| number as u64);
    TokenLimits {
        connections: number(limits.connections),
        subscriptions: number(limits.subscriptions),
        publishes_per_second: limits.publishes_per_second.map(u64::from),
        bytes_per_second: limits.bytes_per_second,
        message_bytes: number(limits.message_bytes),
    }
}

impl From<auth::Role> for Role {
    fn from(role: auth::Role) -> Self {
        match role {
            auth::Role::Viewer => Self::Viewer,
            auth::Role::Operator => Self::Operator,
            auth::Role::Admin => Self::Admin,
        }
    }
}
