//! `bongsu connections`.

use std::net::IpAddr;

use bongsu_admin_api::resources::connections::{Connection, ConnectionDetail, ConnectionPage};
use clap::{Args, Subcommand};
use http::Method;

use super::rest::{ApiArgs, escaped, with_parameters};
use super::table::{Table, bytes, note_rest};

/// What to do with which connections.
#[derive(Debug, Args)]
pub struct ConnectionsArgs {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List connections; so does no command
    List(ListArgs),
    /// Show one connection with its subscriptions and how far it is behind
    Show {
        /// The name of its session
        session: String,
        #[command(flatten)]
        api: ApiArgs,
    },
    /// End one connection
    Disconnect {
        /// The name of its session
        session: String,
        /// What its client is told, and what stands in the audit log
        #[arg(long)]
        reason: Option<String>,
        #[command(flatten)]
        api: ApiArgs,
    },
}

#[derive(Debug, Args)]
struct ListArgs {
    /// Only those of this subject; '' is that of anonymous clients
    #[arg(long)]
    subject: Option<String>,
    /// Only those from this address
    #[arg(long)]
    address: Option<IpAddr>,
    /// Only those over this transport, such as websocket-json
    #[arg(long)]
    transport: Option<String>,
    /// Only those that read this topic
    #[arg(long)]
    topic: Option<String>,
    /// Only those of this node
    #[arg(long)]
    node: Option<String>,
    /// Go on after the page that ended with this
    #[arg(long)]
    after: Option<String>,
    /// Show at most so many
    #[arg(long)]
    limit: Option<u16>,
    #[command(flatten)]
    api: ApiArgs,
}

pub(super) async fn run(args: ConnectionsArgs) -> anyhow::Result<()> {
    match args.command.unwrap_or(Command::List(args.list)) {
        Command::List(args) => list(args).await,
        Command::Show { session, api } => {
            let detail: ConnectionDetail = api.get(&format!("/v1/connections/{}", escaped(&session))).await?;
            api.print(&detail, table_of)
        }
        Command::Disconnect { session, reason, api } => {
            let path =
                with_parameters(&format!("/v1/connections/{}", escaped(&session)), &[("reason", reason)]);
            api.send(Method::DELETE, &path, None).await.map(drop)
        }
    }
}

async fn list(args: ListArgs) -> anyhow::Result<()> {
    let parameters = [
        ("subject", args.subject),
        ("address", args.address.map(|address| address.to_string())),
        ("transport", args.transport),
        ("topic", args.topic),
        ("node", args.node),
        ("after", args.after),
        ("limit", args.limit.map(|limit| limit.to_string())),
    ];
    let page: ConnectionPage = args.api.get(&with_parameters("/v1/connections", &parameters)).await?;
    args.api.print(&page, |page| {
        let mut table = Table::new(&[
            "SESSION",
            "SUBJECT",
            "ADDRESS",
            "TRANSPORT",
            "BEGAN",
            "FILTERS",
            "WAITING",
            "IN",
            "OUT",
        ]);
        page.connections.iter().for_each(|connection| table.row(row(connection)));
        table
    })?;
    note_rest(page.next.as_deref(), &page.missing);
    Ok(())
}

fn row(connection: &Connection) -> [String; 9] {
    [
        connection.session.clone(),
        if connection.subject.is_empty() { "(anonymous)".to_owned() } else { connection.subject.clone() },
        connection.address.clone().unwrap_or_default(),
        connection.transport.clone(),
        connection.began.to_string(),
        connection.subscriptions.to_string(),
        bytes(connection.waiting_bytes),
        bytes(connection.traffic.bytes_in),
        bytes(connection.traffic.bytes_out),
    ]
}

fn table_of(detail: &ConnectionDetail) -> Table {
    let mut table = Table::new(&["WHAT", "VALUE"]);
    let connection = &detail.connection;
    let mut tell = |what: &str, value: String| table.row([what.to_owned(), value]);
    tell("session", connection.session.clone());
    tell("subject", connection.subject.clone());
    tell("node", connection.node.clone());
    tell("address", connection.address.clone().unwrap_or_default());
    tell("transport", connection.transport.clone());
    tell("began", connection.began.to_string());
    if let Some(token_id) = &connection.token_id {
        tell("token", token_id.clone());
    }
    if let Some(expires) = connection.expires {
        tell("expires", expires.to_string());
    }
    tell("waiting", bytes(connection.waiting_bytes));
    tell("blocked", detail.blocked.to_string());
    tell("in flight", detail.requests_in_flight.to_string());
    for subscription in &detail.filters {
        let state = if subscription.active { "" } else { " (not yet)" };
        tell("filter", format!("{}{state}", subscription.filter));
    }
    for reading in detail.topics.iter().filter(|reading| reading.lag > 0) {
        tell("behind", format!("{} by {}", reading.topic, reading.lag));
    }
    if let Some(error) = &detail.last_error {
        tell("last error", format!("{}: {}", error.code, error.text));
    }
    table
}
