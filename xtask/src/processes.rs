//! Runs a program to its end, with a deadline, and ends what it left behind.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal};

/// How a program ended.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    /// Whether it had to be ended at the deadline.
    pub(crate) late: bool,
    /// Names of the processes that it started and did not end. They are ended.
    pub(crate) left: Vec<String>,
}

/// How long a program may take.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    /// Until its end; then it is ended.
    pub(crate) deadline: Duration,
    /// From its end until that of everything it started. A browser takes a moment to put its helpers away.
    pub(crate) grace: Duration,
}

/// Runs the program and gives each line of its standard output to `line`, until it ends or the deadline comes.
pub(crate) fn run(command: &mut Command, limits: Limits, mut line: impl FnMut(&str)) -> Result<Ended> {
    static RUNS: AtomicU64 = AtomicU64::new(0);
    let number = format!("{}-{}", std::process::id(), RUNS.fetch_add(1, Ordering::Relaxed));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).env("XTASK_RUN", &number);
    let mut child = command.spawn().with_context(|| format!("{command:?} does not start"))?;
    let run = Run { mark: format!("XTASK_RUN={number}") };
    let lines = lines_of(&mut child);
    let end = Instant::now() + limits.deadline;
    let mut late = false;
    let status = loop {
        match lines.recv_timeout(TICK) {
            Ok(text) => line(&text),
            // A process that was left behind may hold the pipe open after the program's own end.
            Err(RecvTimeoutError::Timeout) => {
                if let Some(status) = child.try_wait()? {
                    break status;
                }
            }
            Err(RecvTimeoutError::Disconnected) => match child.try_wait()? {
                Some(status) => break status,
                None => thread::park_timeout(TICK),
            },
        }
        if !late && Instant::now() > end {
            late = true;
            // Also where there is no `/proc` to find its children in.
            child.kill()?;
            run.kill();
        }
    };
    Ok(Ended { status, late, left: end_left(&run, limits.grace) })
}

/// How often a silent program is looked at.
const TICK: Duration = Duration::from_millis(100);

/// Lines of the program's output, at most 64 ahead of whoever prints them.
fn lines_of(child: &mut Child) -> Receiver<String> {
    let (sender, receiver) = sync_channel(64);
    let output = child.stdout.take().expect("the output is piped");
    thread::spawn(move || {
        for line in BufReader::new(output).split(b'\n') {
            let Ok(line) = line else { return };
            if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Ends the run's processes that are still there, after a moment in which they may end themselves, and returns their names.
fn end_left(run: &Run, grace: Duration) -> Vec<String> {
    let end = Instant::now() + grace;
    let mut left = run.processes();
    while !left.is_empty() && Instant::now() < end {
        thread::park_timeout(TICK);
        left = run.processes();
    }
    // One of them may just be starting another.
    while !run.kill().is_empty() {
        thread::park_timeout(TICK);
    }
    left.into_iter().map(|(_, name)| name).collect()
}

/// What the processes of one run have in common: they inherited its mark, whatever group or session they made.
struct Run {
    mark: String,
}

impl Run {
    /// All living processes of the run with their names. Empty where there is no `/proc`.
    fn processes(&self) -> Vec<(Pid, String)> {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        entries
            .filter_map(|entry| {
                let pid = Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)?;
                // A process that has ended and that its parent did not look at yet has no environment.
                let environment = fs::read(entry.path().join("environ")).ok()?;
                let mut variables = environment.split(|byte| *byte == 0);
                let name = || fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
                variables
                    .any(|variable| variable == self.mark.as_bytes())
                    .then(|| (pid, name().trim().to_owned()))
            })
            .collect()
    }

    /// Ends them all and returns who there was.
    fn kill(&self) -> Vec<(Pid, String)> {
        let processes = self.processes();
        for (pid, _) in &processes {
            // It may have ended just now.
            let _ = rustix::process::kill_process(*pid, Signal::KILL);
        }
        processes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { deadline: Duration::from_secs(60), grace: Duration::from_secs(60) };

    fn sh(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn lines_and_status_come_through() {
        let mut lines = Vec::new();
        let ended =
            run(&mut sh("echo a; echo b; exit 3"), LIMITS, |line| lines.push(line.to_owned())).unwrap();
        assert_eq!((lines.join(","), ended.status.code(), ended.late), ("a,b".to_owned(), Some(3), false));
        assert!(ended.left.is_empty());
    }

    #[test]
    fn a_program_is_ended_at_its_deadline() {
        let ended =
            run(&mut sh("sleep 1000"), Limits { deadline: Duration::ZERO, ..LIMITS }, |_| {}).unwrap();
        assert!(ended.late && !ended.status.success());
    }

    #[test]
    fn what_a_program_leaves_behind_is_named_and_ended() {
        let mut pid = String::new();
        let limits = Limits { grace: Duration::ZERO, ..LIMITS };
        let ended = run(&mut sh("setsid sleep 1000 & echo $!"), limits, |line| pid = line.to_owned());
        assert_eq!(ended.unwrap().left, ["sleep"]);
        let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        assert!(state.is_empty() || state.contains(") Z "), "{state}");
    }
}
