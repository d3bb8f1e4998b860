//! The project's own tasks: `cargo xtask --help`.

mod audit;
mod autobahn;
mod check;
mod codegen;
mod docs;
mod faults;
mod install;
mod mutants;
mod npm;
mod processes;
mod sockjs;
mod suite;
mod test;
mod tidy;
mod workspace;

use std::process::ExitCode;

use clap::Parser;

/// The project's own tasks.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Task {
    /// Install what is missing, build, run every test and print the counts last
    Test,
    /// Format, lints, documentation, walls, generated files, dependencies
    Check,
    /// Write the Rust types of the wire schema
    Codegen {
        /// Change nothing; fail if something would change
        #[arg(long)]
        check: bool,
    },
    /// Write the documents that are made from code
    Docs {
        /// Change nothing; fail if something would change
        #[arg(long)]
        check: bool,
    },
    /// The walls between modules and the rules on files, as ARCHITECTURE.md states them
    Tidy,
    /// Plant known bugs into a copy of a crate and expect that tests notice each
    Mutants {
        /// The name of one list, such as `queue`, in the place of all
        #[arg(long)]
        only: Option<String>,
    },
    /// Break a cluster on purpose, check what its clients see, and write docs/faults-cluster.md
    Faults(faults::Arguments),
    /// Licences and sources of every dependency
    Audit,
    /// Run the Autobahn suite against the WebSocket wire and compare with docs/autobahn.json
    Autobahn {
        /// Keep the outcome as the new one to compare with
        #[arg(long)]
        bless: bool,
    },
    /// Run the public test suite of SockJS against the broker's SockJS code
    Sockjs,
}

fn main() -> ExitCode {
    let done = match Task::parse() {
        Task::Test => return test::run(),
        Task::Check => return check::run(),
        Task::Codegen { check } => codegen::run(check),
        Task::Docs { check } => docs::run(check),
        Task::Tidy => tidy::run(),
        Task::Mutants { only } => mutants::run(only.as_deref()),
        Task::Faults(arguments) => faults::run(&arguments),
        Task::Audit => audit::run(),
        Task::Sockjs => sockjs::run(),
        Task::Autobahn { bless } => {
            autobahn::run(if bless { autobahn::Mode::Bless } else { autobahn::Mode::Compare })
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
