//! Runs the public test suite of SockJS against the broker's own SockJS code, and judges its result.
//!
//! The suite is fetched from where its authors keep it, at one commit, and never changed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};

use crate::suite::{self, Python, Server};

/// Where the suite is.
const SUITE: &str = "https://github.com/sockjs/sockjs-protocol";

/// Its newest commit.
const COMMIT: &str = "fdf5b7d719de6bd74ea4aedd264f01814b4f226d";

/// Names a checkout of the suite, in the place of fetching it.
const SUITE_VARIABLE: &str = "SOCKJS_SUITE";

/// Names the interpreter where `python2.7` is not on the path.
const PYTHON_VARIABLE: &str = "SOCKJS_PYTHON";

/// What the suite imports: the last releases for CPython 2.7.
const PACKAGES: [&str; 3] = ["unittest2==1.1.0", "ws4py==0.6.0", "websocket-client==0.59.0"];

/// Its files with how many tests they have. Fewer mean that the suite stopped early.
const FILES: [(&str, usize); 2] = [("sockjs-protocol.py", 68), ("http-quirks.py", 1)];

/// Tests that fail, and why that is right; `docs/sockjs.md` says the same.
const FAILING: [(&str, &str); 1] = [(
    "test_haproxy",
    "it makes the handshake of a draft of WebSocket (hixie-76) that browsers gave up in 2011",
)];

/// Fetches the suite, runs it, and fails if another test than those failed.
///
/// # Errors
/// What is missing and what to do about it, or what failed.
pub(crate) fn run() -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask lies in the workspace")?;
    let folder = root.join("target/sockjs");
    fs::create_dir_all(&folder)?;
    let python = Python::find(PYTHON_VARIABLE, folder.join("python"))?;
    python.install("unittest2/__init__.py", &PACKAGES, &folder.join("install.log"))?;
    let checkout = match std::env::var_os(SUITE_VARIABLE) {
        Some(checkout) => PathBuf::from(checkout),
        None => fetch(folder.join("suite"))?,
    };
    let server = Server::start(&suite::build_example(root, "sockjs")?, "http://")?;
    for (file, n_tests) in FILES {
        let mut command = python.command();
        command.current_dir(&checkout).arg(file).arg("--verbose");
        command.env("PYTHONPATH", python.packages()).env("PYTHONDONTWRITEBYTECODE", "1");
        let output = command.env("SOCKJS_URL", server.url.trim_end_matches('/')).output()?;
        // unittest writes its report where others write their errors.
        let report = String::from_utf8_lossy(&output.stderr);
        fs::write(folder.join(format!("{file}.log")), &*report)?;
        let Verdict { n_run, failed } = judge(&report)?;
        println!("{file}: {} of {n_run} tests passed", n_run - failed.len());
        for name in &failed {
            let known = FAILING.iter().find(|(known, _)| known == name);
            let Some((_, reason)) = known else { bail!("{name} failed; see {}", folder.display()) };
            println!("  {name} failed: {reason}");
        }
        ensure!(n_run == n_tests, "{n_run} of {n_tests} tests of {file} were run");
    }
    Ok(())
}

/// Gets the suite, once.
fn fetch(checkout: PathBuf) -> anyhow::Result<PathBuf> {
    let git = |arguments: &[&str]| -> anyhow::Result<()> {
        let status = Command::new("git").args(arguments).status().context("git does not start")?;
        ensure!(
            status.success(),
            "git {} failed: get {SUITE} at {COMMIT} by hand and name its folder in {SUITE_VARIABLE}",
            arguments.join(" ")
        );
        Ok(())
    };
    let folder = checkout.display().to_string();
    if !checkout.join(".git").exists() {
        git(&["clone", "--quiet", SUITE, &folder])?;
    }
    git(&["-C", &folder, "checkout", "--quiet", COMMIT])?;
    Ok(checkout)
}

/// What the suite says of itself.
#[derive(Debug, PartialEq, Eq)]
struct Verdict {
    n_run: usize,
    failed: Vec<String>,
}

fn judge(report: &str) -> anyhow::Result<Verdict> {
    let n_run = report.lines().find_map(|line| line.strip_prefix("Ran ")?.split(' ').next()?.parse().ok());
    let failed = report.lines().filter_map(|line| {
        let name = line.strip_prefix("FAIL: ").or_else(|| line.strip_prefix("ERROR: "))?;
        Some(name.split(' ').next()?.to_owned())
    });
    Ok(Verdict { n_run: n_run.context("the suite did not end; see its log")?, failed: failed.collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_how_many_tests_ran_and_which_failed() {
        let report = "FAIL: test_a (__main__.A)\n---\nERROR: test_b (__main__.B)\n---\nRan 3 tests in 1s\n";
        let failed = vec!["test_a".to_owned(), "test_b".to_owned()];
        assert_eq!(judge(report).unwrap(), Verdict { n_run: 3, failed });
        assert!(judge("Traceback").is_err());
    }
}
