//! `/v1/webhooks`: who is told of messages by HTTP, how that went, and once more.

use axum::extract::State;
use bongsu_protocol::position::Position;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::Shared;
use crate::audit::Change;
use crate::body::Json;
use crate::error::Error;
use crate::number::{self, Whole};
use crate::page::Limit;
use crate::problem::Problem;
use crate::query::{self, Path, Query};
use crate::role::Role;
use crate::route::{Asked, Route};
use crate::schema::{self, TopicName, Word};
use crate::time::Timestamp;

/// Webhooks and their deliveries.
pub trait Webhooks {
    /// The webhooks in the settings of the node that answers.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: the store does not answer.
    fn webhooks(&self) -> BoxFuture<'_, Result<WebhookList, Error>>;

    /// The newest deliveries of a webhook, newest first, whichever node made them.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Unavailable`].
    fn deliveries(
        &self,
        webhook: String,
        only_failed: bool,
        limit: usize,
    ) -> BoxFuture<'_, Result<DeliveryList, Error>>;

    /// Sends something once more, now, from the node that answers.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Invalid`], [`Error::Unavailable`].
    fn redeliver(&self, webhook: String, what: Redeliver) -> BoxFuture<'_, Result<Redelivered, Error>>;
}

/// The webhooks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WebhookList {
    /// In the order of the settings.
    pub webhooks: Vec<Webhook>,
}

/// A webhook.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Webhook {
    /// Its name.
    #[schema(example = "billing")]
    pub name: String,
    /// Where messages are posted to: without what stands behind `?`, which may hold a secret.
    #[schema(example = "https://billing.example/hook")]
    pub url: String,
    /// Which topics.
    pub topics: Vec<String>,
    /// Dead letters that are kept: messages that it gave up.
    pub dead_letters: u64,
    /// The topic of those.
    #[schema(example = "$sys/webhooks/billing/dead")]
    pub dead_letter_topic: String,
}

/// The newest deliveries of a webhook.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DeliveryList {
    /// Newest first.
    pub deliveries: Vec<Delivery>,
}

/// One attempt to deliver a message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Delivery {
    /// When it was sent.
    pub time: Timestamp,
    /// The node that sent it.
    pub node: String,
    /// The message's topic.
    pub topic: String,
    /// The message's place there.
    #[schema(value_type = Object, example = json!({ "epoch": 1, "offset": 42 }))]
    pub position: Place,
    /// What the receiver knows it by: its header `webhook-id`.
    pub id: String,
    /// Which attempt it was, from 1; 0 for one that somebody asked for.
    pub attempt: u32,
    /// How it went.
    pub outcome: Outcome,
    /// What the receiver answered, if it did.
    pub status: Option<u16>,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// Why it failed.
    pub error: Option<String>,
    /// When it is tried again.
    pub next_attempt: Option<Timestamp>,
}

/// A place in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Place {
    /// The log's incarnation.
    pub epoch: u64,
    /// The place there.
    pub offset: u64,
}

impl From<Position> for Place {
    fn from(position: Position) -> Self {
        Self { epoch: position.epoch.0, offset: position.offset.0 }
    }
}

/// How a delivery went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The receiver took it.
    Delivered,
    /// It did not, and is asked again.
    Failed,
    /// It did not, and the message is a dead letter.
    GivenUp,
    /// It said that it is gone, and is asked no more.
    Gone,
}

/// What to send once more: a message, or dead letters.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Redeliver {
    /// The topic of a message.
    #[serde(default)]
    pub topic: Option<String>,
    /// The message's offset there.
    #[serde(default, deserialize_with = "number::optional")]
    pub offset: Option<u64>,
    /// Dead letters instead: those after this offset of their topic. 0 is all of them.
    #[serde(default, deserialize_with = "number::optional")]
    pub dead_letters_after: Option<u64>,
    /// How many dead letters at most.
    #[serde(default)]
    pub limit: Limit,
}

