//! What happened, line by line, and when.

use std::collections::VecDeque;
use std::fmt;
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// The lines that a run keeps: what came before a violation is what explains it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// The last so many.
    Last(usize),
    /// All.
    Everything,
    /// The last few, and every line is printed as it comes.
    Print,
}

/// The trace of a run. Holds the virtual time, too: whoever notes something needs not know it.
#[derive(Debug)]
pub(crate) struct Trace {
    keep: Keep,
    now_ms: AtomicU64,
    lines: Mutex<Lines>,
}

#[derive(Debug)]
struct Lines {
    kept: VecDeque<String>,
    n_all: u64,
    /// Of every line, in order.
    digest: u64,
}

impl Trace {
    pub(crate) fn new(keep: Keep) -> Self {
        let lines = Lines { kept: VecDeque::new(), n_all: 0, digest: digest(FNV_OFFSET, b"") };
        Self { keep, now_ms: AtomicU64::new(0), lines: Mutex::new(lines) }
    }

    /// Virtual milliseconds since the run began.
    pub(crate) fn now(&self) -> u64 {
        self.now_ms.load(Ordering::Relaxed)
    }

    pub(crate) fn set_now(&self, now_ms: u64) {
        self.now_ms.store(now_ms, Ordering::Relaxed);
    }

    /// Adds a line.
    pub(crate) fn note(&self, what: fmt::Arguments<'_>) {
        let now = self.now();
        let mut line = String::new();
        // Writing to a string cannot fail.
        let _ = write!(line, "{:>5}.{:03} {what}", now / 1000, now % 1000);
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.digest = digest(digest(lines.digest, line.as_bytes()), b"\n");
        lines.n_all += 1;
        if self.keep == Keep::Print {
            // Whoever reads them may have seen enough.
            let _ = writeln!(std::io::stdout(), "{line}");
        }
        lines.kept.push_back(line);
        let n_max = match self.keep {
            Keep::Last(n) => n,
            Keep::Everything => usize::MAX,
            Keep::Print => 0,
        };
        while lines.kept.len() > n_max {
            lines.kept.pop_front();
        }
    }

    /// The lines kept, how many there were, and a digest of all.
    pub(crate) fn take(&self) -> (String, u64, u64) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let text = lines.kept.drain(..).fold(String::new(), |text, line| text + &line + "\n");
        (text, lines.n_all, lines.digest)
    }
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a: short, and the same everywhere.
pub(crate) fn digest(state: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(state, |state, byte| (state ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The digest of some bytes alone.
pub(crate) fn digest_of(bytes: &[u8]) -> u64 {
    digest(FNV_OFFSET, bytes)
}
