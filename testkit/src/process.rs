//! One program that serves on a port, and the watchdog that ends it.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, Signal};

use crate::ports::free_port;
use crate::wait_for;

/// A program that serves on a port: its command, its directory, and the process while it runs.
///
/// Redis and Postgres have handles of their own; this one is for whatever else a test runs beside them, such as a node. Methods
/// panic where what they did does not happen within a minute.
///
/// The process is a child of a small shell, which ends it and removes the directory when its standard input ends. That pipe ends
/// with this process, whatever ends it, and whether or not anything was dropped before.
pub struct Process {
    name: String,
    port: u16,
    directory: PathBuf,
    /// A line of the server's log that holds this says that it serves.
    ready: String,
    watchdog: Mutex<Watchdog>,
}

struct Watchdog {
    shell: Child,
    answers: BufReader<ChildStdout>,
    /// Bytes of the log that earlier processes wrote.
    log_before: u64,
    /// The server, from its start until it was reaped. The shell reaps it only when asked, so the number names nobody else.
    server: Option<Pid>,
}

/// `start` answers with the process's number, `kill` with `ended`. `kill` stops the server first, such that it cannot make a
/// child that the scan of `/proc` misses; its children (Postgres has one per connection) would live on without it.
const SCRIPT: &str = r#"
directory=$1; log=$2; shift 2
trap '' INT HUP
# Whoever asked may be gone before the answer; the server still has to be ended then.
trap : PIPE
server=
end() {
    [ -n "$server" ] || return 0
    kill -STOP "$server"
    children=
    for stat in /proc/[0-9]*/stat; do
        read -r child name state parent rest <"$stat" && [ "$parent" = "$server" ] && children="$children $child"
    done
    kill -KILL "$server" $children
    wait "$server"
    server=
} 2>/dev/null
while read -r word; do
    case $word in
        start) setsid "$@" </dev/null >>"$log" 2>&1 & server=$!; echo "$server" ;;
        kill) end; echo ended ;;
    esac
done
end
rm -rf "$directory" 2>/dev/null || { sleep 1; rm -rf "$directory"; }
"#;

impl Process {
    /// Starts a program on a free port, in a directory of its own, and waits until it serves.
    ///
    /// `prepare` fills the directory and says what to run there; it is asked again where somebody else took the port meanwhile.
    /// A line of what the program prints, on either output, holds `ready` once it serves.
    pub fn launch(name: &str, ready: &str, prepare: impl Fn(&Path, u16) -> Vec<OsString>) -> Self {
        loop {
            let prefix = format!("bongsu-{name}-");
            let made = tempfile::Builder::new().prefix(&prefix).tempdir();
            // The watchdog removes it.
            let directory = made.unwrap_or_else(|error| panic!("a temporary directory: {error}")).keep();
            let port = free_port();
            let command = prepare(&directory, port);
            let watchdog = Mutex::new(Watchdog::new(&directory, &command));
            let process = Self { name: name.to_owned(), port, directory, ready: ready.to_owned(), watchdog };
            if process.try_start() {
                return process;
            }
        }
    }

    /// Starts it. `false`: its port is taken, and it is not running.
    fn try_start(&self) -> bool {
        let pid = self.watchdog().start(&self.directory);
        let mut taken = false;
        wait_for(&format!("start of {}", self.name), || {
            let log = self.log();
            if !has_ended(pid) {
                return log.contains(&self.ready).then_some(());
            }
            taken = ["Address already in use", "address already in use", "Failed listening on port"]
                .iter()
                .any(|text| log.contains(text));
            assert!(taken, "{} does not start:\n{log}", self.name);
            Some(())
        });
        if taken {
            self.watchdog().kill();
        }
        !taken
    }

    /// Starts it again on its port after [`Process::stop`] or [`Process::kill`], and waits until it serves.
    pub fn start_again(&self) {
        // The kernel may hold a port for a moment after its owner's end.
        wait_for("the port to be free again", || self.try_start().then_some(()));
    }

    /// Asks it to end by SIGTERM, and waits for that.
    pub fn stop(&self) {
        self.stop_by(Signal::TERM);
    }

    /// The same, by another signal.
    pub(crate) fn stop_by(&self, signal: Signal) {
        let Some(pid) = self.watchdog().server else { return };
        // It may have ended by itself.
        let _ = rustix::process::kill_process(pid, signal);
        wait_for(&format!("end of {}", self.name), || has_ended(pid).then_some(()));
        self.watchdog().kill();
    }

