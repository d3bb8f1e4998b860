//! Webhooks, how their deliveries went, and once more.

use bongsu_admin_api::Error;
use bongsu_admin_api::resources::webhooks::{
    Delivery, DeliveryList, Outcome, Place, Redeliver, Redelivered, Webhook, WebhookList, Webhooks,
};
use bongsu_admin_api::time::Timestamp;
use bongsu_protocol::topic::Topic;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::{Admin, unavailable};
use crate::webhooks::{Attempt, Refused, Went};

impl Webhooks for Admin {
    fn webhooks(&self) -> BoxFuture<'_, Result<WebhookList, Error>> {
        async {
            let webhooks = self.node.webhook_desk().webhooks().await.map_err(unavailable)?;
            let webhooks = webhooks.into_iter().map(|(settings, topic, dead)| Webhook {
                name: settings.name.as_str().to_owned(),
                url: without_query(settings.url.reveal()),
                topics: settings.topics.iter().map(|filter| filter.as_str().to_owned()).collect(),
                dead_letters: (dead.head.offset.0 + 1).saturating_sub(dead.first.offset.0.max(1)),
                dead_letter_topic: topic.as_str().to_owned(),
            });
            Ok(WebhookList { webhooks: webhooks.collect() })
        }
        .boxed()
    }

    fn deliveries(
        &self,
        webhook: String,
        only_failed: bool,
        limit: usize,
    ) -> BoxFuture<'_, Result<DeliveryList, Error>> {
        async move {
            let found = self.node.webhook_desk().deliveries(&webhook, only_failed, limit).await;
            let found = found.map_err(refused)?;
            Ok(DeliveryList { deliveries: found.into_iter().map(shown).collect() })
        }
        .boxed()
    }

    fn redeliver(&self, webhook: String, what: Redeliver) -> BoxFuture<'_, Result<Redelivered, Error>> {
        async move {
            let desk = self.node.webhook_desk();
            match (what.topic, what.offset, what.dead_letters_after) {
                (Some(topic), Some(offset), None) => {
                    let topic =
                        Topic::parse(&topic).map_err(|error| Error::invalid("topic", error.to_string()))?;
                    if topic.is_reserved() {
                        return Err(Error::invalid("topic", "nobody is told of this one"));
                    }
                    let attempt = desk.redeliver(&webhook, &topic, offset).await.map_err(refused)?;
                    Ok(Redelivered { deliveries: vec![shown(attempt)], next: None })
                }
                (None, None, Some(after)) => {
                    let again = desk.redeliver_dead(&webhook, after, what.limit.get()).await;
                    let again = again.map_err(refused)?;
                    let deliveries = again.attempts.into_iter().map(shown).collect();
                    Ok(Redelivered { deliveries, next: again.next })
                }
                _ => Err(Error::invalid(
                    "topic",
                    "it takes `topic` and `offset`, or `dead_letters_after` alone",
                )),
            }
        }
        .boxed()
    }
}

fn shown(attempt: Attempt) -> Delivery {
    Delivery {
        time: Timestamp::from_millis(attempt.time_ms),
        node: attempt.node,
        topic: attempt.topic,
        position: Place { epoch: attempt.epoch, offset: attempt.offset },
        id: attempt.id,
        attempt: attempt.attempt,
        outcome: match attempt.outcome {
            Went::Delivered => Outcome::Delivered,
            Went::Failed => Outcome::Failed,
            Went::GivenUp => Outcome::GivenUp,
            Went::Gone => Outcome::Gone,
        },
        status: attempt.status,
        duration_ms: attempt.duration_ms,
        error: attempt.error,
        next_attempt: attempt.next_ms.map(Timestamp::from_millis),
    }
}

fn refused(refused: Refused) -> Error {
    match refused {
        Refused::NoWebhook | Refused::NoMessage => Error::NotFound(refused.to_string()),
        Refused::NoSecret => Error::Conflict(refused.to_string()),
        Refused::Store(error) => unavailable(error),
    }
}

/// An address without what may hold a secret.
fn without_query(url: &str) -> String {
    url.split(['?', '#']).next().unwrap_or_default().to_owned()
}
