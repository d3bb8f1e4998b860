//! A chat room on Bongsu, with one command: a broker in this process, a server for the room's pages, and the application's back end.
//!
//! | module | what it is |
//! |---|---|
//! | `backend` | the back end: reads what the broker tells of sessions, and publishes who is here |
//! | `who` | what it makes of that: pure |
//! | `pages` | the server for `native.html`, `stomp.html` and `eventsource.html` |

mod backend;
mod pages;
mod who;

use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use bongsu::config::{self, Loaded, SettingsArgs};
use bongsu::serve;
use clap::Parser;
use sha2::{Digest as _, Sha256};
use tokio::sync::oneshot;
use tracing_subscriber::EnvFilter;

use crate::pages::Pages;

/// The broker's settings file, where nobody names another.
const CONFIG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/bongsu.toml");

/// A chat room on Bongsu: a broker, three kinds of page, and a back end that tells who is here.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    /// Serve the pages on this address; port 0 is any free one
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8090")]
    pages: SocketAddr,

    /// Run the broker on this address; port 0 is any free one
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,

    /// Keep what is said in this directory
    #[arg(long, value_name = "DIRECTORY", conflicts_with = "memory")]
    data: Option<String>,

    /// Forget everything at the end
    #[arg(long)]
    memory: bool,

    /// Read the broker's settings from this file
    #[arg(long, value_name = "FILE", default_value = CONFIG)]
    config: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bongsu-chat: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let pages = Pages::bind(arguments.pages).await?;
    // Only this process knows it, and only for as long as it runs: the settings hold its digest.
    let token = format!("{:032x}", rand::random::<u128>());
    let loaded = settings(arguments, &pages, &token)?;
    let filter = EnvFilter::try_new(loaded.settings.log.level.as_str())?;
    let is_terminal = std::io::stderr().is_terminal();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(is_terminal)
        .with_writer(std::io::stderr)
        .init();
    let (tell, told) = oneshot::channel();
    let broker = Box::pin(serve::serve_and_tell(loaded, |url| drop(tell.send(url.to_owned()))));
    let application = async {
        // The broker ended before it listened; `broker` says why.
        let Ok(broker) = told.await else { return std::future::pending().await };
        greet(&broker, &pages);
        tokio::try_join!(pages.serve(&broker), backend::run(&broker, token))?;
        Ok(())
    };
    // The broker ends at a signal, after it has sent its clients away; the rest ends with it.
    tokio::select! {
        biased;
        ended = broker => ended,
        ended = application => ended,
    }
}

/// The settings file, and over it what the flags say and what is known only now.
fn settings(arguments: Arguments, pages: &Pages, token: &str) -> anyhow::Result<Loaded> {
    let origins: Vec<String> = pages.origins().iter().map(|origin| format!("{origin:?}")).collect();
    let digest: String = Sha256::digest(token).iter().map(|byte| format!("{byte:02x}")).collect();
    let mut set = vec![
        format!("http.allowed_origins=[{}]", origins.join(",")),
        format!(
            "auth.tokens=[{{name=\"chat\",sha256=\"{digest}\",subscribe=[\"$sys/sessions/#\"],publish=[\"chat/+/who\"]}}]"
        ),
    ];
    if arguments.memory {
        set.push("storage.kind=memory".to_owned());
    }
    let args = SettingsArgs {
        config: Some(arguments.config),
        set,
        listen: arguments.listen,
        data: arguments.data,
        ..SettingsArgs::default()
    };
    config::load(&args).context("the broker's settings")
}

/// Where to look.
#[expect(clippy::print_stdout, reason = "this is what the command prints")]
fn greet(broker: &str, pages: &Pages) {
    println!("the broker listens on {broker}");
    println!("the chat room, in three ways:");
    for page in pages::PAGES {
        println!("  {:48} {}", format!("{}{}", pages.url(), page.file()), page.uses);
    }
}