    /// Ends it and its children at once (SIGKILL).
    pub fn kill(&self) {
        let Some(server) = self.watchdog().server else { return };
        // Stopped first, so that it makes no more children. It may have ended by itself.
        let _ = rustix::process::kill_process(server, Signal::STOP);
        let children = children_of(server);
        self.watchdog().kill();
        // Postgres does not start while a process of its last life has its memory.
        wait_for(&format!("end of what {} had started", self.name), || {
            children.iter().all(|child| has_ended(*child)).then_some(())
        });
    }

    /// Freezes it and its children (SIGSTOP): connections stay open and nobody answers.
    pub fn pause(&self) {
        let server = self.pid();
        // The server first, so that it makes no more children.
        for pid in std::iter::once(server).chain(children_of(server)) {
            // A child may have ended just now.
            let _ = rustix::process::kill_process(pid, Signal::STOP);
            let is_still = || state_and_parent(pid).is_none_or(|(state, _)| matches!(state, 'T' | 'Z'));
            wait_for(&format!("pause of {}", self.name), || is_still().then_some(()));
        }
    }

    /// Lets it and its children go on.
    pub fn resume(&self) {
        let server = self.pid();
        for pid in children_of(server).into_iter().chain([server]) {
            let _ = rustix::process::kill_process(pid, Signal::CONT);
        }
    }

    /// The port of the loopback interface that it was given, the same across restarts.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether it was neither stopped nor killed. A program that ended by itself counts as running.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.watchdog().server.is_some()
    }

    /// The number of its process, which a restart changes.
    ///
    /// # Panics
    /// Where it is not running.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.pid().as_raw_nonzero().get().unsigned_abs()
    }

    fn pid(&self) -> Pid {
        self.watchdog().server.unwrap_or_else(|| panic!("{} is not running", self.name))
    }

    /// What it has printed since its last start.
    #[must_use]
    pub fn log(&self) -> String {
        let mut log = self.full_log();
        let before = usize::try_from(self.watchdog().log_before).unwrap_or(usize::MAX);
        log.split_off(log.floor_char_boundary(before))
    }

    /// What it has printed since its first start.
    #[must_use]
    pub fn full_log(&self) -> String {
        let log = fs::read(log_of(&self.directory)).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// Its directory.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    fn watchdog(&self) -> MutexGuard<'_, Watchdog> {
        // A test that panicked elsewhere has not broken it.
        self.watchdog.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watchdog {
    fn new(directory: &Path, command: &[OsString]) -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", SCRIPT, "testkit"]).arg(directory).arg(log_of(directory)).args(command);
        // Whoever ends a test by its process group, as `timeout` and a terminal do, must not end the watchdog with it.
        let mut shell = shell
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("sh: {error}"));
        let answers = BufReader::new(shell.stdout.take().expect("it is piped"));
        Self { shell, answers, log_before: 0, server: None }
    }

    fn start(&mut self, directory: &Path) -> Pid {
        assert!(self.server.is_none(), "the server is running");
        self.log_before = fs::metadata(log_of(directory)).map_or(0, |log| log.len());
        let answer = self.ask("start");
        let pid =
            answer.trim().parse().ok().and_then(Pid::from_raw).expect("the watchdog answers with a number");
        self.server = Some(pid);
        pid
    }

    fn kill(&mut self) {
        if self.server.take().is_some() {
            self.ask("kill");
        }
    }

    fn ask(&mut self, word: &str) -> String {
        let input = self.shell.stdin.as_mut().expect("it is open until the drop");
        writeln!(input, "{word}").expect("the watchdog listens");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("the watchdog answers");
        answer
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        // Whoever drops the handle finds the server ended and its directory gone.
        let _ = self.shell.wait();
    }
}

/// Whether the process is gone or waits to be reaped.
fn has_ended(pid: Pid) -> bool {
    state_and_parent(pid).is_none_or(|(state, _)| state == 'Z')
}

fn children_of(parent: Pid) -> Vec<Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?))
        .filter(|pid| state_and_parent(*pid).is_some_and(|(_, its)| its == parent.as_raw_nonzero().get()))
        .collect()
}

/// `17 (name) S 1 …`: the name may hold anything, so what follows counts from its end.
fn state_and_parent(pid: Pid) -> Option<(char, i32)> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    let mut words = rest.split_whitespace();
    Some((words.next()?.chars().next()?, words.next()?.parse().ok()?))
}

fn log_of(directory: &Path) -> PathBuf {
    directory.join("log")
}

/// Runs a program to its end and returns what it printed.
///
/// # Errors
/// What it said where it failed.
pub(crate) fn run(command: &mut Command) -> Result<String, String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{command:?}: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    Err(format!("{command:?}: {}\n{text}{}", output.status, String::from_utf8_lossy(&output.stderr)))
}
