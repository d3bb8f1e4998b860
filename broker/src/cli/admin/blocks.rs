//! `bongsu blocks`.

use anyhow::Context as _;
use bongsu_admin_api::resources::blocks::{Block, BlockList, Wanted};
use bongsu_admin_api::time::Timestamp;
use clap::{Args, Subcommand};
use http::Method;

use super::rest::{ApiArgs, escaped, with_parameters};
use super::table::Table;

/// What to do about users who are kept out.
#[derive(Debug, Subcommand)]
pub enum BlocksCommand {
    /// Show who is kept out
    List(ListArgs),
    /// Keep a user out, whatever they show
    Put(PutArgs),
    /// Let a user in again
    Remove(RemoveArgs),
}

/// Which cluster.
#[derive(Debug, Args)]
pub struct ListArgs {
    #[command(flatten)]
    api: ApiArgs,
}

/// Whom to keep out.
#[derive(Debug, Args)]
pub struct PutArgs {
    /// Whom tokens name so
    subject: String,
    /// Why, as they are told
    #[arg(long, default_value = "")]
    reason: String,
    /// Until when, as 2026-11-22T15:04:05Z
    #[arg(long, value_parser = time)]
    until: Option<Timestamp>,
    #[command(flatten)]
    api: ApiArgs,
}

/// Whom to let in.
#[derive(Debug, Args)]
pub struct RemoveArgs {
    /// Whom tokens name so
    subject: String,
    #[command(flatten)]
    api: ApiArgs,
}

pub(super) async fn run(command: BlocksCommand) -> anyhow::Result<()> {
    match command {
        BlocksCommand::List(ListArgs { api }) => {
            let mut list = BlockList { blocks: Vec::new(), next: None };
            loop {
                let parameters = [("limit", Some("1000".to_owned())), ("after", list.next.take())];
                let page: BlockList = api.get(&with_parameters("/v1/blocks", &parameters)).await?;
                list.blocks.extend(page.blocks);
                list.next = page.next;
                if list.next.is_none() {
                    return api.print(&list, |list| table(&list.blocks));
                }
            }
        }
        BlocksCommand::Put(PutArgs { subject, reason, until, api }) => {
            let body = serde_json::to_value(Wanted { reason, until }).context("texts have a JSON form")?;
            let block = api.ask::<Block>(Method::PUT, &path(&subject), Some(body)).await?;
            api.print(&block, |block| table(std::slice::from_ref(block)))
        }
        BlocksCommand::Remove(RemoveArgs { subject, api }) => {
            api.send(Method::DELETE, &path(&subject), None).await.map(drop)
        }
    }
}

fn path(subject: &str) -> String {
    format!("/v1/blocks/{}", escaped(subject))
}

fn table(blocks: &[Block]) -> Table {
    let mut table = Table::new(&["SUBJECT", "SINCE", "UNTIL", "BY", "REASON"]);
    for block in blocks {
        let Block { subject, reason, until, since, by } = block;
        table.row([subject.clone(), since.to_string(), end(*until), by.clone(), reason.clone()]);
    }
    table
}

/// A time as the flags take it.
pub(super) fn time(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse(text)
        .ok_or_else(|| "it takes a time of RFC 3339, such as 2026-11-22T15:04:05Z".to_owned())
}

/// Until when something holds.
pub(super) fn end(until: Option<Timestamp>) -> String {
    until.map_or_else(|| "–".to_owned(), |until| until.to_string())
}
