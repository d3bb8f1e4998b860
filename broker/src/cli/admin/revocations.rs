//! `bongsu revocations`.

use anyhow::Context as _;
use bongsu_admin_api::resources::revocations::{Revocation, RevocationList, Wanted};
use bongsu_admin_api::time::Timestamp;
use clap::{Args, Subcommand};
use http::Method;

use super::blocks::{end, time};
use super::rest::{ApiArgs, escaped, with_parameters};
use super::table::Table;

/// What to do about tokens that are taken back.
#[derive(Debug, Subcommand)]
pub enum RevocationsCommand {
    /// Show what is taken back
    List(ListArgs),
    /// Take one token back
    Token(TokenArgs),
    /// Take back all tokens of a user from before a time
    Subject(SubjectArgs),
    /// Let tokens be good again until they run out
    Remove(RemoveArgs),
}

/// Which cluster.
#[derive(Debug, Args)]
pub struct ListArgs {
    #[command(flatten)]
    api: ApiArgs,
}

/// Which token.
#[derive(Debug, Args)]
pub struct TokenArgs {
    /// Its id: `jti`, or the name of one of the settings
    id: String,
    #[command(flatten)]
    why: Why,
    #[command(flatten)]
    api: ApiArgs,
}

/// Whose tokens.
#[derive(Debug, Args)]
pub struct SubjectArgs {
    /// Whom tokens name so
    subject: String,
    /// Those that were issued before, as 2026-11-22T15:04:05Z; before now where it is left out
    #[arg(long, value_parser = time)]
    issued_before: Option<Timestamp>,
    #[command(flatten)]
    why: Why,
    #[command(flatten)]
    api: ApiArgs,
}

/// Which revocation.
#[derive(Debug, Args)]
pub struct RemoveArgs {
    /// As the list names it, such as subject:ada
    id: String,
    #[command(flatten)]
    api: ApiArgs,
}

#[derive(Debug, Args)]
struct Why {
    /// Why, as whoever shows such a token is told
    #[arg(long, default_value = "")]
    reason: String,
    /// Until when it is kept: when the last token that it is about has run out
    #[arg(long, value_parser = time)]
    until: Option<Timestamp>,
}

pub(super) async fn run(command: RevocationsCommand) -> anyhow::Result<()> {
    match command {
        RevocationsCommand::List(ListArgs { api }) => list(&api).await,
        RevocationsCommand::Token(TokenArgs { id, why: Why { reason, until }, api }) => {
            revoke(&api, Wanted { token: Some(id), reason, until, ..Wanted::default() }).await
        }
        RevocationsCommand::Subject(SubjectArgs { subject, issued_before, why, api }) => {
            let Why { reason, until } = why;
            revoke(&api, Wanted { subject: Some(subject), issued_before, reason, until, token: None }).await
        }
        RevocationsCommand::Remove(RemoveArgs { id, api }) => {
            let path = format!("/v1/revocations/{}", escaped(&id));
            api.send(Method::DELETE, &path, None).await.map(drop)
        }
    }
}

async fn list(api: &ApiArgs) -> anyhow::Result<()> {
    let mut list = RevocationList { revocations: Vec::new(), next: None };
    loop {
        let parameters = [("limit", Some("1000".to_owned())), ("after", list.next.take())];
        let page: RevocationList = api.get(&with_parameters("/v1/revocations", &parameters)).await?;
        list.revocations.extend(page.revocations);
        list.next = page.next;
        if list.next.is_none() {
            return api.print(&list, |list| table(&list.revocations));
        }
    }
}

async fn revoke(api: &ApiArgs, wanted: Wanted) -> anyhow::Result<()> {
    let body = serde_json::to_value(wanted).context("texts have a JSON form")?;
    let revocation = api.ask::<Revocation>(Method::POST, "/v1/revocations", Some(body)).await?;
    api.print(&revocation, |revocation| table(std::slice::from_ref(revocation)))
}

fn table(revocations: &[Revocation]) -> Table {
    let mut table = Table::new(&["ID", "ISSUED BEFORE", "SINCE", "UNTIL", "BY", "REASON"]);
    for revocation in revocations {
        let Revocation { id, issued_before, reason, until, since, by, .. } = revocation;
        let before = end(*issued_before);
        table.row([id.clone(), before, since.to_string(), end(*until), by.clone(), reason.clone()]);
    }
    table
}
