//! The command `bongsu`.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use bongsu::cli;
use bongsu::config::{self, LogFormat, Settings, SettingsArgs};
use bongsu::serve;
use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

/// With glibc's, a third of a busy publisher's processor time goes into finding room among what the tail cache has given back.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Publish/subscribe broker: one log per topic; every transport is a reader of it.
#[derive(Debug, Parser)]
#[command(version, about, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Without a command, a node is run.
    #[command(flatten)]
    settings: SettingsArgs,
}

#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "there is one, once")]
enum Command {
    /// Run a node
    Serve(SettingsArgs),
    /// Show the effective settings and where each came from
    Config(SettingsArgs),
    /// Ask a node how it is: ends with 0 if it is well, else with 1
    Health(cli::HealthArgs),
    /// Find out what stands between here and a node, such as proxies, and how to mend what does harm
    Selftest(cli::SelftestArgs),
    #[command(flatten)]
    Client(cli::Command),
    #[command(flatten)]
    Admin(cli::AdminCommand),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bongsu: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    match arguments.command.unwrap_or(Command::Serve(arguments.settings)) {
        Command::Serve(args) => {
            let loaded = config::load(&args)?;
            start_logging(&loaded.settings)?;
            runtime()?.block_on(serve::serve(loaded))
        }
        Command::Config(args) => {
            print!("{}", config::explain(&config::load(&args)?));
            Ok(())
        }
        Command::Health(args) => runtime()?.block_on(cli::health(args)),
        Command::Selftest(args) => runtime()?.block_on(cli::selftest(args)),
        Command::Admin(command) => runtime()?.block_on(command.run()),
        Command::Client(command) => runtime()?.block_on(command.run()),
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

fn start_logging(settings: &Settings) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(settings.log.level.as_str())?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match settings.log.format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => builder.json().init(),
    }
    Ok(())
}
