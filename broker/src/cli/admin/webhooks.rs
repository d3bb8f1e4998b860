//! `bongsu webhooks`: who is told of messages by HTTP, and how that went.

use bongsu_admin_api::resources::webhooks::{Delivery, DeliveryList, Redelivered, WebhookList};
use clap::Subcommand;
use http::Method;
use serde_json::json;

use super::rest::{ApiArgs, escaped, with_parameters};
use super::table::Table;

/// What to do with webhooks.
#[derive(Debug, Subcommand)]
pub enum WebhooksCommand {
    /// Show the webhooks
    List {
        #[command(flatten)]
        api: ApiArgs,
    },
    /// Show the newest deliveries of a webhook
    Deliveries {
        /// Its name
        name: String,
        /// Only those that the receiver did not take
        #[arg(long)]
        failed: bool,
        /// Deliveries that are listed
        #[arg(long, default_value_t = 20)]
        limit: u16,
        #[command(flatten)]
        api: ApiArgs,
    },
    /// Send a message, or dead letters, once more
    Redeliver {
        /// Its name
        name: String,
        /// The topic of a message
        #[arg(long, requires = "offset")]
        topic: Option<String>,
        /// The message's offset there
        #[arg(long, requires = "topic")]
        offset: Option<u64>,
        /// Dead letters instead, those after this offset of their topic; 0 is all of them
        #[arg(long, conflicts_with = "topic", value_name = "OFFSET")]
        dead_letters_after: Option<u64>,
        #[command(flatten)]
        api: ApiArgs,
    },
}

pub(super) async fn run(command: WebhooksCommand) -> anyhow::Result<()> {
    match command {
        WebhooksCommand::List { api } => {
            let list: WebhookList = api.get("/v1/webhooks").await?;
            api.print(&list, |list| {
                let mut table = Table::new(&["NAME", "URL", "DEAD LETTERS", "TOPICS"]);
                for webhook in &list.webhooks {
                    let (name, url) = (webhook.name.clone(), webhook.url.clone());
                    table.row([name, url, webhook.dead_letters.to_string(), webhook.topics.join(" ")]);
                }
                table
            })
        }
        WebhooksCommand::Deliveries { name, failed, limit, api } => {
            let path = format!("/v1/webhooks/{}/deliveries", escaped(&name));
            let failed = failed.then(|| "true".to_owned());
            let parameters = [("limit", Some(limit.to_string())), ("failed", failed)];
            let list: DeliveryList = api.get(&with_parameters(&path, &parameters)).await?;
            api.print(&list, |list| table(&list.deliveries))
        }
        WebhooksCommand::Redeliver { name, topic, offset, dead_letters_after, api } => {
            let path = format!("/v1/webhooks/{}/redeliver", escaped(&name));
            let body = match (topic, offset) {
                (Some(topic), Some(offset)) => json!({ "topic": topic, "offset": offset }),
                _ => json!({ "dead_letters_after": dead_letters_after.unwrap_or_default() }),
            };
            let done: Redelivered = api.ask(Method::POST, &path, Some(body)).await?;
            api.print(&done, |done| {
                let mut table = table(&done.deliveries);
                if let Some(next) = done.next {
                    table.row(["more:".to_owned(), format!("--dead-letters-after {next}")]);
                }
                table
            })
        }
    }
}

fn table(deliveries: &[Delivery]) -> Table {
    let mut table = Table::new(&["TIME", "NODE", "MESSAGE", "ATTEMPT", "OUTCOME", "STATUS", "TOOK", "ERROR"]);
    for delivery in deliveries {
        let position = format!("{} {}:{}", delivery.topic, delivery.position.epoch, delivery.position.offset);
        let outcome = serde_json::to_value(delivery.outcome).unwrap_or_default();
        table.row([
            delivery.time.to_string(),
            delivery.node.clone(),
            position,
            delivery.attempt.to_string(),
            outcome.as_str().unwrap_or_default().to_owned(),
            delivery.status.map_or_else(|| "–".to_owned(), |status| status.to_string()),
            format!("{} ms", delivery.duration_ms),
            delivery.error.clone().unwrap_or_default(),
        ]);
    }
    table
}
