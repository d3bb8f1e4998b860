//! Commands of operators: each asks a node's admin API, and nothing else.
//!
//! | module | what it holds |
//! |---|---|
//! | `rest` | where the API is and who asks; requests and their problems |
//! | `table` | how answers look: a table for people, or the API's own JSON |
//! | `nodes`, … | one module for each resource |

mod audit;
mod blocks;
mod closes;
mod connections;
mod keys;
mod limits;
mod messages;
mod nodes;
mod policy;
mod rest;
mod revocations;
mod table;
mod tokens;
mod topics;
mod trace;
mod users;
mod webhooks;

use clap::Subcommand;

/// The commands that speak the admin API.
#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "there is one, once")]
pub enum Command {
    /// Show the nodes of the cluster and how each is
    Nodes(nodes::NodesArgs),
    /// Sign tokens to try things out, and see what a token may do
    Tokens(tokens::TokensArgs),
    /// Show and change the policies that hold without a restart
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// Show the limits, or let some hold without a restart
    Limits(limits::LimitsArgs),
    /// Show, make and revoke keys of administrators
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// Show how webhooks' deliveries went, and have some made once more
    #[command(subcommand)]
    Webhooks(webhooks::WebhooksCommand),
    /// Show what administrators changed
    Audit(audit::AuditArgs),
    /// List, show and end connections of clients
    Connections(connections::ConnectionsArgs),
    /// List subjects that are connected, and end their connections
    Users(users::UsersArgs),
    /// Show connections that ended last, and why
    Closes(closes::ClosesArgs),
    /// Follow what happens on connections, as it does
    Trace(trace::TraceArgs),
    /// Show and change which users are kept out
    #[command(subcommand)]
    Blocks(blocks::BlocksCommand),
    /// Show and change which tokens are taken back
    #[command(subcommand)]
    Revocations(revocations::RevocationsCommand),
    /// List topics, and take whole logs out, in, or away
    #[command(subcommand)]
    Topics(topics::TopicsCommand),
    /// Read, search, publish and erase messages
    #[command(subcommand)]
    Messages(messages::MessagesCommand),
}

impl Command {
    /// Does what the command says.
    ///
    /// # Errors
    /// What went wrong, for the person who gave the command.
    pub async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Nodes(args) => nodes::run(args).await,
            Self::Tokens(args) => tokens::run(args).await,
            Self::Policy(command) => policy::run(command).await,
            Self::Limits(args) => limits::run(args).await,
            Self::Keys(command) => keys::run(command).await,
            Self::Webhooks(command) => webhooks::run(command).await,
            Self::Audit(args) => audit::run(args).await,
            Self::Connections(args) => connections::run(args).await,
            Self::Users(args) => users::run(args).await,
            Self::Closes(args) => closes::run(args).await,
            Self::Trace(args) => trace::run(args).await,
            Self::Blocks(command) => blocks::run(command).await,
            Self::Revocations(command) => revocations::run(command).await,
            Self::Topics(command) => topics::run(command).await,
            Self::Messages(command) => messages::run(command).await,
        }
    }
}
