//! `bongsu tokens`.

use std::io::Read as _;

use anyhow::Context as _;
use bongsu_admin_api::resources::tokens::{MintedToken, TokenAnswer};
use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

use super::rest::ApiArgs;
use super::table::Table;

/// What to do with tokens.
#[derive(Debug, Args)]
pub struct TokensArgs {
    #[command(subcommand)]
    command: TokensCommand,
}

#[derive(Debug, Subcommand)]
enum TokensCommand {
    /// Sign a token to try something out, by an issuer whose secret the node has
    Mint(MintArgs),
    /// Show what a token may do, or why it is no good
    Check(CheckArgs),
}

#[derive(Debug, Args)]
struct MintArgs {
    /// Whose it is
    subject: String,
    /// The issuer's name in the settings
    #[arg(long)]
    issuer: Option<String>,
    /// Seconds that it is good
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    lifetime: u64,
    /// What its bearer may do, such as `subscribe,history=chat/#`; repeatable. Without any, what the issuer's settings say
    #[arg(long, value_name = "ACTIONS=FILTER")]
    can: Vec<String>,
    #[command(flatten)]
    api: ApiArgs,
}

#[derive(Debug, Args)]
struct CheckArgs {
    /// Read the token from this file; `-` is standard input
    file: String,
    /// Whether it may do this: subscribe, history, publish or presence
    #[arg(long, requires = "topic")]
    action: Option<String>,
    /// To this topic
    #[arg(long, requires = "action")]
    topic: Option<String>,
    #[command(flatten)]
    api: ApiArgs,
}

pub(super) async fn run(args: TokensArgs) -> anyhow::Result<()> {
    match args.command {
        TokensCommand::Mint(args) => mint(args).await,
        TokensCommand::Check(args) => check(args).await,
    }
}

async fn mint(args: MintArgs) -> anyhow::Result<()> {
    let capability = |text: &String| {
        let (actions, filter) =
            text.split_once('=').with_context(|| format!("{text:?} is not ACTIONS=FILTER"))?;
        Ok(json!({ "topics": [filter], "do": actions.split(',').collect::<Vec<_>>() }))
    };
    let can = args.can.iter().map(capability).collect::<anyhow::Result<Vec<Value>>>()?;
    let mut wish = json!({ "subject": args.subject, "lifetime_seconds": args.lifetime });
    if !can.is_empty() {
        wish["can"] = can.into();
    }
    if let Some(issuer) = args.issuer {
        wish["issuer"] = issuer.into();
    }
    let minted: MintedToken = args.api.ask(Method::POST, "/v1/tokens", Some(wish)).await?;
    args.api.print(&minted, |minted| {
        let mut table = Table::new(&["TOKEN", &minted.token]);
        table.row(["ID".to_owned(), minted.id.clone()]);
        table.row(["ISSUER".to_owned(), minted.issuer.clone()]);
        table.row(["SUBJECT".to_owned(), minted.subject.clone()]);
        table.row(["EXPIRES".to_owned(), minted.expires_at.to_string()]);
        table
    })
}

async fn check(args: CheckArgs) -> anyhow::Result<()> {
    let token = if args.file == "-" {
        let mut token = String::new();
        // More than a token is no token; the node says so.
        std::io::stdin().take(1 << 20).read_to_string(&mut token).context("standard input")?;
        token
    } else {
        std::fs::read_to_string(&args.file).with_context(|| args.file.clone())?
    };
    let mut question = json!({ "token": token.trim() });
    if let (Some(action), Some(topic)) = (args.action, args.topic) {
        question["action"] = action.into();
        question["topic"] = topic.into();
    }
    let answer: TokenAnswer = args.api.ask(Method::POST, "/v1/tokens/check", Some(question)).await?;
    args.api.print(&answer, table)
}

fn table(answer: &TokenAnswer) -> Table {
    let mut table = Table::new(&["VALID", if answer.valid { "yes" } else { "no" }]);
    let mut row = |name: &str, value: String| table.row([name.to_owned(), value]);
    if let Some(text) = &answer.text {
        row("WHY", text.clone());
    }
    if let Some(allowed) = answer.allowed {
        row("ALLOWED", if allowed { "yes" } else { "no" }.to_owned());
    }
    if let Some(grants) = &answer.grants {
        row("SUBJECT", grants.subject.clone());
        row("ISSUER", grants.issuer.clone().unwrap_or_else(|| "the settings".to_owned()));
        row("ID", grants.id.clone().unwrap_or_else(|| "–".to_owned()));
        row("EXPIRES", grants.expires_at.map_or_else(|| "never".to_owned(), |at| at.to_string()));
        row("SUBSCRIBE", grants.subscribe.join(" "));
        row("HISTORY", grants.history.join(" "));
        row("PUBLISH", grants.publish.join(" "));
        row("PRESENCE", grants.presence.join(" "));
        if let Some(role) = grants.role {
            row("ROLE", role.to_string());
        }
    }
    table
}
