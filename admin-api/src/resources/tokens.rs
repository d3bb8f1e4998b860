//! `POST /v1/tokens` and `POST /v1/tokens/check`: tokens to try things out with, and what a token may do.

use axum::extract::State;
use futures_util::future::BoxFuture;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::openapi::{ObjectBuilder, RefOr, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use super::Shared;
use crate::audit::Change;
use crate::body::Json;
use crate::error::Error;
use crate::number;
use crate::problem::Problem;
use crate::query::{self, Query};
use crate::role::Role;
use crate::route::{Asked, Route};
use crate::schema::{self, FilterText, TopicName};
use crate::time::Timestamp;

/// What is known of tokens of clients.
pub trait Tokens {
    /// Signs a token.
    ///
    /// # Errors
    /// [`Error::Conflict`]: this node has no secret of such an issuer. [`Error::Invalid`]: what the token should say would be refused.
    fn mint(&self, wish: NewToken) -> BoxFuture<'_, Result<MintedToken, Error>>;

    /// Says what a token may do, or why it is no good. A token that is no good is no error.
    ///
    /// # Errors
    /// [`Error::Invalid`]: what is asked of it makes no sense. [`Error::Unavailable`]: nobody can tell now.
    fn check(&self, question: TokenQuestion) -> BoxFuture<'_, Result<TokenAnswer, Error>>;
}

/// What a token should say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// Whose it is.
    #[schema(example = "ann")]
    pub subject: String,
    /// The issuer's name in the settings; without it, the first whose secret this node has.
    #[serde(default)]
    pub issuer: Option<String>,
    /// Seconds that it is good; an hour without it. At most what the issuer's `token_lifetime_max` says.
    #[serde(default, deserialize_with = "number::optional")]
    #[schema(minimum = 1, maximum = 9_007_199_254_740_991_u64)]
    pub lifetime_seconds: Option<u64>,
    /// What its bearer may do; without it, what the issuer's settings say.
    #[serde(default)]
    pub can: Option<Vec<Capability>>,
}

/// Actions on topics.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Capability {
    /// Topic filters; a level `{sub}` stands for the subject.
    #[schema(example = json!(["inbox/{sub}/#"]))]
    pub topics: Vec<String>,
    /// What may be done there.
    pub r#do: Vec<Action>,
}

/// What a client does to a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Read what comes from now on.
    Subscribe,
    /// Read what is kept.
    History,
    /// Write.
    Publish,
    /// See who is present, and be.
    Presence,
}

/// A token that was signed. It is shown once, and kept nowhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MintedToken {
    /// The token.
    pub token: String,
    /// Its own name, by which it can be revoked.
    pub id: String,
    /// Who signed it, as the settings call it.
    pub issuer: String,
    /// Whose it is.
    pub subject: String,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// What is asked of a token.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenQuestion {
    /// The token.
    pub token: String,
    /// With `topic`: whether it may do this.
    #[serde(default)]
    pub action: Option<Action>,
    /// With `action`: to this topic, or for `subscribe` and `history`, to all topics under this filter.
    #[serde(default)]
    pub topic: Option<String>,
}

impl PartialSchema for TokenQuestion {
    fn schema() -> RefOr<Schema> {
        let string = || ObjectBuilder::new().schema_type(Type::String);
        let token = || ("token", string().into());
        let action = |actions: [&str; 2]| ("action", string().enum_values(Some(actions)).into());
        let reads = [token(), action(["subscribe", "history"]), ("topic", schema::of::<FilterText>())];
        let writes = [token(), action(["publish", "presence"]), ("topic", schema::of::<TopicName>())];
        schema::one_of(
            "The token, and whether it may read all topics under a filter, or write or be present on a topic.",
            [
                schema::shape(
                    "what it says",
                    [token()],
                    [("action", schema::null()), ("topic", schema::null())],
                ),
                schema::shape("whether it may read", reads, []),
                schema::shape("whether it may write", writes, []),
            ],
        )
    }
}

impl ToSchema for TokenQuestion {}

impl std::fmt::Debug for TokenQuestion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenQuestion")
            .field("action", &self.action)
            .field("topic", &self.topic)
            .finish_non_exhaustive()
    }
}

/// What a token may do, or why it is no good.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenAnswer {
    /// Whether this node takes it now.
    pub valid: bool,
    /// Why not, as the metric `bongsu_tokens_refused_total` counts it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The same for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// What it says, if it is good.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grants: Option<TokenGrants>,
    /// Whether it may do what was asked, if something was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed: Option<bool>,
}

/// What a good token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenGrants {
    /// Whose it is.
    pub subject: String,
    /// Who signed it, as the settings call it; `null` for a token that stands in the settings itself.
    pub issuer: Option<String>,
    /// Its own name.
    pub id: Option<String>,
    /// When it was issued, as far as it says.
    pub issued_at: Option<Timestamp>,
    /// When it ends; `null`: never.
    pub expires_at: Option<Timestamp>,
    /// Filters of topics of which it may read what comes from now on.
    pub subscribe: Vec<String>,
    /// Filters of topics of which it may read what is kept.
    pub history: Vec<String>,
    /// Filters of topics that it may write.
    pub publish: Vec<String>,
    /// Filters of topics whose members it may see and join.
    pub presence: Vec<String>,
    /// What it may take.
    pub limits: TokenLimits,
    /// The role that it has for administrators, if it has one.
    pub role: Option<Role>,
}

/// What the bearer of a token may take; `null`: what the settings say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenLimits {
    /// Connections of its subject on one node.
    pub connections: Option<u64>,
    /// Filters that one connection subscribes to.
    pub subscriptions: Option<u64>,
    /// Messages a second, of one connection.
    pub publishes_per_second: Option<u64>,
    /// Bytes of payload a second, of one connection.
    pub bytes_per_second: Option<u64>,
    /// Bytes of one message's payload.
    pub message_bytes: Option<u64>,
}

pub(crate) fn routes() -> Vec<Route<Shared>> {
    vec![Route::change(Role::Admin, __path_mint, mint), Route::read(Role::Viewer, __path_check, check)]
}

/// Sign a token to try something out
///
/// By an issuer whose secret this node has. Applications sign their own.
#[utoipa::path(post, path = "/v1/tokens", operation_id = "mint_token", tag = "access", params(query::None),
    request_body = NewToken, responses(
        (status = 201, description = "The token.", body = MintedToken),
        (status = 409, description = "This node has no secret of such an issuer.", body = crate::problem::Document<'static>, content_type = "application/problem+json")))]
async fn mint(
    State(control): State<Shared>,
    _: Query<query::None>,
    asked: Asked,
    Json(wish): Json<NewToken>,
) -> Result<(StatusCode, Json<MintedToken>), Problem> {
    let detail = serde_json::json!({ "lifetime_seconds": wish.lifetime_seconds, "can": wish.can });
    let change = Change::new("tokens.mint", wish.subject.clone()).with(detail);
    let minted = asked.change(&*control, change, control.mint(wish)).await?;
    Ok((StatusCode::CREATED, Json(minted)))
}

/// What a token may do, and why not
///
/// Looks at the token as this node would, and uses nothing up. With `action` and `topic`, says whether it may do that.
#[utoipa::path(post, path = "/v1/tokens/check", operation_id = "check_token", tag = "access", params(query::None),
    request_body = TokenQuestion, responses((status = 200, description = "What it may do.", body = TokenAnswer)))]
async fn check(
    State(control): State<Shared>,
    _: Query<query::None>,
    Json(question): Json<TokenQuestion>,
) -> Result<Json<TokenAnswer>, Problem> {
    Ok(Json(control.check(question).await?))
}
