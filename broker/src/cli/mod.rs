//! `bongsu pub` and `bongsu sub`: clients like any other, on the command line; `bongsu health`, which asks a node how it is; `bongsu selftest`,
//! which finds out what stands between; and `bongsu nodes`
//! and its like, which speak the admin API.

mod admin;
mod health;
mod output;
mod positions;
mod publish;
mod selftest;
mod start;
mod subscribe;

use std::path::PathBuf;

use anyhow::Context as _;
use bongsu_client::{Client, State};
use clap::{Args, Subcommand};

pub use admin::Command as AdminCommand;
pub use health::{HealthArgs, health};
pub use publish::PubArgs;
pub use selftest::{SelftestArgs, selftest};
pub use subscribe::SubArgs;

/// The commands that are clients.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Publish a text, lines, or files
    #[command(after_help = publish::EXAMPLES)]
    Pub(PubArgs),
    /// Read topics to standard output or a file
    #[command(after_help = subscribe::EXAMPLES)]
    Sub(SubArgs),
}

impl Command {
    /// Does what the command says, until it is done.
    ///
    /// # Errors
    /// What went wrong, for the person who gave the command.
    pub async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Pub(args) => publish::run(args).await,
            Self::Sub(args) => subscribe::run(args).await,
        }
    }
}

/// Which broker, and as whom.
#[derive(Debug, Args)]
#[command(next_help_heading = "Connection")]
pub struct ConnectArgs {
    /// Broker to connect to
    #[arg(long, env = "BONGSU_URL", default_value = "ws://127.0.0.1:8080/v1/ws")]
    url: String,
    /// Read the token from this file, again for each connection
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    token_file: Option<PathBuf>,
    /// Token; other users of this machine may see it, so prefer --token-file or the environment
    #[arg(long, env = "BONGSU_TOKEN", hide_env_values = true)]
    token: Option<String>,
}

impl ConnectArgs {
    /// Connects, and from then on says on standard error when the connection breaks and when it is back.
    async fn connect(self) -> anyhow::Result<Client> {
        let builder = Client::builder(self.url.clone());
        let builder = match (self.token_file, self.token) {
            (Some(file), _) => builder.token(move || {
                let token = std::fs::read_to_string(&file).map(|text| text.trim().to_owned());
                std::future::ready(token.map_err(|error| format!("{}: {error}", file.display())))
            }),
            (None, Some(token)) => builder.fixed_token(token),
            (None, None) => builder,
        };
        let client = builder.connect().await.with_context(|| format!("broker {}", self.url))?;
        tokio::spawn(tell_state(client.state()));
        Ok(client)
    }
}

async fn tell_state(mut state: tokio::sync::watch::Receiver<State>) {
    let mut broken = false;
    while state.changed().await.is_ok() {
        match &*state.borrow_and_update() {
            State::Waiting { pause, cause } => {
                eprintln!("bongsu: {cause}; trying again in {:.1} s", pause.as_secs_f64());
                broken = true;
            }
            State::Open(welcome) if broken => {
                eprintln!("bongsu: connected again, to {}", welcome.node);
                broken = false;
            }
            State::Open(_) | State::Connecting | State::Closed(_) => {}
        }
    }
}
