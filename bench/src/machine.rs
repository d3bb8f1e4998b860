//! What is measured of a process, and on which core it runs.

use std::fs;
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use rustix::thread::{CpuSet, sched_setaffinity};

/// Clock ticks of `/proc/PID/stat` in a second: what Linux tells programs on every architecture (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

/// Seconds that a process that was asked to end may take, before it is killed.
const STOP_SECONDS: i64 = 20;

/// Where the measured process runs, and where its load.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Core {
    /// What is measured: the broker or a floor.
    Server,
    /// What drives it.
    Load,
}

/// Moves the calling thread, and what it starts from then on, to a core. Does nothing on a machine with a single one.
pub(crate) fn pin(core: Core) -> anyhow::Result<()> {
    let wanted = match core {
        Core::Server => 0,
        Core::Load => 1,
    };
    let mut set = CpuSet::new();
    set.set(wanted);
    match sched_setaffinity(None, &set) {
        // INVAL: there is no such core here, so both share one.
        Ok(()) | Err(rustix::io::Errno::INVAL) => Ok(()),
        Err(error) => Err(error).context("cannot choose the core to run on"),
    }
}

/// CPU seconds that a process has used, user and system, ended threads included. Exact to 10 ms.
pub(crate) fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("the measured process is gone")?;
    // The name stands in brackets and may hold spaces; utime and stime are the 12th and 13th field after it.
    let (_, fields) = stat.rsplit_once(')').context("/proc/PID/stat has no name")?;
    let mut times = fields.split_ascii_whitespace().skip(11).map(str::parse::<f64>);
    let (Some(Ok(user)), Some(Ok(system))) = (times.next(), times.next()) else {
        anyhow::bail!("/proc/PID/stat has no times");
    };
    Ok((user + system) / TICKS_PER_SECOND)
}

/// KiB of a process that are resident.
pub(crate) fn resident_kib(pid: u32) -> anyhow::Result<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Rss:"));
    let kib = line.and_then(|line| line.split_ascii_whitespace().next()).context("no Rss in smaps_rollup")?;
    Ok(kib.parse()?)
}

/// KiB that are resident once they stay the same and the process is quiet, or after 15 s as they are.
pub(crate) fn settled_kib(pid: u32) -> anyhow::Result<u64> {
    let began = Instant::now();
    let (mut kib, mut cpu) = (resident_kib(pid)?, cpu_seconds(pid)?);
    loop {
        pause(Duration::from_millis(500));
        let (kib_now, cpu_now) = (resident_kib(pid)?, cpu_seconds(pid)?);
        if kib_now.abs_diff(kib) <= 16 && cpu_now - cpu <= 0.02 || began.elapsed() > Duration::from_secs(15) {
            return Ok(kib_now);
        }
        (kib, cpu) = (kib_now, cpu_now);
    }
}

/// Asks a process of ours to end, and makes it.
pub(crate) fn stop(child: &mut Child) -> anyhow::Result<()> {
    if child.try_wait()?.is_some() {
        return Ok(());
    }
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("no process number")?;
    let descriptor = pidfd_open(pid, PidfdFlags::empty())?;
    kill_process(pid, Signal::TERM)?;
    // Readable once the process has ended.
    let timeout = Timespec { tv_sec: STOP_SECONDS, tv_nsec: 0 };
    let n_ended = poll(&mut [PollFd::new(&descriptor, PollFlags::IN)], Some(&timeout))?;
    if n_ended == 0 {
        child.kill()?;
    }
    child.wait()?;
    ensure!(n_ended > 0, "the process did not end within {STOP_SECONDS} s and was killed");
    Ok(())
}

/// Lets time pass between two looks at another process, which has no way to say that it has settled.
pub(crate) fn pause(time: Duration) {
    let until = Instant::now() + time;
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        std::thread::park_timeout(left);
    }
}

/// Open files that this process may hold must reach for that many connections.
pub(crate) fn check_open_files(n_connections: usize) -> anyhow::Result<()> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let allowed = limit.current.unwrap_or(u64::MAX);
    let needed = n_connections as u64 + 100;
    ensure!(allowed >= needed, "{needed} open files are needed and {allowed} allowed: raise `ulimit -n`");
    Ok(())
}
