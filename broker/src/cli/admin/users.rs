//! `bongsu users`.

use bongsu_admin_api::resources::users::{UserDetail, UserPage};
use clap::{Args, Subcommand};
use http::Method;
use serde_json::json;

use super::rest::{ApiArgs, escaped, with_parameters};
use super::table::{Table, note_rest};

/// What to do with which users.
#[derive(Debug, Args)]
pub struct UsersArgs {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List subjects that are connected; so does no command
    List(ListArgs),
    /// Show where a subject is connected
    Show {
        /// The subject
        subject: String,
        #[command(flatten)]
        api: ApiArgs,
    },
    /// End all connections of a subject
    Disconnect {
        /// The subject
        subject: String,
        /// What the clients are told, and what stands in the audit log
        #[arg(long)]
        reason: Option<String>,
        #[command(flatten)]
        api: ApiArgs,
    },
}

#[derive(Debug, Args)]
struct ListArgs {
    /// Go on after the page that ended with this
    #[arg(long)]
    after: Option<String>,
    /// Show at most so many
    #[arg(long)]
    limit: Option<u16>,
    #[command(flatten)]
    api: ApiArgs,
}

pub(super) async fn run(args: UsersArgs) -> anyhow::Result<()> {
    match args.command.unwrap_or(Command::List(args.list)) {
        Command::List(ListArgs { after, limit, api }) => {
            let parameters = [("after", after), ("limit", limit.map(|limit| limit.to_string()))];
            let page: UserPage = api.get(&with_parameters("/v1/users", &parameters)).await?;
            api.print(&page, |page| {
                let mut table = Table::new(&["SUBJECT", "CONNECTIONS", "NODES"]);
                for user in &page.users {
                    let subject =
                        if user.subject.is_empty() { "(anonymous)".to_owned() } else { user.subject.clone() };
                    table.row([subject, user.connections.to_string(), user.nodes.join(" ")]);
                }
                table
            })?;
            note_rest(page.next.as_deref(), &page.missing);
            Ok(())
        }
        Command::Show { subject, api } => {
            let user: UserDetail = api.get(&format!("/v1/users/{}", escaped(&subject))).await?;
            api.print(&user, |user| {
                let mut table = Table::new(&["NODE", "CONNECTIONS"]);
                user.nodes
                    .iter()
                    .for_each(|node| table.row([node.node.clone(), node.connections.to_string()]));
                table
            })?;
            note_rest(None, &user.missing);
            Ok(())
        }
        Command::Disconnect { subject, reason, api } => {
            let path = format!("/v1/users/{}/disconnect", escaped(&subject));
            api.send(Method::POST, &path, Some(json!({ "reason": reason }))).await.map(drop)
        }
    }
}
