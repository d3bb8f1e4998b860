//! `bongsu policy`: the policies that hold without a restart.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use bongsu_admin_api::resources::policies::{OnePolicy, PolicyList, Preview, VersionList};
use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

use super::rest::{ApiArgs, escaped, with_parameters};
use super::table::{Table, bytes};

/// What to do with policies.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Show the policies that go before those of the settings file
    List {
        #[command(flatten)]
        api: ApiArgs,
    },
    /// Show one policy
    Show {
        /// Its name
        name: String,
        #[command(flatten)]
        api: ApiArgs,
    },
    /// Put the policies of a file in the place of all
    Apply(FromFile),
    /// Delete one policy
    Delete {
        /// Its name
        name: String,
        #[command(flatten)]
        api: ApiArgs,
    },
    /// Show what a filter would hit
    Preview {
        /// The filter
        filter: String,
        /// Topics that are listed
        #[arg(long, default_value_t = 20)]
        limit: u16,
        #[command(flatten)]
        api: ApiArgs,
    },
    /// Say whether the policies of a file would be taken
    Validate(FromFile),
    /// Show the versions of the list
    Versions {
        /// Versions that are listed
        #[arg(long, default_value_t = 20)]
        limit: u16,
        /// Go on where an earlier page said
        #[arg(long)]
        after: Option<String>,
        #[command(flatten)]
        api: ApiArgs,
    },
    /// Go back to an earlier version
    Rollback {
        /// Which, as `versions` shows it
        version: String,
        #[command(flatten)]
        api: ApiArgs,
    },
}

/// A file with policies.
#[derive(Debug, Args)]
pub struct FromFile {
    /// The file: TOML with [[policies]], or JSON with a list of that name
    #[arg(long, short)]
    file: PathBuf,
    #[command(flatten)]
    api: ApiArgs,
}

pub(super) async fn run(command: PolicyCommand) -> anyhow::Result<()> {
    match command {
        PolicyCommand::List { api } => {
            let list: PolicyList = api.get("/v1/policies").await?;
            api.print(&list, table)
        }
        PolicyCommand::Show { name, api } => {
            let one: OnePolicy = api.get(&path_of(&name)).await?;
            api.print(&one, |one| {
                let mut table = Table::new(&["SETTING", "VALUE"]);
                for (name, value) in &one.policy {
                    table.row([name.clone(), value.to_string()]);
                }
                table
            })
        }
        PolicyCommand::Apply(FromFile { file, api }) => {
            let wanted = read(&file)?;
            let before: PolicyList = api.get("/v1/policies").await?;
            let list: PolicyList = api.change(Method::PUT, "/v1/policies", &before.version, wanted).await?;
            api.print(&list, table)
        }
        PolicyCommand::Delete { name, api } => {
            api.send(Method::DELETE, &path_of(&name), None).await.map(drop)
        }
        PolicyCommand::Preview { filter, limit, api } => {
            let body = json!({ "filter": filter, "limit": limit });
            let preview: Preview = api.ask(Method::POST, "/v1/policies/preview", Some(body)).await?;
            api.print(&preview, show_preview)
        }
        PolicyCommand::Validate(FromFile { file, api }) => {
            let valid: Value = api.ask(Method::POST, "/v1/policies/validate", Some(read(&file)?)).await?;
            api.print(&valid, |_| Table::new(&["these policies would be taken"]))
        }
        PolicyCommand::Versions { limit, after, api } => {
            let parameters = [("limit", Some(limit.to_string())), ("after", after)];
            let list: VersionList = api.get(&with_parameters("/v1/policies/versions", &parameters)).await?;
            api.print(&list, |list| {
                let mut table = Table::new(&["VERSION", "TIME", "BY", "SIZE"]);
                for version in &list.versions {
                    let (name, by) = (version.version.clone(), version.by.clone());
                    table.row([name, version.time.to_string(), by, bytes(version.bytes)]);
                }
                if let Some(next) = &list.next {
                    table.row(["more:".to_owned(), format!("--after {next}")]);
                }
                table
            })
        }
        PolicyCommand::Rollback { version, api } => {
            let body = json!({ "version": version });
            let list: PolicyList = api.ask(Method::POST, "/v1/policies/rollback", Some(body)).await?;
            api.print(&list, table)
        }
    }
}

fn path_of(name: &str) -> String {
    format!("/v1/policies/{}", escaped(name))
}

/// The policies of a file.
fn read(file: &Path) -> anyhow::Result<Value> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    if text.trim_start().starts_with(['{', '[']) && !text.trim_start().starts_with("[[") {
        return serde_json::from_str(&text).with_context(|| file.display().to_string());
    }
    let table: toml::Table = toml::from_str(&text).with_context(|| file.display().to_string())?;
    Ok(serde_json::to_value(table)?)
}

fn table(list: &PolicyList) -> Table {
    let mut table = Table::new(&["NAME", "FILTER", "KIND", "REST"]);
    for policy in &list.policies {
        let text = |name: &str| policy.get(name).and_then(Value::as_str).map(str::to_owned);
        let is_shown = |name: &&String| !matches!(name.as_str(), "name" | "filter" | "kind");
        let rest = policy.iter().filter(|(name, _)| is_shown(name));
        let rest: Vec<_> = rest.map(|(name, value)| format!("{name}={value}")).collect();
        let kind = text("kind").unwrap_or_else(|| "durable".to_owned());
        table.row([
            text("name").unwrap_or_default(),
            text("filter").unwrap_or_default(),
            kind,
            rest.join(" "),
        ]);
    }
    table.row([format!("version {}", list.version)]);
    table
}

fn show_preview(preview: &Preview) -> Table {
    let mut table = Table::new(&["TOPIC", "MESSAGES", "KEEPS HISTORY", "POLICY"]);
    for hit in &preview.first {
        let policy = hit.policy.clone().unwrap_or_else(|| "–".to_owned());
        table.row([hit.topic.clone(), hit.messages.to_string(), hit.durable.to_string(), policy]);
    }
    let at_least = if preview.complete { "" } else { "at least " };
    table.row([
        format!("{at_least}{} topics", preview.topics),
        preview.messages.to_string(),
        format!("{} subscribers", preview.subscribers),
    ]);
    for name in &preview.missing {
        table.row([format!("{name} does not answer")]);
    }
    table
}
