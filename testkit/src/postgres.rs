//! One Postgres server, and its standby.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::Signal;

use crate::process::{self, Process};
use crate::wait_for;

/// A Postgres server on the loopback interface, version 14 or newer, which trusts everybody and does not cut corners: what it
/// committed is on the disk.
pub struct Postgres {
    process: Process,
    n_databases: AtomicU64,
}

impl Postgres {
    /// Starts a server of its own for a test that ends, freezes or fails it over. Takes some seconds; others use
    /// [`Postgres::shared`].
    #[must_use]
    pub fn start() -> Self {
        launch(|data| {
            let mut initdb = as_server("initdb");
            initdb.args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--pgdata"]);
            // What is prepared here is thrown away with the machine's next crash.
            initdb.arg(data).arg("--no-sync");
            initdb
        })
    }

    /// The server that all tests of this process share. Each takes a database of its own, so nothing else is shared.
    #[must_use]
    pub fn shared() -> &'static Self {
        static SHARED: LazyLock<Postgres> = LazyLock::new(Postgres::start);
        &SHARED
    }

    /// Makes an empty database and returns its address: `postgres://postgres@127.0.0.1:port/test_1`.
    #[must_use]
    pub fn database(&self) -> String {
        let name = format!("test_{}", self.n_databases.fetch_add(1, Ordering::Relaxed) + 1);
        self.sql(&format!("create database {name}"));
        self.url_of(&name)
    }

    /// The address of the database that every server has.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_of("postgres")
    }

    /// The address of a database on this server.
    #[must_use]
    pub fn url_of(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port())
    }

    /// The port that it listens on, the same across restarts.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.process.port()
    }

    /// The number of its first process, which a restart changes.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// What it has logged since its last start.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Runs statements in the database `postgres`, each in a transaction of its own, and returns their rows, unaligned.
    ///
    /// # Panics
    /// Where one fails, or the server is away.
    pub fn sql(&self, statements: &str) -> String {
        sql(&self.url(), statements)
    }

    /// The same on a server that may be down, paused or no primary.
    ///
    /// # Errors
    /// What `psql` said. Whether a statement was committed is then unknown.
    pub fn try_sql(&self, statements: &str) -> Result<String, String> {
        try_sql(&self.url(), statements)
    }

    /// Ends it in good order, and connections with it.
    pub fn stop(&self) {
        // SIGINT is Postgres's fast shutdown: SIGTERM would wait for clients to leave.
        self.process.stop_by(Signal::INT);
    }

    /// Ends it and all its processes at once (SIGKILL): it recovers from its log at the next start.
    pub fn kill(&self) {
        self.process.kill();
    }

    /// Starts it again on its port after [`Postgres::stop`] or [`Postgres::kill`], with all that it had committed.
    pub fn start_again(&self) {
        self.process.start_again();
    }

    /// Ends it in good order and starts it again on its port.
    pub fn restart(&self) {
        self.stop();
        self.start_again();
    }

    /// Whether it was neither stopped nor killed.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.process.is_running()
    }

    /// Freezes it and all its processes (SIGSTOP): connections stay open and nobody answers.
    pub fn pause(&self) {
        self.process.pause();
    }

    /// Lets it go on after [`Postgres::pause`].
    pub fn resume(&self) {
        self.process.resume();
    }

    /// Starts a standby that streams from this server, and lets this one acknowledge nothing from here on that the standby does
    /// not have: whatever was acknowledged survives [`Postgres::promote`]. While the standby is away, commits wait.
    #[must_use]
    pub fn standby(&self) -> Self {
        let standby = launch(|data| backup(self.port(), data));
        self.await_standby();
        standby
    }

    /// Makes this server, which was stopped or killed, a standby of another that has taken its place: what it had is thrown away
    /// for a copy of the other's. The port stays, so that the two can change places again and again.
    pub fn follow(&self, primary: &Self) {
        let data = self.process.directory().join("data");
        fs::remove_dir_all(&data).expect("the directory is ours and nobody is in it");
        process::run(&mut backup(primary.port(), &data)).unwrap_or_else(|error| panic!("{error}"));
        self.start_again();
        primary.await_standby();
    }

    fn await_standby(&self) {
        self.sql(&format!(
            "alter system set synchronous_standby_names = '{STANDBY}'; select pg_reload_conf()"
        ));
        wait_for("a synchronous standby", || {
            (self.sql("select sync_state from pg_stat_replication").trim() == "sync").then_some(())
        });
    }

    /// Lets commits through again without a standby.
    pub fn forget_standby(&self) {
        self.sql("alter system reset synchronous_standby_names; select pg_reload_conf()");
    }

    /// Makes this standby a primary, and waits until it takes writes. The old primary must be gone before. It acknowledges by
    /// itself until it has a standby of its own.
    pub fn promote(&self) {
        // The copy of the old primary's configuration.
        self.forget_standby();
        self.sql("select pg_promote()");
        wait_for("a primary", || (self.sql("select pg_is_in_recovery()").trim() == "f").then_some(()));
    }
}

