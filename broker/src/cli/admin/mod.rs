//! Commands of operators: each asks a node's admin API, and nothing else.
//!
//! | module | what it holds |
//! |---|---|
//! | `rest` | where the API is and who asks; requests and their problems |
//! | `table` | how answers look: a table for people, or the API's own JSON |
//! | `nodes`, … | one module for each resource |

mod nodes;
mod rest;
mod table;

use clap::Subcommand;

/// The commands that speak the admin API.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the nodes of the cluster and how each is
    Nodes(nodes::NodesArgs),
}

impl Command {
    /// Does what the command says.
    ///
    /// # Errors
    /// What went wrong, for the person who gave the command.
    pub async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Nodes(args) => nodes::run(args).await,
        }
    }
}