impl PartialSchema for Redeliver {
    fn schema() -> RefOr<Schema> {
        let message = [("topic", schema::of::<TopicName>()), ("offset", schema::of::<Whole>())];
        let dead = [("dead_letters_after", schema::of::<Whole>())];
        let limit = || ("limit", schema::of::<Limit>());
        schema::one_of(
            "What to send once more: a message, or the dead letters after an offset of their topic, of which 0 means all, and `limit` how many at most.",
            [
                schema::shape("a message", message, [("dead_letters_after", schema::null()), limit()]),
                schema::shape(
                    "dead letters",
                    dead,
                    [("topic", schema::null()), ("offset", schema::null()), limit()],
                ),
            ],
        )
    }
}

impl ToSchema for Redeliver {}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Redelivered {
    /// Each message that was sent, in order; it ends with the first that failed.
    pub deliveries: Vec<Delivery>,
    /// Where to go on with dead letters; `null`: there are no more.
    pub next: Option<u64>,
}

/// Which deliveries.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Which {
    /// How many.
    #[serde(default)]
    limit: Limit,
    /// Only those that the receiver did not take.
    #[serde(default)]
    failed: bool,
}

pub(crate) fn routes() -> Vec<Route<Shared>> {
    vec![
        Route::read(Role::Viewer, __path_list, list),
        Route::read(Role::Viewer, __path_show, show),
        Route::read(Role::Viewer, __path_deliveries, deliveries),
        Route::change(Role::Operator, __path_redeliver, redeliver),
    ]
}

/// The webhooks
#[utoipa::path(get, path = "/v1/webhooks", operation_id = "list_webhooks", tag = "webhooks", params(query::None),
    responses((status = 200, description = "The webhooks of the settings.", body = WebhookList)))]
async fn list(State(control): State<Shared>, _: Query<query::None>) -> Result<Json<WebhookList>, Problem> {
    Ok(Json(control.webhooks().await?))
}

/// One webhook
#[utoipa::path(get, path = "/v1/webhooks/{name}", operation_id = "get_webhook", tag = "webhooks",
    params(("name" = Word, Path, description = "The webhook's name."), query::None),
    responses((status = 200, description = "The webhook.", body = Webhook)))]
async fn show(
    State(control): State<Shared>,
    Path(name): Path<String>,
    _: Query<query::None>,
) -> Result<Json<Webhook>, Problem> {
    let webhook = control.webhooks().await?.webhooks.into_iter().find(|webhook| webhook.name == name);
    webhook.map(Json).ok_or_else(|| Problem::not_found(format!("there is no webhook {name}")))
}

/// The newest deliveries of a webhook
///
/// Newest first, whichever node made them; a bounded number is kept.
#[utoipa::path(get, path = "/v1/webhooks/{name}/deliveries", operation_id = "list_deliveries", tag = "webhooks",
    params(("name" = Word, Path, description = "The webhook's name."), Which),
    responses((status = 200, description = "Its deliveries.", body = DeliveryList)))]
async fn deliveries(
    State(control): State<Shared>,
    Path(name): Path<String>,
    Query(which): Query<Which>,
) -> Result<Json<DeliveryList>, Problem> {
    Ok(Json(control.deliveries(name, which.failed, which.limit.get()).await?))
}

/// Send a message, or dead letters, once more
///
/// The receiver gets them under the `webhook-id` that they had, with a new signature. How far the webhook came is not changed by it.
#[utoipa::path(post, path = "/v1/webhooks/{name}/redeliver", operation_id = "redeliver", tag = "webhooks",
    params(("name" = Word, Path, description = "The webhook's name."), query::None),
    request_body = Redeliver, responses((status = 200, description = "What came of it.", body = Redelivered)))]
async fn redeliver(
    State(control): State<Shared>,
    Path(name): Path<String>,
    _: Query<query::None>,
    asked: Asked,
    Json(what): Json<Redeliver>,
) -> Result<Json<Redelivered>, Problem> {
    let detail =
        json!({ "topic": what.topic, "offset": what.offset, "dead_letters_after": what.dead_letters_after });
    let change = Change::new("webhooks.redeliver", name.clone()).with(detail);
    Ok(Json(asked.change(&*control, change, control.redeliver(name, what)).await?))
}