/// The name by which a primary knows its standby.
const STANDBY: &str = "standby";

/// Runs statements in a database, each in a transaction of its own, and returns their rows.
fn sql(url: &str, statements: &str) -> String {
    try_sql(url, statements).unwrap_or_else(|error| panic!("{error}"))
}

fn try_sql(url: &str, statements: &str) -> Result<String, String> {
    let mut psql = Command::new(binary("psql"));
    psql.args(["--no-psqlrc", "--quiet", "--no-align", "--tuples-only", "--set=ON_ERROR_STOP=1", url]);
    // Each option runs by itself: `create database` and `alter system` take no transaction around them.
    psql.args(statements.split("; ").map(|statement| format!("--command={statement}")));
    process::run(&mut psql)
}

fn launch(fill: impl Fn(&Path) -> Command) -> Postgres {
    // A primary is ready for connections, a standby for read-only connections.
    let process = Process::launch("postgres", "database system is ready to accept", |directory, port| {
        if let Some((user, group)) = server_user() {
            std::os::unix::fs::chown(directory, Some(user), Some(group))
                .expect("root may give a directory away");
        }
        let data = directory.join("data");
        process::run(&mut fill(&data)).unwrap_or_else(|error| panic!("{error}"));
        let mut command = words(&as_server("postgres"));
        command.extend(["-D".into(), data.into(), "-p".into(), port.to_string().into()]);
        let settings = [
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "max_connections=200",
            "wal_level=replica",
            "fsync=on",
            "lc_messages=C",
            // A standby that lost its primary looks for it again so often; commits wait for it.
            "wal_retrieve_retry_interval=100ms",
            // Every server may be somebody's standby one day.
            &format!("cluster_name={STANDBY}"),
        ];
        command.extend(settings.iter().flat_map(|setting| ["-c".into(), OsString::from(setting)]));
        command
    });
    Postgres { process, n_databases: AtomicU64::new(0) }
}

/// The command that copies a running server's data and makes the copy its standby.
fn backup(port: u16, data: &Path) -> Command {
    let mut backup = as_server("pg_basebackup");
    backup.args(["--host=127.0.0.1", "--username=postgres", "--wal-method=stream", "--write-recovery-conf"]);
    backup.args(["--checkpoint=fast", "--no-sync", "--port", &port.to_string(), "--pgdata"]).arg(data);
    backup
}

/// A program of Postgres, run as its own user where we are root, since it refuses to be that.
fn as_server(program: &str) -> Command {
    if server_user().is_none() {
        return Command::new(binary(program));
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--init-groups", "--"]).arg(binary(program));
    // The user may not be allowed to be where we are.
    command.current_dir("/");
    command
}

/// The program and its arguments.
fn words(command: &Command) -> Vec<OsString> {
    std::iter::once(command.get_program()).chain(command.get_args()).map(OsString::from).collect()
}

/// Numbers of the user `postgres` and its group, where we are root.
fn server_user() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let user = users.lines().find(|line| line.starts_with("postgres:"));
    // `postgres:x:104:110:…`
    let mut numbers =
        user.expect("the package postgresql makes a user `postgres`").split(':').skip(2).map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(user)), Some(Ok(group))) => Some((user, group)),
        _ => panic!("/etc/passwd has no numbers for the user `postgres`"),
    }
}

/// Where the program is: in the newest of Debian's directories for each version, else on the path.
fn binary(program: &str) -> PathBuf {
    static NEWEST: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
        let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        let version_of = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
        versions
            .map(|entry| entry.path())
            .filter(|path| {
                version_of(path).is_some_and(|version| version >= 14) && path.join("bin/initdb").exists()
            })
            .max_by_key(|path| version_of(path))
    });
    let on_path = || {
        let directories = env::var_os("PATH").unwrap_or_default();
        env::split_paths(&directories).map(|directory| directory.join(program)).find(|path| path.exists())
    };
    let debian = NEWEST.as_ref().map(|version| version.join("bin").join(program));
    debian.or_else(on_path).unwrap_or_else(|| panic!("no `{program}`: install Postgres 14 or newer"))
}
