//! A broker of our own, on loopback, for one measurement.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tempfile::TempDir;

use crate::load::PATIENCE;
use crate::machine::{self, Core};

/// Which broker is run, and where it keeps its file.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct BrokerArgs {
    /// The broker's binary [default: `bongsu` beside this one]
    #[arg(long, value_name = "FILE")]
    broker: Option<PathBuf>,

    /// Put data into a temporary folder of this one; its file system is part of what is measured
    #[arg(long, value_name = "DIRECTORY", default_value_os_t = std::env::temp_dir())]
    directory: PathBuf,

    /// Give the broker one more setting
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl BrokerArgs {
    fn binary(&self) -> anyhow::Result<PathBuf> {
        let beside = || anyhow::Ok(std::env::current_exe()?.with_file_name("bongsu"));
        let binary = self.broker.clone().map_or_else(beside, Ok)?;
        ensure!(
            binary.is_file(),
            "there is no broker at {}: build it with `cargo build --release -p bongsu`, or name it with --broker",
            binary.display()
        );
        Ok(binary)
    }

    /// A folder of its own on the file system that is measured. It is removed when it is dropped.
    pub(crate) fn folder(&self) -> anyhow::Result<TempDir> {
        let folder = tempfile::Builder::new().prefix("bongsu-bench-").tempdir_in(&self.directory);
        folder.with_context(|| format!("cannot make a folder in {}", self.directory.display()))
    }
}

/// A running broker. Dropping it ends the process.
#[derive(Debug)]
pub(crate) struct Broker {
    child: Child,
    address: SocketAddr,
    folder: TempDir,
    /// Where administrators find it, if the settings ask for that.
    admin: Option<SocketAddr>,
    /// Kept open: the broker greets on it.
    stdout: Mutex<BufReader<ChildStdout>>,
}

impl Broker {
    /// Starts a broker with an empty store.
    pub(crate) fn start(args: &BrokerArgs, settings: &[&str]) -> anyhow::Result<Self> {
        Self::start_in(args, settings, args.folder()?)
    }

    fn start_in(args: &BrokerArgs, settings: &[&str], folder: TempDir) -> anyhow::Result<Self> {
        let mut command = Command::new(args.binary()?);
        command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(folder.path());
        // The bench connects faster than clients may, and answers neither pings nor a farewell.
        let ours = ["limits.connect_rate=1000000", "websocket.ping_interval=10m", "drain.spread=0s"];
        for setting in ours.iter().chain(settings).copied().chain(args.set.iter().map(String::as_str)) {
            command.args(["--set", setting]);
        }
        let log = File::create(folder.path().join("log"))?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        machine::pin(Core::Server)?;
        let child = command.spawn();
        machine::pin(Core::Load)?;
        let mut child = child.context("the broker does not start")?;
        let mut line = String::new();
        let stdout = child.stdout.take().context("the broker has no standard output")?;
        let mut stdout = BufReader::new(stdout);
        stdout.read_line(&mut line)?;
        let address =
            line.trim().strip_prefix("bongsu listens on http://").and_then(|url| url.strip_suffix('/'));
        let Some(address) = address else {
            let _ = child.wait();
            let log = std::fs::read_to_string(folder.path().join("log")).unwrap_or_default();
            anyhow::bail!("the broker ended: {line}{log}");
        };
        let address = address.parse().context("the broker listens on an odd address")?;
        let mut admin = None;
        if settings.iter().any(|setting| setting.starts_with("admin.listen=")) {
            while !line.contains("administrators") {
                line.clear();
                ensure!(
                    stdout.read_line(&mut line)? > 0,
                    "the broker ended, or said nothing of administrators"
                );
            }
            let url = line.trim().rsplit_once("http://").map(|(_, address)| address.trim_end_matches('/'));
            let address = url.with_context(|| format!("no port for administrators: {line}"))?;
            admin = Some(address.parse().context("an odd address for administrators")?);
        }
        Ok(Self { child, address, folder, admin, stdout: Mutex::new(stdout) })
    }

    /// Ends the broker and starts it again over the same file.
    pub(crate) fn restart(mut self, args: &BrokerArgs, settings: &[&str]) -> anyhow::Result<Self> {
        machine::stop(&mut self.child)?;
        let folder = tempfile::Builder::new().prefix("bongsu-bench-").tempdir_in(&args.directory)?;
        let folder = std::mem::replace(&mut self.folder, folder);
        Self::start_in(args, settings, folder)
    }

    /// The same, with something done in its folder in between.
    pub(crate) fn restart_after(
        mut self,
        args: &BrokerArgs,
        settings: &[&str],
        change: impl FnOnce(&Path) -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        machine::stop(&mut self.child)?;
        change(self.folder.path())?;
        self.restart(args, settings)
    }

    /// Where administrators find it.
    pub(crate) fn admin(&self) -> anyhow::Result<SocketAddr> {
        self.admin.context("the broker was started without a port for administrators")
    }

    /// Where it listens.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens besides, from the line of its greeting that begins so.
    pub(crate) fn next_address(&self, beginning: &str) -> anyhow::Result<SocketAddr> {
        let mut stdout = self.stdout.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let mut line = String::new();
            ensure!(stdout.read_line(&mut line)? > 0, "the broker does not say {beginning:?}");
            if let Some(address) = line.trim().strip_prefix(beginning) {
                return address.parse().context("the broker listens on an odd address");
            }
        }
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its folder, with the store's file and the log.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A counter of its metrics.
    pub(crate) fn metric(&self, name: &str) -> anyhow::Result<u64> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(value.with_context(|| format!("the broker has no metric {name}"))?.trim().parse()?)
    }

    /// Waits until no session is open.
    pub(crate) fn wait_until_empty(&self) -> anyhow::Result<()> {
        let began = Instant::now();
        while self.metric("bongsu_sessions_opened_total")? != self.metric("bongsu_sessions_closed_total")? {
            ensure!(
                began.elapsed() < PATIENCE,
                "connections that were closed are still there after {PATIENCE:?}"
            );
            machine::pause(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Err(error) = machine::stop(&mut self.child) {
            eprintln!("bench: {error:#}");
        }
    }
}
