//! Runs the Autobahn test suite against the server's WebSocket wire and compares with the committed result.
//!
//! `wstest` ends with status 0 whatever it found, so the verdict is read from its report: a case that got worse than in
//! `docs/autobahn.json` fails, and so does any case that failed or is not implemented, blessed or not.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};

use crate::suite::{self, Python, Server};

/// The suite. It needs CPython 2.7, for which this is its last release.
const SUITE: &str = "autobahntestsuite==0.8.2";

/// Every section that tests a server: 8 has no cases, 11 does not exist.
const CASES: [&str; 11] = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "9.*", "10.*", "12.*", "13.*"];

/// How many cases those are. Fewer results mean that the suite stopped early.
const N_CASES: usize = 517;

/// The result that each run is compared with.
const GOLDEN: &str = "docs/autobahn.json";

/// Names the interpreter where `python2.7` is not on the path.
const PYTHON_VARIABLE: &str = "AUTOBAHN_PYTHON";

/// What to do with the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Fail if a case is worse than committed.
    Compare,
    /// Commit to the result, unless a case failed.
    Bless,
}

/// How a case went: its behavior, and how the connection was closed.
type Results = BTreeMap<CaseId, [String; 2]>;

/// A case's number, such as 6.4.3, in the order of its parts.
type CaseId = Vec<u32>;

/// Builds the echo server, lets the suite test it, and judges the report.
///
/// # Errors
///
/// What is missing or failed, and what to do about it; or which cases got worse.
pub(crate) fn run(mode: Mode) -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask lies in the workspace")?;
    let folder = root.join("target/autobahn");
    fs::create_dir_all(&folder)?;
    let python = Python::find(PYTHON_VARIABLE, folder.join("python"))?;
    python.install("autobahntestsuite/wstest.py", &[SUITE], &folder.join("install.log"))?;

    let server = Server::start(&suite::build_example(root, "echo")?, "ws://")?;
    let report = folder.join("report");
    let specification = folder.join("fuzzingclient.json");
    let contents = json!({
        "options": { "failByDrop": false },
        "outdir": report,
        "servers": [{ "agent": "bongsu", "url": server.url }],
        "cases": CASES,
        "exclude-cases": [],
    });
    fs::write(&specification, contents.to_string())?;
    if report.exists() {
        fs::remove_dir_all(&report)?;
    }
    println!("{N_CASES} cases against {}; progress in {}", server.url, folder.join("wstest.log").display());
    run_suite(&python, &specification, &folder.join("wstest.log"))?;
    drop(server);

    let results = read_report(&report.join("index.json"))?;
    print_summary(&results);
    judge(&results)?;
    let golden = root.join(GOLDEN);
    match mode {
        Mode::Bless => {
            fs::write(&golden, write_golden(&results)).with_context(|| format!("cannot write {GOLDEN}"))
        }
        Mode::Compare => compare(&read_golden(&golden)?, &results),
    }
}

fn run_suite(python: &Python, specification: &Path, log: &Path) -> anyhow::Result<()> {
    // The suite's dependencies share name spaces through `.pth` files, which `PYTHONPATH` alone would not read.
    const START: &str = "import site, sys; path = sys.argv.pop(1); sys.path.insert(0, path); \
                         site.addsitedir(path); from autobahntestsuite import wstest; wstest.run()";
    let file = File::create(log)?;
    let mut wstest = python.command();
    wstest.args(["-c", START]).arg(python.packages()).args(["-m", "fuzzingclient", "-s"]).arg(specification);
    let status = wstest.stdout(file.try_clone()?).stderr(file).status()?;
    ensure!(status.success(), "wstest stopped; see {}", log.display());
    Ok(())
}

/// How bad a behavior is; a larger number is worse.
fn rank(behavior: &str) -> u8 {
    match behavior {
        "OK" => 0,
        // The specification leaves open what should happen.
        "INFORMATIONAL" => 1,
        // Right, but later than it could have been.
        "NON-STRICT" => 2,
        "UNIMPLEMENTED" => 3,
        _ => 4,
    }
}

fn read_report(path: &Path) -> anyhow::Result<Results> {
    let text = fs::read(path).context("wstest wrote no report")?;
    let report: Value = serde_json::from_slice(&text)?;
    parse_results(&report["bongsu"])
}

fn read_golden(path: &Path) -> anyhow::Result<Results> {
    let text =
        fs::read(path).with_context(|| format!("{GOLDEN} is missing: run `cargo xtask autobahn --bless`"))?;
    parse_results(&serde_json::from_slice(&text)?)
}

