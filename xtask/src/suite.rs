//! What public test suites for servers need: an old interpreter to run in, and a server to run against.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, ensure};
use serde_json::Value;

/// CPython 2.7, which such suites were written for, and where their packages are installed.
pub(crate) struct Python {
    program: String,
    packages: PathBuf,
}

impl Python {
    /// The interpreter on the path, or the one that the variable names.
    ///
    /// # Errors
    /// It is none; with what to do.
    pub(crate) fn find(variable: &str, packages: PathBuf) -> anyhow::Result<Self> {
        let program = std::env::var(variable).unwrap_or_else(|_| "python2.7".to_owned());
        let python = Self { program, packages };
        let output =
            python.command().args(["-c", "import sys; print(sys.version_info[:2] == (2, 7))"]).output();
        let is_right = output.is_ok_and(|output| output.stdout.starts_with(b"True"));
        ensure!(
            is_right,
            "the suite needs CPython 2.7, and `{}` is none: install it (`pyenv install 2.7.18`), or name an interpreter in \
             {variable}",
            python.program
        );
        Ok(python)
    }

    /// A command that begins with the interpreter.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        // pyenv's `python2.7` is a script that wants to be told the version; others do not look.
        if std::env::var_os("PYENV_VERSION").is_none() {
            command.env("PYENV_VERSION", "2.7.18");
        }
        command
    }

    /// Where the packages are.
    pub(crate) fn packages(&self) -> &Path {
        &self.packages
    }

    /// Installs packages below `target/`, unless the file of theirs is there.
    ///
    /// # Errors
    /// pip's, as the log has it.
    pub(crate) fn install(&self, file: &str, packages: &[&str], log: &Path) -> anyhow::Result<()> {
        if self.packages.join(file).exists() {
            return Ok(());
        }
        let names = packages.join(" ");
        println!("installing {names} into {}", self.packages.display());
        let file = File::create(log)?;
        let mut pip = self.command();
        pip.args(["-m", "pip", "install", "--disable-pip-version-check", "--target"])
            .arg(&self.packages)
            .args(packages);
        let status = pip.stdout(file.try_clone()?).stderr(file).status()?;
        ensure!(
            status.success(),
            "pip could not install {names}; it needs a package index, a C compiler and OpenSSL's and libffi's headers; see {}",
            log.display()
        );
        Ok(())
    }
}

/// Builds an example of the broker and says where it is.
pub(crate) fn build_example(root: &Path, example: &str) -> anyhow::Result<PathBuf> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .current_dir(root)
        .args(["build", "--package", "bongsu", "--example", example])
        .args(["--message-format", "json-render-diagnostics"])
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(output.status.success(), "the example {example} does not build");
    let messages =
        output.stdout.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
    let mut artifacts = messages.filter(|message: &Value| message["target"]["name"] == example);
    let program = artifacts.find_map(|artifact| artifact["executable"].as_str().map(PathBuf::from));
    program.with_context(|| format!("cargo did not say where the example {example} is"))
}

/// A running example that says where it listens; ends with this value.
pub(crate) struct Server {
    child: Child,
    /// Where it is.
    pub(crate) url: String,
}

impl Server {
    /// Starts it on a free port; its first line is its address, with this scheme.
    pub(crate) fn start(program: &Path, scheme: &str) -> anyhow::Result<Self> {
        let mut child = Command::new(program).stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take().context("the server's output is piped")?;
        let mut server = Self { child, url: String::new() };
        BufReader::new(stdout).read_line(&mut server.url)?;
        server.url.truncate(server.url.trim_end().len());
        ensure!(server.url.starts_with(scheme), "{} did not start", program.display());
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It fails only if the server ended by itself, which the report shows.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
