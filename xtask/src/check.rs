//! Everything that a change must pass besides its tests.

use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};

use crate::{audit, codegen, docs, npm, tidy, workspace};

/// A name and what it does.
type Check = (&'static str, fn() -> Result<()>);

/// Runs every check, also after one failed, and says at the end which did.
pub(crate) fn run() -> ExitCode {
    let checks: &[Check] = &[
        ("format", format),
        ("walls and files", tidy::run),
        ("dependencies", audit::run),
        ("generated code", || codegen::run(true)),
        ("generated documents", || docs::run(true)),
        ("bundles", npm::check),
        ("lints", lints),
        ("documentation", documentation),
    ];
    let mut failed = Vec::new();
    for (name, check) in checks {
        eprintln!("== {name}");
        if let Err(error) = check() {
            eprintln!("{error:#}");
            failed.push(*name);
        }
    }
    if failed.is_empty() {
        println!("every check passed");
        return ExitCode::SUCCESS;
    }
    println!("failed: {}", failed.join(", "));
    ExitCode::FAILURE
}

fn format() -> Result<()> {
    let mut cargo = workspace::cargo();
    succeed(cargo.args(["fmt", "--all", "--", "--check"]))
}

fn lints() -> Result<()> {
    let mut cargo = workspace::cargo();
    succeed(cargo.args(["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]))
}

fn documentation() -> Result<()> {
    let mut cargo = workspace::cargo();
    cargo.env("RUSTDOCFLAGS", "-D warnings");
    succeed(cargo.args(["doc", "--workspace", "--no-deps", "--locked"]))
}

fn succeed(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("{command:?} does not start"))?;
    if !status.success() {
        bail!("{command:?}: {status}");
    }
    Ok(())
}