fn parse_results(cases: &Value) -> anyhow::Result<Results> {
    let parse = |(case, result): (&String, &Value)| {
        let id = case.split('.').map(str::parse).collect::<Result<CaseId, _>>()?;
        let field = |name| {
            result[name].as_str().map(str::to_owned).with_context(|| format!("case {case} has no {name}"))
        };
        Ok((id, [field("behavior")?, field("behaviorClose")?]))
    };
    cases.as_object().context("a result is an object of cases")?.iter().map(parse).collect()
}

/// One line per case, so that a change shows as one line.
fn write_golden(results: &Results) -> String {
    let line = |(id, [behavior, close]): (&CaseId, &[String; 2])| {
        format!("  \"{}\": {{\"behavior\": \"{behavior}\", \"behaviorClose\": \"{close}\"}}", dotted(id))
    };
    let lines: Vec<String> = results.iter().map(line).collect();
    format!("{{\n{}\n}}\n", lines.join(",\n"))
}

fn dotted(id: &CaseId) -> String {
    id.iter().map(u32::to_string).collect::<Vec<_>>().join(".")
}

fn print_summary(results: &Results) {
    let mut counts = BTreeMap::new();
    for (id, [behavior, close]) in results {
        *counts.entry((rank(behavior).max(rank(close)), behavior, close)).or_insert(0) += 1;
        if rank(behavior).max(rank(close)) > 0 {
            println!("{:8} {behavior}, close {close}", dotted(id));
        }
    }
    for ((_, behavior, close), count) in counts {
        println!("{count:4} cases {behavior}, close {close}");
    }
}

/// What no result may have, whatever is committed.
fn judge(results: &Results) -> anyhow::Result<()> {
    let failed =
        results.values().flatten().filter(|behavior| rank(behavior) >= rank("UNIMPLEMENTED")).count();
    ensure!(failed == 0, "{failed} behaviors failed or are not implemented");
    ensure!(results.len() == N_CASES, "{} of {N_CASES} cases were run", results.len());
    Ok(())
}

fn compare(golden: &Results, results: &Results) -> anyhow::Result<()> {
    let is_worse = |id: &CaseId, committed: &[String; 2]| {
        results
            .get(id)
            .is_none_or(|result| result.iter().zip(committed).any(|(now, then)| rank(now) > rank(then)))
    };
    let worse: Vec<String> =
        golden.iter().filter(|(id, committed)| is_worse(id, committed)).map(|(id, _)| dotted(id)).collect();
    if !worse.is_empty() {
        bail!("worse than in {GOLDEN}: {}", worse.join(", "));
    }
    println!("nothing is worse than in {GOLDEN}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results(cases: &[(&str, &str, &str)]) -> Results {
        let cases = cases.iter().map(|(case, behavior, close)| {
            ((*case).to_owned(), json!({ "behavior": behavior, "behaviorClose": close, "duration": 1 }))
        });
        parse_results(&Value::Object(cases.collect())).unwrap()
    }

    #[test]
    fn a_result_survives_its_file() {
        let written =
            results(&[("10.1.1", "OK", "OK"), ("9.1.2", "NON-STRICT", "OK"), ("9.1.10", "OK", "FAILED")]);
        let text = write_golden(&written);
        assert_eq!(parse_results(&serde_json::from_str(&text).unwrap()).unwrap(), written);
        assert_eq!(text.lines().count(), 5);
        assert!(
            text.find("9.1.2").unwrap() < text.find("9.1.10").unwrap(),
            "cases stand in their order: {text}"
        );
    }

    #[test]
    fn worse_and_missing_cases_are_named_and_better_ones_pass() {
        let golden = results(&[("1.1", "OK", "OK"), ("1.2", "NON-STRICT", "OK"), ("1.3", "OK", "OK")]);
        let better = results(&[("1.1", "OK", "OK"), ("1.2", "OK", "OK"), ("1.3", "OK", "OK")]);
        compare(&golden, &better).unwrap();
        let worse = results(&[("1.1", "OK", "UNCLEAN"), ("1.2", "NON-STRICT", "OK")]);
        let error = compare(&golden, &worse).unwrap_err().to_string();
        assert_eq!(error, "worse than in docs/autobahn.json: 1.1, 1.3");
    }

    #[test]
    fn failed_and_skipped_cases_cannot_be_blessed() {
        for behavior in ["UNIMPLEMENTED", "FAILED", "WRONG CODE", "something new"] {
            assert!(judge(&results(&[("1.1", "OK", behavior)])).unwrap_err().to_string().contains("failed"));
        }
        assert_eq!(
            judge(&results(&[("1.1", "OK", "OK")])).unwrap_err().to_string(),
            "1 of 517 cases were run"
        );
    }
}
