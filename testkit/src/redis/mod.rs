//! One Redis server.

pub(crate) mod cluster;
pub(crate) mod sentinel;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{self, Process};

/// A Redis server on the loopback interface. It keeps nothing on disk: a restart empties it.
pub struct Redis {
    process: Process,
    access: Access,
}

/// How one is let in.
struct Access {
    /// Options of `redis-cli`.
    cli: Vec<String>,
    has_tls: bool,
}

/// What a client of a server with TLS needs.
#[derive(Debug, Clone)]
pub struct Tls {
    /// The certificate, PEM, for `localhost` and `127.0.0.1`: self-signed, so it is the one to trust as well.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
}

impl Tls {
    fn in_directory(directory: &Path) -> Self {
        Self { certificate: directory.join("certificate.pem"), key: directory.join("key.pem") }
    }
}

impl Redis {
    /// Starts a server that lets everybody in.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a server with more options, each with its value as the next word: `["--requirepass", "secret"]`.
    #[must_use]
    pub fn start_with(options: &[&str]) -> Self {
        let cli = match options.iter().position(|option| *option == "--requirepass") {
            Some(at) => vec!["-a".to_owned(), options[at + 1].to_owned(), "--no-auth-warning".to_owned()],
            None => Vec::new(),
        };
        Self::launch(Access { cli, has_tls: false }, |directory, port| {
            let mut words = server(directory, port);
            words.extend(options.iter().map(OsString::from));
            words
        })
    }

    /// Starts a server with these users, each a rule of an ACL file: `["user default off", "user bongsu on >secret ~* &* +@all"]`.
    /// The first user with a password is the one that [`Redis::cli`] uses.
    #[must_use]
    pub fn start_with_users(rules: &[&str]) -> Self {
        let login = rules.iter().find_map(|rule| {
            let mut words = rule.split_whitespace().skip(1);
            Some((words.next()?, words.find_map(|word| word.strip_prefix('>'))?))
        });
        let cli = login.map_or_else(Vec::new, |(user, password)| {
            ["--user", user, "-a", password, "--no-auth-warning"].map(str::to_owned).to_vec()
        });
        Self::launch(Access { cli, has_tls: false }, |directory, port| {
            let file = directory.join("users.acl");
            fs::write(&file, rules.join("\n") + "\n").expect("the directory is ours");
            let mut words = server(directory, port);
            words.extend(["--aclfile".into(), file.into()]);
            words
        })
    }

    /// Starts a server that speaks TLS only. [`Redis::tls`] has the certificate to trust.
    #[must_use]
    pub fn start_with_tls() -> Self {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).expect("two names make a certificate");
        let cli = ["--tls", "--insecure"].map(str::to_owned).to_vec();
        Self::launch(Access { cli, has_tls: true }, |directory, port| {
            let tls = Tls::in_directory(directory);
            fs::write(&tls.certificate, made.cert.pem()).expect("the directory is ours");
            fs::write(&tls.key, made.signing_key.serialize_pem()).expect("the directory is ours");
            let mut words = server(directory, 0);
            words.extend(["--tls-port".into(), port.to_string().into()]);
            words.extend(["--tls-cert-file".into(), tls.certificate.clone().into()]);
            words.extend(["--tls-ca-cert-file".into(), tls.certificate.into()]);
            words.extend(["--tls-key-file".into(), tls.key.into()]);
            words.extend(["--tls-auth-clients", "no"].map(OsString::from));
            words
        })
    }

    fn launch(access: Access, words: impl Fn(&Path, u16) -> Vec<OsString>) -> Self {
        Self { process: Process::launch("redis", READY, words), access }
    }

    /// `redis://127.0.0.1:port`, or `rediss://` with TLS. Without user and password.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.access.has_tls { "rediss" } else { "redis" };
        format!("{scheme}://127.0.0.1:{}", self.port())
    }

    /// The port that it listens on, the same across restarts.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.process.port()
    }

    /// The number of its process, which a restart changes.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// The certificate of a server with TLS.
    #[must_use]
    pub fn tls(&self) -> Option<Tls> {
        self.access.has_tls.then(|| Tls::in_directory(self.process.directory()))
    }

    /// What it has logged since its last start.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Runs one command by `redis-cli` and returns what that prints: `redis.cli(&["CLIENT", "KILL", "TYPE", "pubsub"])`.
    ///
    /// # Panics
    /// Where the server answers with an error, or not at all.
    pub fn cli(&self, command: &[&str]) -> String {
        self.try_cli(command).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The same, for a server that may be away.
    ///
    /// # Errors
    /// What `redis-cli` says.
    pub fn try_cli(&self, command: &[&str]) -> Result<String, String> {
        let port = self.port().to_string();
        process::run(Command::new("redis-cli").args(["-e", "-p", &port]).args(&self.access.cli).args(command))
    }

    /// Ends it in good order (SIGTERM).
    pub fn stop(&self) {
        self.process.stop();
    }

    /// Ends it at once (SIGKILL).
    pub fn kill(&self) {
        self.process.kill();
    }

    /// Starts it again on its port after [`Redis::stop`] or [`Redis::kill`], empty.
    pub fn start_again(&self) {
        self.process.start_again();
    }

    /// Whether it was neither stopped nor killed. A server that ended by itself counts as running.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.process.is_running()
    }

    /// Ends it in good order and starts it again on its port, empty.
    pub fn restart(&self) {
        self.stop();
        self.process.start_again();
    }

    /// Freezes it (SIGSTOP): connections stay open and nobody answers.
    pub fn pause(&self) {
        self.process.pause();
    }

    /// Lets it go on after [`Redis::pause`].
    pub fn resume(&self) {
        self.process.resume();
    }
}

/// The log line of a server that serves.
const READY: &str = "Ready to accept connections";

/// The words that all servers here have in common.
fn server(directory: &Path, port: u16) -> Vec<OsString> {
    let mut words: Vec<OsString> =
        ["redis-server", "--bind", "127.0.0.1", "--save", ""].map(OsString::from).to_vec();
    words.extend(["--port".into(), port.to_string().into(), "--dir".into(), directory.into()]);
    words
}
