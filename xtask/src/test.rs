//! Every test there is, and the counts.

use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::Result;

use crate::npm::Package;
use crate::processes::Limits;
use crate::{install, npm, processes, workspace};

/// What one runner counted.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Counts {
    passed: u64,
    /// Also what was skipped or left out: a test that does not run says nothing.
    failed: u64,
}

/// A test that hangs must not hold up whoever waits for the others.
const RUNNER: Limits = Limits { deadline: Duration::from_secs(15 * 60), grace: Duration::from_secs(10) };

/// Runs everything and prints `N passed, N failed` as the last line. Fails if a test failed or a runner counted nothing.
pub(crate) fn run() -> ExitCode {
    let mut total = Counts::default();
    if let Err(error) = run_all(&mut total) {
        eprintln!("{error:#}");
        total.failed += 1;
    }
    println!("{} passed, {} failed", total.passed, total.failed);
    if total.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run_all(total: &mut Counts) -> Result<()> {
    install::ensure()?;
    eprintln!("== build");
    workspace::build()?;
    let mut rust = workspace::cargo();
    rust.args(["test", "--workspace", "--locked", "--no-fail-fast"]);
    count("Rust", &mut rust, total);
    let broker = workspace::built()?.join("bongsu");
    for package in npm::packages()? {
        run_npm(&package, &broker, total);
    }
    Ok(())
}

/// Runs the package's `test` and every `test:…`; where there is none, what Node.js finds by itself.
fn run_npm(package: &Package, broker: &Path, total: &mut Counts) {
    let name = package.folder.display();
    eprintln!("== {name}: install");
    if let Err(error) = package.install() {
        eprintln!("{error:#}");
        total.failed += 1;
        return;
    }
    let is_test = |script: &&String| *script == "test" || script.starts_with("test:");
    let tests: Vec<&String> = package.scripts.iter().filter(is_test).collect();
    if tests.is_empty() {
        count(&name.to_string(), package.command("node", &["--test"]).env("BONGSU_BIN", broker), total);
    }
    for script in tests {
        let mut npm = package.command("npm", &["run", "--silent", script]);
        count(&format!("{name}: {script}"), npm.env("BONGSU_BIN", broker), total);
    }
}

/// Runs one runner, shows what it prints and adds what it counts. A runner that ends badly has failed at least once.
fn count(name: &str, runner: &mut Command, total: &mut Counts) {
    eprintln!("== {name}");
    let mut counts = Counts::default();
    let mut counted = false;
    let ended = processes::run(runner, RUNNER, |line| {
        println!("{line}");
        if let Some(more) = counts_of(line) {
            counted = true;
            counts.passed += more.passed;
            counts.failed += more.failed;
        }
    });
    let problem = match ended {
        Err(error) => Some(format!("{error:#}")),
        Ok(ended) if ended.late => {
            Some(format!("did not end within {} minutes", RUNNER.deadline.as_secs() / 60))
        }
        Ok(ended) if !ended.left.is_empty() => {
            Some(format!("left processes behind: {}", ended.left.join(", ")))
        }
        Ok(_) if !counted => Some("counted no test".to_owned()),
        Ok(ended) if !ended.status.success() && counts.failed == 0 => {
            Some(format!("ended with {}", ended.status))
        }
        Ok(_) => None,
    };
    if let Some(problem) = problem {
        eprintln!("{name}: {problem}");
        counts.failed += 1;
    }
    total.passed += counts.passed;
    total.failed += counts.failed;
}

/// What a line adds, if it is one of a summary.
fn counts_of(line: &str) -> Option<Counts> {
    rust_counts(line).or_else(|| node_counts(line)).or_else(|| maven_counts(line))
}

/// `test result: ok. 16 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.05s`
fn rust_counts(line: &str) -> Option<Counts> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let number = |name: &str| {
        let part = counts.split("; ").find_map(|part| part.strip_suffix(name))?;
        part.trim().parse::<u64>().ok()
    };
    Some(Counts {
        passed: number("passed")?,
        failed: number("failed")? + number("ignored")? + number("filtered out")?,
    })
}

/// `[INFO] Tests run: 7, Failures: 0, Errors: 0, Skipped: 0`: the last of them. Those of single classes go on with a time.
fn maven_counts(line: &str) -> Option<Counts> {
    let (_, counts) = line.split_once("] Tests run: ")?;
    let mut parts = counts.split(", ");
    let run: u64 = parts.next()?.parse().ok()?;
    let names = ["Failures: ", "Errors: ", "Skipped: "];
    let mut failed = 0;
    for name in names {
        failed += parts.next()?.strip_prefix(name)?.parse::<u64>().ok()?;
    }
    parts.next().is_none().then(|| Counts { passed: run.saturating_sub(failed), failed })
}

/// Node.js ends with a line for each of `pass`, `fail`, `cancelled`, `skipped`, `todo`: `# pass 5` (TAP) or `ℹ pass 5`.
fn node_counts(line: &str) -> Option<Counts> {
    let mut words = line.strip_prefix("# ").or_else(|| line.strip_prefix("ℹ "))?.split(' ');
    let (name, number, None) = (words.next()?, words.next()?.parse().ok()?, words.next()) else {
        return None;
    };
    match name {
        "pass" => Some(Counts { passed: number, failed: 0 }),
        "fail" | "cancelled" | "skipped" | "todo" => Some(Counts { passed: 0, failed: number }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_are_counted_and_other_lines_are_not() {
        let line =
            "test result: ok. 16 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.05s";
        for (line, expected) in [
            (line, Some((16, 0))),
            ("test result: FAILED. 1 passed; 2 failed; 3 ignored; 0 measured; 4 filtered out", Some((1, 9))),
            ("# pass 5", Some((5, 0))),
            ("ℹ fail 2", Some((0, 2))),
            ("# skipped 1", Some((0, 1))),
            ("[INFO] Tests run: 7, Failures: 0, Errors: 0, Skipped: 0", Some((7, 0))),
            ("[ERROR] Tests run: 7, Failures: 1, Errors: 2, Skipped: 1", Some((3, 4))),
            ("[INFO] Tests run: 3, Failures: 0, Errors: 0, Skipped: 0, Time elapsed: 1.5 s -- in a.B", None),
            ("# tests 8", None),
            ("# pass 5 of 6", None),
            ("test a ... ok", None),
            ("", None),
        ] {
            let expected = expected.map(|(passed, failed)| Counts { passed, failed });
            assert_eq!(counts_of(line), expected, "{line}");
        }
    }

    #[test]
    fn a_runner_that_counts_nothing_or_ends_badly_has_failed() {
        for (script, expected) in [
            ("echo '# pass 2'", (2, 0)),
            ("echo '# pass 2'; exit 1", (2, 1)),
            ("echo '# fail 2'; exit 1", (0, 2)),
            ("true", (0, 1)),
        ] {
            let mut total = Counts::default();
            count(script, Command::new("sh").args(["-c", script]), &mut total);
            assert_eq!((total.passed, total.failed), expected, "{script}");
        }
    }
}
