//! `bongsu keys`: keys of administrators.

use bongsu_admin_api::resources::keys::{Key, KeyList, NewKey};
use clap::Subcommand;
use http::Method;
use serde_json::json;

use super::rest::{ApiArgs, escaped};
use super::table::Table;

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Show the keys
    List {
        #[command(flatten)]
        api: ApiArgs,
    },
    /// Make a key, and print its secret this once
    Make {
        /// Its name
        name: String,
        /// What it may do: viewer, operator or admin
        #[arg(long)]
        role: String,
        /// When it ends, such as 2027-01-31T00:00:00Z
        #[arg(long)]
        expires: Option<String>,
        #[command(flatten)]
        api: ApiArgs,
    },
    /// Revoke a key
    Revoke {
        /// Its name
        name: String,
        #[command(flatten)]
        api: ApiArgs,
    },
}

pub(super) async fn run(command: KeysCommand) -> anyhow::Result<()> {
    match command {
        KeysCommand::List { api } => {
            let list: KeyList = api.get("/v1/keys").await?;
            api.print(&list, |list| {
                let mut table = Table::new(&["NAME", "ROLE", "BEGINS", "MADE", "BY", "EXPIRES", "USED"]);
                list.keys.iter().for_each(|key| table.row(row(key)));
                table
            })
        }
        KeysCommand::Make { name, role, expires, api } => {
            let path = format!("/v1/keys/{}", escaped(&name));
            let mut body = json!({ "role": role });
            if let Some(expires) = expires {
                body["expires"] = expires.into();
            }
            let made: NewKey = api.ask(Method::PUT, &path, Some(body)).await?;
            api.print(&made, |made| Table::new(&[&made.secret]))
        }
        KeysCommand::Revoke { name, api } => {
            api.send(Method::DELETE, &format!("/v1/keys/{}", escaped(&name)), None).await.map(drop)
        }
    }
}

fn row(key: &Key) -> [String; 7] {
    let time = |time: Option<bongsu_admin_api::time::Timestamp>| {
        time.map_or_else(|| "never".to_owned(), |time| time.to_string())
    };
    [
        key.name.clone(),
        key.role.to_string(),
        key.begins.clone(),
        key.made.to_string(),
        key.by.clone(),
        time(key.expires),
        time(key.used),
    ]
}
